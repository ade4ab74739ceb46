"""The distance of two sets of pictures in a network's features, fid or kid, and its interval over objects."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ln3d.data.shards import ObjectRecord
from ln3d.errors import RecipeError
from ln3d.metrics.frechet import frechet_distance
from ln3d.metrics.kernel_distance import kernel_distance
from ln3d.stages.looks import Looks

_GROUPS = 10  # of objects that are left out in turn, for the interval
_SUBSETS, _SUBSET_SIZE, _SUBSET_SEED = 100, 1000, 2020  # of kid, as torch-fidelity
_FEW_SUBSETS = 10  # for each part of the jackknife

Distance = Callable[[Looks, Looks], float]


def distances(metric: str, ours: Looks, theirs: Looks, records: Sequence[ObjectRecord]) -> dict[str, Any]:
    """Return the distance `metric`, fid or kid, to all objects with its interval, and to the held-out ones.

    KID is in percent, and says how large its subsets were. Raises RecipeError where so few pictures are left of a side
    that there is no interval.
    """
    _check_left(metric, ours, theirs)
    measure: Distance = _frechet if metric == "fid" else _kernel
    value = measure(ours, theirs)
    reach = 1.96 * _jackknife_error(_frechet if metric == "fid" else _few_kernels, ours, theirs)
    low = max(value - reach, 0.0) if metric == "fid" else value - reach
    details: dict[str, Any] = {"all": {"value": value, "low": low, "high": value + reach, "count": len(theirs)}}
    unseen = [i for i, record in enumerate(records) if record.split == "test"]
    if len(unseen) >= 2:
        seen = theirs.chosen(unseen)
        details["held_out"] = {"value": measure(ours, seen), "count": len(unseen)}
        if metric == "kid":
            details["held_out"]["subset_size"] = _subset_size(ours, seen)
    if metric == "kid":
        details["all"]["subset_size"] = _subset_size(ours, theirs)
    return details


def distance_protocol(metric: str, details: dict[str, Any]) -> dict[str, Any]:
    """Return how fid or kid was worked out, as it was: `details` are those of `distances`."""
    over_objects = f"95 %, jackknife: {_GROUPS} groups of objects left out in turn"
    if metric == "fid":
        return {"statistics": "mean and covariance over all pictures", "interval": over_objects}
    return {
        "kernel": "(x.y / d + 1)^3, unbiased",
        "subsets": _SUBSETS,
        "subset_size": details["all"]["subset_size"],
        "subset_seed": _SUBSET_SEED,
        "interval": f"{over_objects}, {_FEW_SUBSETS} subsets each",
    }


def _jackknife_error(measure: Distance, ours: Looks, theirs: Looks) -> float:
    """Return the standard error of a distance by leaving out a tenth of the objects in turn (Kott 2001).

    A bootstrap would draw objects twice, and a distance between distributions takes doubles for a difference.
    """
    groups, left = _groups(ours, theirs), list[float]()
    of_ours, of_theirs = (_in_turn(looks, groups) for looks in (ours, theirs))
    for group in range(groups):
        left.append(measure(ours.chosen(of_ours != group), theirs.chosen(of_theirs != group)))
    return float(np.sqrt((groups - 1) * np.var(left)))


def _check_left(metric: str, ours: Looks, theirs: Looks) -> None:
    """Raise RecipeError where leaving out a group of objects leaves fewer than two pictures: one has no spread."""
    for looks in (ours, theirs):
        pictures = np.bincount(_in_turn(looks, _groups(ours, theirs)), looks.seen.sum(axis=1))
        if pictures.sum() - pictures.max() < 2:
            raise RecipeError(
                f"{metric} of {len(ours.rows)} pictures against {len(theirs.rows)} has no interval",
                "compare more objects, or more views of each",
            )


def _groups(ours: Looks, theirs: Looks) -> int:
    return min(_GROUPS, len(ours), len(theirs))


def _in_turn(looks: Looks, groups: int) -> Int[np.ndarray, " n"]:
    """Return the group of every object, in whose turn it is left out."""
    turns: Int[np.ndarray, " n"] = np.arange(len(looks)) * groups // len(looks)
    return turns


def _frechet(ours: Looks, theirs: Looks) -> float:
    return frechet_distance(ours.rows, theirs.rows)


def _kernel(ours: Looks, theirs: Looks, subsets: int = _SUBSETS) -> float:
    size = _subset_size(ours, theirs)
    return 100 * kernel_distance(ours.rows, theirs.rows, subsets=subsets, subset_size=size, seed=_SUBSET_SEED).value


def _subset_size(ours: Looks, theirs: Looks) -> int:
    """Return how many pictures a subset has: as torch-fidelity, or all of the smaller side where it has fewer."""
    return min(_SUBSET_SIZE, len(ours.rows), len(theirs.rows))


def _few_kernels(ours: Looks, theirs: Looks) -> float:
    return _kernel(ours, theirs, _FEW_SUBSETS)
