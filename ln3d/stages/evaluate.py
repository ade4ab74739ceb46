"""`eval`: a model, or another system's files, and real objects in; a report out."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ln3d.errors import ArtifactError, LN3DError, RecipeError
from ln3d.stages import image_scores, reconstruction_scores, shape_scores
from ln3d.stages.evaluate_reconstructions import reconstruct
from ln3d.stages.evaluate_samples import compare
from ln3d.stages.evaluation_request import Request, Subject
from ln3d.stages.evaluation_store import Store
from ln3d.stages.real_objects import open_real_objects
from ln3d.stages.reference import Reference
from ln3d.stages.score_tables import overview
from ln3d.talk import Talk
from ln3d.training.ranks import MetTogether, join

METRICS = (*image_scores.METRICS, *shape_scores.METRICS, *reconstruction_scores.METRICS)


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
        reference = open_real_objects(request.real_root, request.overrides, Store(request.kept_in / "evaluation"))
        reference.check_category(request.category)
    if metric not in reconstruction_scores.METRICS:
        return compare(metric, request, reference, talk)
    if not isinstance(reference, Reference):
        raise ArtifactError(
            f"{metric} needs pictures of real objects, and {reference.artifact.path} has features and surfaces alone",
            "name a workspace with shards: --reference DIR, or --model DIR",
        )
    return reconstruct(metric, request, reference, talk)


def _run_all(request: Request, talk: Talk) -> dict[str, Any]:
    """Run every metric that fits what is evaluated; say which ones lack something, and what.

    A full disk stops no other metric either: what all processes meet together, all of them go on from.
    """
    results: dict[str, dict[str, Any]] = {}
    lacking: dict[str, LN3DError | OSError] = {}
    met: list[MetTogether] = []
    for metric in METRICS:
        if metric in reconstruction_scores.METRICS and (request.submission is not None or request.of != "samples"):
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
    if request.of not in get_args(Subject):
        raise RecipeError(f"--of {request.of} is nothing of a model", f"choose one of: {', '.join(get_args(Subject))}")
    if request.of != "samples" and (request.submission is not None or metric in reconstruction_scores.METRICS):
        whose = "other systems' files" if request.submission is not None else metric
        raise RecipeError(f"--of {request.of} does not go with {whose}", "leave out --of")
    if request.objects is not None and metric not in reconstruction_scores.METRICS:
        raise RecipeError(f"{metric} is not measured on a list of objects", "leave out --objects")
    if request.count is not None and request.count < 1:
        raise RecipeError(f"--count {request.count} leaves nothing to measure", "give --count 1 or more")
    if request.count == 1 and metric not in reconstruction_scores.METRICS:
        raise RecipeError(f"{metric} of 1 sample has no meaning", "give --count 2 or more")
