"""Lower bounds of Chamfer distances, much cheaper than the distances themselves (numpy).

From x to x' the distance to the nearest point of a cloud changes by at most |x - x'|. So the distances of one coarse
grid's cell centres, measured once per cloud, bound the distance of every point of every other cloud from below.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ln3d.geometry.chamfer import CloudSet, in_threads

KEEP = 1 - 1e-4
"""Taken of every sum of lower bounds, so that rounding cannot make it exceed the distance."""
_CELLS = 24  # per axis of the grid
_SLACK = 1e-6  # of the grid's side, added to offsets: distances are kept in single precision


@dataclass(frozen=True)
class Located:
    """Clouds on a grid: where the points are, by cell too, and how far every cell's centre is from each cloud."""

    clouds: CloudSet
    cells: list[Int[np.ndarray, " _"]]
    """The cell of every point."""
    offsets: list[Float[np.ndarray, " _"]]
    """The distance of every point from its cell's centre, or a little more."""
    occupied: list[Int[np.ndarray, " _"]]
    """The cells that hold points."""
    spreads: list[Float[np.ndarray, " _"]]
    """The mean offset in each of them."""
    shares: list[Float[np.ndarray, " _"]]
    """The share of the cloud's points in each of them."""
    distances: list[Float[np.ndarray, " k"]]
    """From every cell's centre to the nearest point."""


def located(a: CloudSet, b: CloudSet, workers: int) -> tuple[Located, Located]:
    """Return both sets on one grid around all their points; the same object twice where they are the same set."""
    if a is b:
        (both,) = _on_a_grid([a], workers)
        return both, both
    left, right = _on_a_grid([a, b], workers)
    return left, right


def pair_bound(a: Located, i: int, b: Located, j: int) -> float:
    """Return a lower bound of CD(a_i, b_j).

    It takes cells for points: max(d - o, 0)^2 is convex in the offset o, so that of the mean offset is no more than
    the mean over the points (Jensen).
    """
    return KEEP * (_cell_bound(a, i, b, j) + _cell_bound(b, j, a, i))


def point_bounds(a: Located, i: int, b: Located, j: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return lower bounds of the squared distances from the points of a_i to b_j, and guesses: the centres' own."""
    guess = np.take(b.distances[j], a.cells[i])
    lower = np.maximum(guess - a.offsets[i], 0)
    return lower * lower, guess * guess


def _cell_bound(a: Located, i: int, b: Located, j: int) -> float:
    lower = np.take(b.distances[j], a.occupied[i])
    lower -= a.spreads[i]
    np.maximum(lower, 0, out=lower)
    lower *= lower
    return float(lower @ a.shares[i])


def _on_a_grid(sets: list[CloudSet], workers: int) -> list[Located]:
    points = [cloud for clouds in sets for cloud in clouds.points]
    trees = [tree for clouds in sets for tree in clouds.trees]
    centres, cells, side = _occupied_cells(points)
    offsets: list[Float[np.ndarray, " _"]] = [np.empty(0, np.float32)] * len(points)
    distances: list[Float[np.ndarray, " k"]] = [np.empty(0, np.float32)] * len(points)

    def measure(n: int) -> None:
        offsets[n] = (np.linalg.norm(points[n] - centres[cells[n]], axis=1) + _SLACK * side).astype(np.float32)
        distances[n] = trees[n].query(centres)[0].astype(np.float32)

    in_threads(measure, range(len(points)), workers)
    grouped = [_grouped(*pair) for pair in zip(cells, offsets, strict=True)]
    occupied, spreads, shares = (list(column) for column in zip(*grouped, strict=True))
    every, first = (cells, offsets, occupied, spreads, shares, distances), 0
    found = []
    for clouds in sets:
        last = first + len(clouds)
        found.append(Located(clouds, *(column[first:last] for column in every)))
        first = last
    return found


def _grouped(
    cells: Int[np.ndarray, " n"], offsets: Float[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " u"], Float[np.ndarray, " u"], Float[np.ndarray, " u"]]:
    """Return the cells that hold points, the mean offset in each, rounded up, and the share of the points in it."""
    occupied, place, count = np.unique(cells, return_inverse=True, return_counts=True)
    spread = np.bincount(place, weights=offsets.astype(np.float64)) / count
    return (
        occupied,
        np.nextafter(spread.astype(np.float32), np.float32(np.inf)),
        (count / len(cells)).astype(np.float32),
    )


def _occupied_cells(
    points: list[Float[np.ndarray, "_ 3"]],
) -> tuple[Float[np.ndarray, "k 3"], list[Int[np.ndarray, " _"]], float]:
    """Return the centres of the grid's cells that hold points, for every point the number of its cell, and the side."""
    origin = np.min([p.min(axis=0) for p in points], axis=0)
    side = max(float((np.max([p.max(axis=0) for p in points], axis=0) - origin).max()), 1e-12)
    spacing = side / _CELLS
    triples = [np.minimum((p - origin) / spacing, _CELLS - 1).astype(np.int64) for p in points]
    flat = [(t[:, 0] * _CELLS + t[:, 1]) * _CELLS + t[:, 2] for t in triples]
    occupied = np.unique(np.concatenate(flat))
    index = np.stack(np.unravel_index(occupied, (_CELLS,) * 3), axis=-1)
    return origin + (index + 0.5) * spacing, [np.searchsorted(occupied, f) for f in flat], side
