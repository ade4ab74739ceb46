"""How well a model gives real objects back: `eval psnr`, `ssim` and `lpips`, of the first objects or of a list."""

from dataclasses import replace
from typing import Any

from ln3d.artifacts.manifest import fingerprint
from ln3d.backbones.perceptual import Lpips
from ln3d.data.subsets import read_object_list
from ln3d.errors import ArtifactError, RecipeError, WeightsError
from ln3d.generation.model import Generator
from ln3d.runtime import choose_device
from ln3d.stages import reconstruction_scores
from ln3d.stages.evaluation_question import Question
from ln3d.stages.evaluation_reports import Sheet
from ln3d.stages.evaluation_request import Request
from ln3d.stages.reference import Reference
from ln3d.talk import Talk

_SHEET_ROWS, _SHEET_VIEWS = 8, 3  # of every split in the contact sheet of reconstructions


def reconstruct(metric: str, request: Request, reference: Reference, talk: Talk) -> dict[str, Any]:
    """Return the report of psnr, ssim or lpips, with `--dry-run` the plan; raises as `evaluate.run`."""
    evaluation = reference.recipe.evaluation
    with request.ranks.together():
        generator = Generator.load(request.model, choose_device(request.device), sampling=False)
        vae = generator.artifacts["vae"]
        if not reference.trained(vae):
            raise ArtifactError(
                f"the VAE {vae.path} was not trained on the shards {reference.artifact.path}",
                "evaluate with the shards it was trained on: its training objects are no others",
            )
        listed = read_object_list(request.objects) if request.objects is not None else None
        lpips = request.networks.perceptual(evaluation.lpips) if metric == "lpips" else None
    if metric != "lpips" and listed is not None and not request.dry_run:
        lpips = _lpips_beside(request, reference, talk)
    digest = fingerprint(listed) if listed is not None else None
    count = request.count if listed else request.count or evaluation.objects
    title = f"lpips[{lpips.name}]" if metric == "lpips" and lpips is not None and lpips.name != "alex" else metric

    def measure() -> tuple[dict[str, Any], Sheet]:
        report, found = reconstruction_scores.reconstruction_scores(
            metric,
            generator.autoencoder,
            reference,
            request.category,
            count,
            talk,
            vae=vae.id,
            lpips=lpips,
            listed=listed,
            ranks=request.ranks,
        )
        report[title] = report.pop(metric)
        if listed is not None:
            report["protocol"]["list"] = digest
        return report, _reconstruction_sheet(found, by_group=listed is not None)

    inputs = {"shards": reference.artifact, "vae": vae}
    mark = [count, lpips and lpips.sha256, *([listed] if listed else [])]
    shown = count or sum(len(ids) for groups in (listed or {}).values() for ids in groups.values())
    system = request.model_name(reference)
    return Question(title, request, reference, system, inputs, mark, shown, digest).answer(measure, talk)


def _lpips_beside(request: Request, reference: Reference, talk: Talk) -> Lpips | None:
    """Return the network of lpips, which is measured beside other metrics of a list where every process has it."""
    evaluation, lpips, lack = reference.recipe.evaluation, None, None
    try:
        side = reconstruction_scores.compared_side(reference.shards.resolution, evaluation.resolution)
        reconstruction_scores.check_side("lpips", side)
        lpips = request.networks.perceptual(evaluation.lpips)
    except (RecipeError, WeightsError) as error:
        lack = f"no lpips: {error.message}" + (f" ({error.hint})" if error.hint else "")
    lacking = [reason for reason in request.ranks.gathered([lack]) if reason is not None]
    if lacking:
        talk.say(lacking[0])
        return None
    return lpips


def _reconstruction_sheet(found: list[reconstruction_scores.Reconstruction], by_group: bool = False) -> Sheet:
    """Return the first objects of every split, and for a list of objects a sheet with all of every group beside."""
    shown = [f for split in reconstruction_scores.SPLITS for f in _of_split(found, split)[:_SHEET_ROWS]]
    groups = sorted({f.group or f.record.category for f in found}) if by_group else []
    return replace(
        _pairs(shown),
        others={name: _pairs([f for f in found if name == (f.group or f.record.category)]) for name in groups},
    )


def _of_split(
    found: list[reconstruction_scores.Reconstruction], split: str
) -> list[reconstruction_scores.Reconstruction]:
    return [f for f in found if f.record.split == split]


def _pairs(shown: list[reconstruction_scores.Reconstruction]) -> Sheet:
    rows, labels = [], []
    for item in shown:
        pairs = zip(item.real[:_SHEET_VIEWS], item.ours[:_SHEET_VIEWS], strict=True)
        rows.append([picture for pair in pairs for picture in pair])
        labels.append(f"{item.record.name} ({item.record.split})  {item.scores['psnr']:.1f} dB")
    return Sheet(rows, labels, ["real", "reconstructed"] * (len(rows[0]) // 2))
