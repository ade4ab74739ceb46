"""The smallest Chamfer distances of a whole matrix, exact, without computing most of it.

Coverage, minimum matching distance and nearest-neighbour accuracy need only the minima of the rows and columns.
From x to x' the distance to the nearest point of a cloud changes by at most |x - x'|, so a coarse grid of such
distances, made once per cloud, bounds every pair from below at the cost of two gathers. What the bound leaves over is
computed point by point and given up as soon as the partial sum is too large.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from ln3d.geometry.chamfer import CloudSet, Progress, in_threads, nearest_squared

_CELLS = 24  # per axis of the grid of bounds
_CHUNK = 512  # points between two looks at whether a pair can still be a minimum
_KEEP = 1 - 1e-5  # taken of every lower bound, so that rounding cannot make it exceed the distance


@dataclass(frozen=True)
class _Located:
    """A set of clouds on a grid: where the points are and how far every cell is from each cloud."""

    clouds: CloudSet
    cells: list[Int[np.ndarray, " _"]]
    offsets: list[Float[np.ndarray, " _"]]
    distances: list[Float[np.ndarray, " k"]]


def chamfer_minima(
    a: CloudSet, b: CloudSet, *, workers: int = 1, progress: Progress | None = None
) -> Float[np.ndarray, "g r"]:
    """Return the distances of `chamfer_matrix` where they are the least of their row or column; elsewhere maybe inf.

    The minima of every row and column and their positions are those of the full matrix, bit for bit, ties included.
    Pass the same set twice for the distances within it: then the diagonal counts as infinite.
    """
    if not len(a) or not len(b):
        return np.full((len(a), len(b)), np.inf)
    left, right = _locate(a, b, workers)
    bounds = np.empty((len(a), len(b)))
    in_threads(lambda i: _bound_row(left, right, i, bounds), range(len(a)), workers)
    if a is b:
        np.fill_diagonal(bounds, np.inf)
    search = _Search(left, right, bounds)
    likely = {(i, int(j)) for i, j in enumerate(bounds.argmin(axis=1))}
    likely |= {(int(i), j) for j, i in enumerate(bounds.argmin(axis=0))}
    in_threads(lambda pair: search.settle(*pair), sorted(likely), workers)

    def row(i: int) -> None:
        for j in np.argsort(bounds[i], kind="stable"):
            search.settle(i, int(j))
        if progress:
            progress(len(b))

    in_threads(row, range(len(a)), workers)
    return search.distances


class _Search:
    """The matrix while it is filled, and the least distance seen in each row and column so far."""

    def __init__(self, left: _Located, right: _Located, bounds: Float[np.ndarray, "g r"]) -> None:
        self.left, self.right, self.bounds = left, right, bounds
        self.distances = np.full(bounds.shape, np.inf)
        self.rows, self.columns = np.full(bounds.shape[0], np.inf), np.full(bounds.shape[1], np.inf)

    def settle(self, i: int, j: int) -> None:
        """Compute the distance of the pair, unless it is known or can be no minimum."""
        limit = max(self.rows[i], self.columns[j])
        if self.bounds[i, j] > limit or np.isinf(self.bounds[i, j]) or np.isfinite(self.distances[i, j]):
            return
        there, back = _point_bounds(self.left, i, self.right, j), _point_bounds(self.right, j, self.left, i)
        a, b = self.left.clouds, self.right.clouds
        first = _mean_below(a.points[i], b.trees[j], there, limit - float(back.mean()))
        if first is None:
            return
        second = _mean_below(b.points[j], a.trees[i], back, limit - first)
        if second is None:
            return
        self._record(i, j, first + second)
        if a is b:
            self._record(j, i, first + second)

    def _record(self, i: int, j: int, distance: float) -> None:
        self.distances[i, j] = distance
        # Two threads may write at once: an update lost leaves a limit too high, which costs time and not exactness.
        self.rows[i], self.columns[j] = min(self.rows[i], distance), min(self.columns[j], distance)


def _mean_below(
    points: Float[np.ndarray, "n 3"], tree: cKDTree, bounds: Float[np.ndarray, " n"], limit: float
) -> float | None:
    """Return the mean squared distance to the nearest point in `tree`, or None once it must exceed `limit`."""
    squared = bounds.astype(np.float64)
    for start in range(0, len(points), _CHUNK):
        squared[start : start + _CHUNK] = nearest_squared(points[start : start + _CHUNK], tree)
        if squared.mean() * _KEEP > limit:
            return None
    return float(squared.mean())


def _bound_row(left: _Located, right: _Located, i: int, bounds: Float[np.ndarray, "g r"]) -> None:
    for j in range(len(right.clouds)):
        there, back = _point_bounds(left, i, right, j), _point_bounds(right, j, left, i)
        bounds[i, j] = _KEEP * (there.mean(dtype=np.float64) + back.mean(dtype=np.float64))


def _point_bounds(a: _Located, i: int, b: _Located, j: int) -> Float[np.ndarray, " n"]:
    """Return lower bounds of the squared distances from the points of a_i to the cloud b_j."""
    distance = np.maximum(np.take(b.distances[j], a.cells[i]) - a.offsets[i], 0)
    return distance * distance


def _locate(a: CloudSet, b: CloudSet, workers: int) -> tuple[_Located, _Located]:
    """Return both sets on one grid around all their points."""
    points = a.points + b.points
    centres, cells = _occupied_cells(points)
    offsets = [np.linalg.norm(p - centres[c], axis=1).astype(np.float32) for p, c in zip(points, cells, strict=True)]
    trees = a.trees + (() if a is b else b.trees)
    distances: list[Float[np.ndarray, " k"]] = [np.empty(0, np.float32)] * len(trees)

    def measure(k: int) -> None:
        distances[k] = trees[k].query(centres)[0].astype(np.float32)

    in_threads(measure, range(len(trees)), workers)
    n = len(a)
    left = _Located(a, cells[:n], offsets[:n], distances[:n])
    return left, left if a is b else _Located(b, cells[n:], offsets[n:], distances[n:])


def _occupied_cells(
    points: tuple[Float[np.ndarray, "_ 3"], ...],
) -> tuple[Float[np.ndarray, "k 3"], list[Int[np.ndarray, " _"]]]:
    """Return the centres of the grid cells that hold points, and for every point the number of its cell."""
    origin = np.min([p.min(axis=0) for p in points], axis=0)
    extent = float((np.max([p.max(axis=0) for p in points], axis=0) - origin).max())
    spacing = max(extent, 1e-12) / _CELLS
    triples = [np.minimum((p - origin) / spacing, _CELLS - 1).astype(np.int64) for p in points]
    flat = [(t[:, 0] * _CELLS + t[:, 1]) * _CELLS + t[:, 2] for t in triples]
    occupied = np.unique(np.concatenate(flat))
    index = np.stack(np.unravel_index(occupied, (_CELLS,) * 3), axis=-1)
    return origin + (index + 0.5) * spacing, [np.searchsorted(occupied, f) for f in flat]
