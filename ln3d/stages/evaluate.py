"""`eval`: a model, or another system's files, and real objects in; a report out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.backbones.images import ImageBackbone, load_backbone
from ln3d.backbones.perceptual import Lpips, load_lpips
from ln3d.data.subsets import read_object_list
from ln3d.errors import ArtifactError, LN3DError, RecipeError, WeightsError
from ln3d.generation.model import DEFAULT_MODEL, Generator
from ln3d.runtime import choose_device, tune_allocator
from ln3d.stages import image_scores, reconstruction_scores, shape_scores
from ln3d.stages.contestants import Contestant, Samples
from ln3d.stages.evaluation_reports import Sheet, keep_report, published, set_sheet, siblings
from ln3d.stages.evaluation_store import Store
from ln3d.stages.real_objects import has_real_objects, open_real_objects, pictures_of
from ln3d.stages.reference import RealObjects, Reference
from ln3d.stages.score_tables import overview, table
from ln3d.stages.submissions import MeshFolder, PictureFolder
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, MetTogether, Ranks, join

METRICS = (*image_scores.METRICS, *shape_scores.METRICS, *reconstruction_scores.METRICS)
_SCORING_VERSION = 2  # raise it when the same objects give another figure

SHIPPED_RUN = Path("runs") / "shipped"
"""Where the shipped model is evaluated unless a place is named: the package itself is not written to."""
_SHEET_ROWS, _SHEET_VIEWS = 8, 3  # of every split in the contact sheet of reconstructions


@dataclass(frozen=True)
class Networks:
    """How the frozen networks of the metrics are loaded."""

    image: Callable[[str, str], ImageBackbone] = load_backbone
    perceptual: Callable[[str], Lpips] = load_lpips


@dataclass(frozen=True)
class Request:
    """What is to be measured, and what with."""

    model: Path | None = None
    reference: Path | None = None
    meshes: Path | None = None
    renders: Path | None = None
    category: str | None = None
    count: int | None = None
    objects: Path | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    output: Path | None = None
    workspace: Path | None = None
    dry_run: bool = False
    networks: Networks = field(default_factory=Networks)
    ranks: Ranks = ALONE

    @property
    def submission(self) -> Path | None:
        """The folder of another system's files, where there is one."""
        return self.meshes or self.renders


def run(metric: str, model: Path | None, talk: Talk, **options: Any) -> dict[str, Any]:
    """Measure `metric` (or `all`) of a model, publish a report, and return it. `options` are those of `Request`.

    Real objects come from `reference`, by default the model's own folder: shards, or the reference set of a packed
    model. `meshes` or `renders` is a folder of another system's files in place of a model. Reports go to `output`, or
    below `workspace`, by default the reference's (`SHIPPED_RUN` for the shipped model). The value is under the
    metric's own name; made with a stand-in network, that name carries the network's. What was worked out is kept in
    `<workspace>/evaluation`, for other metrics and for going on. Under torchrun the processes divide the work, and the
    first one publishes.

    Raises RecipeError for a metric that does not exist, an unknown category, too few objects or files that do not fit
    the protocol, ArtifactError for a model without real objects or trained on others, WeightsError for a missing
    network, DivergedError where samples are empty.
    """
    request = Request(model=model, **options)
    if metric not in (*METRICS, "all"):
        raise RecipeError(f"there is no metric {metric}", f"choose one of: {', '.join(METRICS)}, all")
    with join(request.device) as (ranks, device):
        request = replace(request, device=str(device), ranks=ranks)
        return _run_all(request, talk) if metric == "all" else _run(metric, request, talk)


def _run(metric: str, request: Request, talk: Talk) -> dict[str, Any]:
    with request.ranks.together():
        _check(metric, request)
        reference = open_real_objects(_real_root(request), request.overrides, Store(_kept_in(request) / "evaluation"))
        reference.check_category(request.category)
    if metric not in reconstruction_scores.METRICS:
        return _compare(metric, request, reference, talk)
    if not isinstance(reference, Reference):
        raise ArtifactError(
            f"{metric} needs pictures of real objects, and {reference.artifact.path} has features and surfaces alone",
            "name a workspace with shards: --reference DIR, or --model DIR",
        )
    return _reconstruct(metric, request, reference, talk)


def _run_all(request: Request, talk: Talk) -> dict[str, Any]:
    """Run every metric that fits what is evaluated; say which ones lack something, and what.

    A full disk stops no other metric either: what all processes meet together, all of them go on from.
    """
    results: dict[str, dict[str, Any]] = {}
    lacking: dict[str, LN3DError | OSError] = {}
    met: list[MetTogether] = []
    for metric in METRICS:
        if request.submission is not None and metric in reconstruction_scores.METRICS:
            continue
        output = request.output and request.output / metric
        try:
            result = _run(metric, replace(request, output=output), talk)
            results[str(result["metric"])] = result
        except (LN3DError, OSError) as error:
            lacking[metric] = error
        except MetTogether as error:  # the first process says what it was
            met.append(error)
    if not results:
        raise next(iter([*lacking.values(), *met]))
    if not request.dry_run:
        for line in overview(results):
            talk.say(line)
    for name, lack in lacking.items():
        talk.say(f"no {name}: {lack}" + (f" ({hint})" if (hint := getattr(lack, "hint", "")) else ""))
    short = {name: {k: r.get(k) for k in (name, "unit", "interval", "report")} for name, r in results.items()}
    return {"metric": "all", "results": short, "lacking": {name: str(lack) for name, lack in lacking.items()}}


def _check(metric: str, request: Request) -> None:
    given = [name for name in ("model", "meshes", "renders") if getattr(request, name) is not None]
    if len(given) > 1 and request.submission is not None:
        raise RecipeError(f"--{' and --'.join(given)} name several systems", "evaluate them one after the other")
    if request.submission is not None and metric in reconstruction_scores.METRICS:
        raise RecipeError(f"{metric} measures how a model gives real objects back", "name a model: --model DIR")
    if request.objects is not None and metric not in reconstruction_scores.METRICS:
        raise RecipeError(f"{metric} is not measured on a list of objects", "leave out --objects")
    if request.count is not None and request.count < 1:
        raise RecipeError(f"--count {request.count} leaves nothing to measure", "give --count 1 or more")
    if request.count == 1 and metric not in reconstruction_scores.METRICS:
        raise RecipeError(f"{metric} of 1 sample has no meaning", "give --count 2 or more")


def _real_root(request: Request) -> Path:
    """Return the folder of the real objects."""
    root = request.reference or request.model
    if root is None and request.submission is not None and request.workspace is not None:
        root = request.workspace if has_real_objects(request.workspace) else None
    return root or DEFAULT_MODEL


def _kept_in(request: Request) -> Path:
    """Return the workspace that reports, and what was worked out, go to."""
    root = _real_root(request)
    return request.workspace or (SHIPPED_RUN if root == DEFAULT_MODEL else root.absolute())


def _reconstruct(metric: str, request: Request, reference: Reference, talk: Talk) -> dict[str, Any]:
    evaluation = reference.recipe.evaluation
    with request.ranks.together():
        generator = Generator.load(request.model, choose_device(request.device), sampling=False)
        vae = generator.artifacts["vae"]
        if not _trained_on(vae, reference):
            raise ArtifactError(
                f"the VAE {vae.path} was not trained on the shards {reference.artifact.path}",
                "evaluate with the shards it was trained on: its training objects are no others",
            )
        listed = read_object_list(request.objects) if request.objects is not None else None
        lpips = request.networks.perceptual(evaluation.lpips) if metric == "lpips" else None
    if metric != "lpips" and listed is not None and not request.dry_run:
        lpips = _lpips_beside(request, reference, talk)
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
            report["protocol"]["list"] = fingerprint(listed)
        return report, _reconstruction_sheet(found, by_group=listed is not None)

    inputs = {"shards": reference.artifact, "vae": vae}
    mark = [count, lpips and lpips.sha256, *([listed] if listed else [])]
    shown = count or sum(len(ids) for groups in (listed or {}).values() for ids in groups.values())
    return _report(title, request, reference, _name(request, reference), inputs, mark, measure, shown, talk)


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


def _compare(metric: str, request: Request, reference: RealObjects, talk: Talk) -> dict[str, Any]:
    evaluation = reference.recipe.evaluation
    backbone: ImageBackbone | None = None
    wanted = evaluation.backbone if metric in ("fid", "kid") else evaluation.clip
    with request.ranks.together():
        if metric in image_scores.METRICS:
            reference.check_network(wanted.partition("=")[0])
        if metric in image_scores.METRICS and not request.dry_run:
            backbone = request.networks.image(wanted, str(choose_device(request.device)))
        contestant, inputs = _contestant(request, reference)
    count = len(contestant.labels)
    title = image_scores.titled(metric, backbone.name if backbone else wanted.partition("=")[0])

    def measure() -> tuple[dict[str, Any], Sheet]:
        if backbone is None:
            device = choose_device(request.device)
            report, compared = shape_scores.shape_scores(
                metric, contestant, reference, request.category, talk, ranks=request.ranks, device=device
            )
        else:
            report, compared = image_scores.image_scores(
                metric, contestant, reference, request.category, backbone, talk, request.ranks
            )
        return report, set_sheet(contestant, compared)

    mark = [contestant.identity(), backbone and [backbone.name, backbone.sha256]]
    return _report(title, request, reference, contestant.name, inputs, mark, measure, count, talk)


def _contestant(request: Request, reference: RealObjects) -> tuple[Contestant, dict[str, Artifact]]:
    inputs = {reference.role: reference.artifact}
    if request.meshes is not None:
        return MeshFolder(request.meshes, reference, reference.store, request.count), inputs
    if request.renders is not None:
        return PictureFolder(request.renders, request.count), inputs
    generator = Generator.load(request.model, choose_device(request.device))
    vae = generator.artifacts["vae"]
    trained = _trained_on(vae, reference)
    if not trained and request.reference is None:
        raise ArtifactError(
            f"the VAE {vae.path} was not trained on the objects of {reference.artifact.path}",
            f"compare with them all the same: --reference {reference.artifact.path.parent}",
        )
    count = request.count or reference.recipe.evaluation.samples
    prompts = reference.prompts(request.category, count) if generator.conditional else [""] * count
    samples = Samples(_name(request, reference), generator, prompts, reference.store, trained)
    return samples, {**inputs, **generator.artifacts}


def _trained_on(vae: Artifact, reference: RealObjects) -> bool:
    trained_on = vae.manifest.inputs.get("shards")
    return trained_on is not None and trained_on.id == reference.shards_id


def _name(request: Request, reference: RealObjects) -> str:
    """Return what tables call the model: its folder's name where it is not that of the reference."""
    if request.model is None:
        return "shipped model"
    own = request.model.resolve() == reference.artifact.path.parent.resolve()
    return "model" if own else request.model.resolve().name


def _report(
    title: str,
    request: Request,
    reference: RealObjects,
    system: str,
    inputs: dict[str, Artifact],
    mark: object,
    measure: Callable[[], tuple[dict[str, Any], Sheet]],
    count: int,
    talk: Talk,
) -> dict[str, Any]:
    """Return the report that is there already, or measure and publish it; with --dry-run, only say which."""
    folder = _folder(title, request, system)
    ids = {name: artifact.id for name, artifact in inputs.items()}
    recipe = reference.recipe
    known = fingerprint(_SCORING_VERSION, title, request.category, recipe.evaluation, recipe.seed, ids, mark)
    if request.dry_run:
        plan = {"stage": "eval", "metric": title, "system": system, "category": request.category, "count": count}
        return {**plan, "report": str(folder), "inputs": ids, "cameras": _cameras(title, request, reference, talk)}
    with request.ranks.together():
        report = published(folder, known) if request.ranks.first else None
    report = request.ranks.of_first(report)
    fresh = report is None
    if report is None:
        tune_allocator()
        scores, sheet = measure()
        report = {"metric": title, "system": system, "category": request.category, **scores, "inputs": ids}
        with request.ranks.together():
            if request.ranks.first:
                keep_report(folder, report, sheet, recipe, inputs, known)
    for line in table(report, siblings(folder, report)):
        talk.say(line)
    talk.say(f"published {folder}" if fresh else f"{folder} is up to date")
    return {**report, "report": str(folder)}


def _cameras(title: str, request: Request, reference: RealObjects, talk: Talk) -> dict[str, Any]:
    """Return where a metric looks from, for whoever draws other systems' objects."""
    if title.partition("[")[0] in image_scores.METRICS:
        return pictures_of(reference, request.category, talk).facts()
    return reference.shape_cameras().facts()


def _folder(title: str, request: Request, system: str) -> Path:
    plain = title.replace("[", "-").replace("]", "").replace(":", "-").replace("/", "-")
    if request.output is not None:
        return request.output
    own = None if system == "model" else system.replace(" ", "-")
    return _kept_in(request) / "report" / "-".join(filter(None, (plain, request.category, own)))
