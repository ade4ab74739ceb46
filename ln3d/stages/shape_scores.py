"""How generated shapes compare with real ones: COV, MMD and 1-NNA of points on their outer surfaces."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from ln3d.data.shards import ObjectRecord
from ln3d.geometry.chamfer import CloudSet, cloud_set
from ln3d.metrics.bootstrap import Estimate, bootstrap_mean
from ln3d.metrics.coverage import covered, matching_distances, own_kind
from ln3d.stages.contestants import SHOWN, Compared, Contestant, check_several
from ln3d.stages.reference import Cameras, RealObjects
from ln3d.stages.shape_distances import KeptSearches
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, Ranks

METRICS = ("cov", "mmd", "nna")
UNITS = {"cov": "%", "mmd": "x1e-3", "nna": "%"}
_SCALES = {"cov": 100.0, "mmd": 1000.0, "nna": 100.0}


def shape_scores(
    metric: str,
    contestant: Contestant,
    reference: RealObjects,
    category: str | None,
    talk: Talk,
    *,
    ranks: Ranks = ALONE,
    device: torch.device | None = None,
) -> tuple[dict[str, Any], Compared]:
    """Return the report of `metric` (cov, mmd or nna) without its artifact ids, and what was compared.

    COV and 1-NNA are in percent, MMD is printed x1e3. The processes of `ranks` divide the work; all return the same
    report, and the first one pictures. Points are compared on a CUDA `device`, otherwise by search trees on all cores.
    Raises RecipeError for too few objects or references, and DivergedError where fewer than two have a surface.
    """
    with ranks.together():
        check_several(metric, contestant)
        shapes, compared = reference.scanned(category), Compared()
        real = [reference.cloud(shapes[i]) for i in ranks.share(len(shapes))]
        made = list(contestant.clouds(reference, talk, ranks.share(len(contestant.labels), contestant.batch)))
    real, made = ranks.gathered(real), ranks.gathered(made)
    with ranks.together():
        ours = cloud_set(compared.sort(made, "samples have no surface"), device)
        theirs = cloud_set(real, device)
    seed, searches = reference.recipe.seed, KeptSearches(reference.store, ranks)
    details = _details(ours, theirs, seed, searches, talk)
    unseen = [i for i, record in enumerate(shapes) if record.split == "test"]
    if len(unseen) >= 2:
        details["held_out"] = _details(ours, _subset(theirs, unseen), seed, searches, Talk(0))
    details |= {
        "generated": len(ours),
        "failed": len(compared.failures),
        "reference": len(shapes),
        "highest_possible_cov": 100.0 * min(1.0, len(ours) / len(shapes)),
    }
    with ranks.together():
        if ranks.first:
            _take_pictures(compared, contestant, reference, ours, theirs, shapes)
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


def _take_pictures(
    compared: Compared,
    contestant: Contestant,
    reference: RealObjects,
    ours: CloudSet,
    theirs: CloudSet,
    shapes: Sequence[ObjectRecord],
) -> None:
    """Find the nearest training object of the first ones, and add a picture of each and of it from the first camera."""
    seen, shown = training(shapes), _subset(ours, range(min(SHOWN, len(ours))))
    number, _ = KeptSearches(reference.store).nearest(shown, _subset(theirs, seen))
    compared.nearest = [shapes[seen[j]] for j in number]
    cameras = reference.shape_cameras()
    first = Cameras(cameras.camera_to_world[:1], cameras.intrinsics[:1], cameras.size)
    compared.ours = [views[0] for views in contestant.pictures(first, Talk(0), compared.places[: len(shown)])]
    compared.theirs = [reference.portrait(record) for record in compared.nearest]


def _details(ours: CloudSet, theirs: CloudSet, seed: int, searches: KeptSearches, talk: Talk) -> dict[str, Any]:
    g, r = len(ours), len(theirs)
    with talk.progress("chamfer", searches.share(g, r, g, r)) as progress:
        between, within, among = (
            searches.minima(a, b, progress.advance) for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))
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
    points, trees = tuple(clouds.points[i] for i in chosen), tuple(clouds.trees[i] for i in chosen)
    return CloudSet(points, trees, clouds.chunk)


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
