"""The nearest clouds by Chamfer distance, exact, without computing most of the distances.

Coverage, minimum matching distance and nearest-neighbour accuracy ask of a whole matrix of distances only for the
least of every row and column. The rows are searched one by one, nearest candidates first by `pair_bound`; a pair is
computed point by point and given up as soon as what is known of it, a lower bound, exceeds the least distance found.
A row's answer does not depend on the others', so rows may be searched in any order, by any number of threads and
processes, and be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ln3d.geometry.chamfer import CloudSet, Progress, Tree, in_threads, nearest_squared
from ln3d.geometry.chamfer_bounds import KEEP, Located, located, pair_bound, point_bounds

_UNKNOWN = -1.0  # a bound that was not computed yet, and a true one


@dataclass
class NearestSearch:
    """Two sets of clouds, and what is known of the distances between them: lower bounds, and those that were computed.

    The same set twice is searched for the nearest other cloud: the diagonal counts as infinite.
    """

    left: Located
    right: Located
    bounds: Float[np.ndarray, "g r"]
    distances: Float[np.ndarray, "g r"]

    @classmethod
    def between(cls, a: CloudSet, b: CloudSet, *, workers: int = 1) -> "NearestSearch":
        """Prepare a search, which takes time in proportion to the number of clouds. Neither set may be empty."""
        left, right = located(a, b, workers)
        bounds = np.full((len(a), len(b)), _UNKNOWN)
        if a is b:
            np.fill_diagonal(bounds, np.inf)
        return cls(left, right, bounds, np.full(bounds.shape, np.inf))

    def swapped(self) -> "NearestSearch":
        """Return the search from the right set in the left one; both share what they find out."""
        return NearestSearch(self.right, self.left, self.bounds.T, self.distances.T)

    def nearest(
        self, rows: Sequence[int], *, workers: int = 1, progress: Progress | None = None
    ) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Return for some clouds on the left the number of the nearest one on the right, and its distance.

        Both are those of the full matrix, bit for bit, and the first one of equal distances. Where there is no other
        cloud the distance is infinite.
        """

        def search(i: int) -> None:
            self._search(i)
            if progress:
                progress(self.bounds.shape[1])

        in_threads(search, rows, workers)
        found = self.distances[list(rows)]
        number = found.argmin(axis=1)
        return number, found[np.arange(len(found)), number]

    # Threads write to the same arrays. What one overlooks of another's costs time and not exactness: a bound is a
    # bound, and a distance has one value, whoever computes it.

    def _search(self, i: int) -> None:
        self._bound(i)
        bounds = self.bounds[i].copy()  # as they were: another thread may raise one, and the order is of these
        least = float(self.distances[i].min())
        for j in np.argsort(bounds, kind="stable"):
            if bounds[j] > least or np.isinf(bounds[j]):
                return
            if np.isinf(self.distances[i, j]) and self.bounds[i, j] <= least:
                self._settle(i, int(j), least)
                least = float(self.distances[i].min())

    def _bound(self, i: int) -> None:
        for j in np.flatnonzero(self.bounds[i] == _UNKNOWN):
            self._note(self.bounds, i, int(j), pair_bound(self.left, i, self.right, int(j)))

    def _settle(self, i: int, j: int, limit: float) -> None:
        """Compute a distance, or give it up above `limit` and remember how far it came."""
        a, b = self.left.clouds, self.right.clouds
        there = _Half(a.points[i], b.trees[j], *point_bounds(self.left, i, self.right, j))
        back = _Half(b.points[j], a.trees[i], *point_bounds(self.right, j, self.left, i))
        while not (there.known and back.known):
            lower = KEEP * (there.mean + back.mean)
            if lower > limit:
                self._note(self.bounds, i, j, max(lower, float(self.bounds[i, j])))
                return
            there.advance(a.chunk)
            back.advance(b.chunk)
        self._note(self.distances, i, j, there.mean + back.mean)

    def _note(self, matrix: Float[np.ndarray, "g r"], i: int, j: int, value: float) -> None:
        matrix[i, j] = value
        if self.left is self.right:
            matrix[j, i] = value


class _Half:
    """One direction of a pair: the squared distance of every point, from below until it is known."""

    def __init__(
        self,
        points: Float[np.ndarray, "n 3"],
        tree: Tree,
        lower: Float[np.ndarray, " n"],
        guess: Float[np.ndarray, " n"],
    ) -> None:
        self.points, self.tree, self.squared = points, tree, lower.astype(np.float64)
        self.order = np.argsort(lower - guess)  # first those that are likely to raise the mean most
        self.done = 0

    @property
    def known(self) -> bool:
        return self.done >= len(self.order)

    @property
    def mean(self) -> float:
        return float(self.squared.mean())

    def advance(self, count: int) -> None:
        """Compute the next `count` points."""
        chosen = self.order[self.done : self.done + count]
        if len(chosen):
            self.squared[chosen] = nearest_squared(self.points[chosen], self.tree)
        self.done += count
