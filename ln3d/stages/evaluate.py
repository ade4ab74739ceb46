"""`eval`: a model and its shards in, a report out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ln3d.artifacts.manifest import MANIFEST_NAME, fingerprint
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, RecipeError
from ln3d.generation.model import DEFAULT_MODEL, Generator
from ln3d.report.sheets import contact_sheet
from ln3d.runtime import choose_device, tune_allocator
from ln3d.stages.reconstruction_scores import SPLITS, Reconstruction, reconstruction_scores
from ln3d.stages.score_tables import table
from ln3d.stages.shape_scores import Compared, sample_pictures, shape_scores
from ln3d.talk import Talk

METRICS = ("psnr", "cov", "mmd", "nna")
PLANNED = ("fid", "kid", "clip-i")
_SHEET_ROWS = 8  # of every split in the contact sheet
_SHEET_VIEWS = 3
_SHEET_SAMPLES = 16


@dataclass(frozen=True)
class Sheet:
    """Pictures of a report: rows of equal length, their labels, the headings of the columns."""

    rows: list[list[Tensor]]
    labels: list[str]
    columns: list[str]


def run(
    metric: str,
    model: Path | None,
    talk: Talk,
    *,
    category: str | None = None,
    count: int | None = None,
    device: str = "auto",
    output: Path | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Measure `metric` of the model against its shards, publish a report, and return it.

    The value is under the metric's own name. Raises RecipeError for a metric that is not built, an unknown category
    or too few samples, and ArtifactError for a model that has no shards or was trained on others.
    """
    _check_metric(metric)
    root = model or DEFAULT_MODEL
    workspace = Workspace(root)
    source = _shards_of(workspace, root, shipped=model is None)
    shards = ShardSet(source)
    check_category(shards, category)
    generator = Generator.load(model, choose_device(device), sampling=metric != "psnr")
    _check_lineage(source, generator.artifacts["vae"])
    count = _count(metric, count, generator.recipe)
    folder = output or workspace.path("report") / "-".join(filter(None, (metric, category)))
    plan = {"stage": "eval", "metric": metric, "category": category, "count": count, "report": str(folder)}
    if dry_run:
        return {**plan, "shards": source.id, "model": {k: a.id for k, a in generator.artifacts.items()}}
    tune_allocator()
    inputs = {"shards": source, **generator.artifacts}
    mark = fingerprint(plan["metric"], category, count, {name: artifact.id for name, artifact in inputs.items()})
    done = _published(folder, mark)
    if done is not None:
        for line in table(done):
            talk.say(line)
        talk.say(f"{folder} is up to date")
        return done
    report, sheet = _measure(metric, generator, shards, category, count, talk)
    references = {name: artifact.id for name, artifact in inputs.items()}
    report = {"metric": metric, "category": category, **report, "inputs": references}
    _publish(folder, report, sheet, generator, inputs, mark)
    for line in table(report):
        talk.say(line)
    talk.say(f"published {folder}")
    return {**report, "report": str(folder)}


def check_category(shards: ShardSet, category: str | None) -> None:
    """Raise RecipeError, listing those that exist, where no object of the shards is of `category`."""
    known = sorted({record.category for record in shards.objects})
    if category is not None and category not in known:
        raise RecipeError(f"there is no object of category {category}", f"choose one of: {', '.join(known) or 'none'}")


def _check_metric(metric: str) -> None:
    if metric in PLANNED:
        raise RecipeError(f"eval {metric} is not built yet", f"these work: {', '.join(METRICS)}")
    if metric not in METRICS:
        raise RecipeError(f"there is no metric {metric}", f"choose one of: {', '.join(METRICS)}")


def _shards_of(workspace: Workspace, root: Path, *, shipped: bool) -> Artifact:
    if root.is_dir() and not workspace.has("shards"):
        what = "the shipped model carries" if shipped else f"{root} has"
        raise ArtifactError(
            f"{what} no shards to compare with", "name a workspace that holds shards and a model: --model WORKSPACE"
        )
    return workspace.open("shards")


def _check_lineage(source: Artifact, vae: Artifact) -> None:
    trained_on = vae.manifest.inputs.get("shards")
    if trained_on is None or trained_on.id != source.id:
        raise ArtifactError(
            f"the VAE {vae.path} was not trained on the shards {source.path}",
            "evaluate with the shards it was trained on: its training objects are no others",
        )


def _count(metric: str, count: int | None, recipe: Recipe) -> int:
    default = recipe.evaluation.objects if metric == "psnr" else recipe.evaluation.samples
    if count is not None and count < 1:
        raise RecipeError(f"--count {count} leaves nothing to measure", "give --count 1 or more")
    return default if count is None else count


def _published(folder: Path, mark: str) -> dict[str, Any] | None:
    """Return the report in `folder` if it was made from the same inputs with the same options."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    artifact = open_artifact(folder, "report", verify=True)
    if artifact.manifest.fingerprint != mark:
        return None
    report: dict[str, Any] = json.loads(artifact.file("report.json").read_text(encoding="utf-8"))
    return {**report, "report": str(folder)}


def _measure(
    metric: str, generator: Generator, shards: ShardSet, category: str | None, count: int, talk: Talk
) -> tuple[dict[str, Any], Sheet]:
    if metric == "psnr":
        report, found = reconstruction_scores(generator.autoencoder, generator.recipe, shards, category, count, talk)
        return report, _reconstruction_sheet(found)
    report, compared = shape_scores(metric, generator, shards, category, count, talk)
    return report, _shape_sheet(generator, shards, compared)


def _reconstruction_sheet(found: list[Reconstruction]) -> Sheet:
    rows, labels = [], []
    for split in SPLITS:
        for item in [f for f in found if f.record.split == split][:_SHEET_ROWS]:
            pairs = zip(item.real[:_SHEET_VIEWS], item.ours[:_SHEET_VIEWS], strict=True)
            rows.append([picture for pair in pairs for picture in pair])
            labels.append(f"{item.record.name} ({split})  {item.scores['psnr']:.1f} dB")
    return Sheet(rows, labels, ["real", "reconstructed"] * (len(rows[0]) // 2))


def _shape_sheet(generator: Generator, shards: ShardSet, compared: Compared) -> Sheet:
    latents = compared.latents[:_SHEET_SAMPLES]
    ours = sample_pictures(generator, latents, shards)
    pictures = Pictures(shards)
    near = [torch.from_numpy(pictures.stack(r.index, [0])[0][0]) for r in compared.nearest[: len(latents)]]
    labels = [
        f"{prompt or 'no prompt'}  |  {record.name}"
        for prompt, record in zip(compared.prompts, compared.nearest, strict=True)
    ]
    return Sheet([list(pair) for pair in zip(ours, near, strict=True)], labels[: len(latents)], ["sample", "nearest"])


def _publish(
    folder: Path,
    report: dict[str, Any],
    sheet: Sheet,
    generator: Generator,
    inputs: dict[str, Artifact],
    mark: str,
) -> None:
    metric = report["metric"]
    details = {key: report[key] for key in ("metric", metric, "unit", "interval", "category")}
    with publish(
        folder, "report", recipe=generator.recipe, inputs=inputs, details=details, fingerprint=mark, replace=True
    ) as scratch:
        text = json.dumps(report, indent=1, allow_nan=False)
        (scratch / "report.json").write_text(text + "\n", encoding="utf-8")
        title = f"{metric} {report[metric]:.2f} {report['unit']}"
        contact_sheet(sheet.rows, sheet.labels, scratch / "contact.png", title=title, columns=sheet.columns)
