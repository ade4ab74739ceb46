"""How generated shapes compare with real ones: COV, MMD and 1-NNA of points on their outer surfaces."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from ln3d.data.shards import ObjectRecord
from ln3d.geometry.chamfer import CloudSet, cloud_set
from ln3d.geometry.chamfer_minima import chamfer_minima
from ln3d.metrics.bootstrap import Estimate, bootstrap_mean
from ln3d.metrics.coverage import covered, matching_distances, own_kind
from ln3d.runtime import available_cores
from ln3d.stages.contestants import SHOWN, Compared, Contestant
from ln3d.stages.reference import Cameras, RealObjects
from ln3d.talk import Talk

METRICS = ("cov", "mmd", "nna")
UNITS = {"cov": "%", "mmd": "x1e-3", "nna": "%"}
_SCALES = {"cov": 100.0, "mmd": 1000.0, "nna": 100.0}


def shape_scores(
    metric: str, contestant: Contestant, reference: RealObjects, category: str | None, talk: Talk
) -> tuple[dict[str, Any], Compared]:
    """Return the report of `metric` (cov, mmd or nna) without its artifact ids, and what was compared.

    COV and 1-NNA are in percent, MMD is printed x1e3. Raises RecipeError for too few references, and DivergedError
    where fewer than two objects have a surface.
    """
    shapes, seed, compared = reference.scanned(category), reference.recipe.seed, Compared()
    ours = cloud_set(compared.sort(contestant.clouds(reference, talk), "samples have no surface"))
    theirs = cloud_set([reference.cloud(record) for record in shapes])
    details = _details(ours, theirs, seed, talk)
    seen, shown = training(shapes), _subset(ours, range(min(SHOWN, len(ours))))
    near = chamfer_minima(shown, _subset(theirs, seen), workers=available_cores()).argmin(axis=1)
    compared.nearest = [shapes[seen[j]] for j in near]
    _take_pictures(compared, contestant, reference)
    unseen = [i for i, record in enumerate(shapes) if record.split == "test"]
    if len(unseen) >= 2:
        details["held_out"] = _details(ours, _subset(theirs, unseen), seed, Talk(0))
    details |= {
        "generated": len(ours),
        "failed": len(compared.failures),
        "reference": len(shapes),
        "highest_possible_cov": 100.0 * min(1.0, len(ours) / len(shapes)),
    }
    estimate = details[metric]
    report = {
        metric: estimate["value"],
        "unit": UNITS[metric],
        "interval": [estimate["low"], estimate["high"]],
        "details": details,
        "protocol": _protocol(contestant, reference, category),
    }
    return report, compared


def training(records: Sequence[ObjectRecord]) -> list[int]:
    """Return the places of the training objects, or all places where there is none."""
    return [i for i, record in enumerate(records) if record.split == "train"] or list(range(len(records)))


def _take_pictures(compared: Compared, contestant: Contestant, reference: RealObjects) -> None:
    """Add a picture of each object that is shown and of its nearest training object, from the first camera."""
    cameras = reference.shape_cameras()
    first = Cameras(cameras.camera_to_world[:1], cameras.intrinsics[:1], cameras.size)
    shown = compared.places[: len(compared.nearest)]
    looks = islice(contestant.pictures(first, Talk(0)), shown[-1] + 1)
    compared.ours = [views[0] for place, views in enumerate(looks) if place in shown]
    compared.theirs = [reference.portrait(record) for record in compared.nearest]


def _details(ours: CloudSet, theirs: CloudSet, seed: int, talk: Talk) -> dict[str, Any]:
    workers = available_cores()
    g, r = len(ours), len(theirs)
    with talk.progress("chamfer", g * r + g * g + r * r) as progress:
        between, within, among = (
            chamfer_minima(a, b, workers=workers, progress=progress.advance)
            for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))
        )
    values = {
        "cov": covered(between),
        "mmd": matching_distances(between),
        "nna": own_kind(within, between, among),
    }
    estimates: dict[str, Estimate] = {
        name: bootstrap_mean(value, seed=seed).scaled(_SCALES[name]) for name, value in values.items()
    }
    return {name: asdict(estimate) for name, estimate in estimates.items()}


def _subset(clouds: CloudSet, chosen: Sequence[int]) -> CloudSet:
    return CloudSet(tuple(clouds.points[i] for i in chosen), tuple(clouds.trees[i] for i in chosen))


def _protocol(contestant: Contestant, reference: RealObjects, category: str | None) -> dict[str, Any]:
    return {
        "distance": "squared L2 Chamfer, mean per point, both ways added",
        "points": reference.recipe.evaluation.points,
        "surface": "outer: first hits of the rays of all pixels of all views, thinned to even spacing",
        "normalisation": "bounding box centred, longest side to [-1, 1]",
        "cameras": reference.shape_cameras().facts(),
        "reference": reference.described(category),
        "interval": "95 % bootstrap over shapes",
        "seed": reference.recipe.seed,
        "evaluated": contestant.facts(),
    }
