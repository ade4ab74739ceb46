"""Which clouds are nearest to which: searched by several processes and kept, so that a search goes on where it was."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int

from ln3d.geometry.chamfer import CloudSet
from ln3d.geometry.chamfer_minima import NearestSearch
from ln3d.runtime import own_cores
from ln3d.stages.evaluation_store import Store
from ln3d.training.ranks import ALONE, Ranks

_VERSION = 1  # raise it when the same clouds have other distances
_BLOCK = 32  # clouds that are searched for, and kept, together

Advance = Callable[[int], object]
"""Called with the number of clouds whose nearest one was found."""
Nearest = tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]


@dataclass(frozen=True)
class KeptSearches:
    """Searches of nearest clouds, divided among the processes of `ranks`; what is found goes to `store`."""

    store: Store
    ranks: Ranks = ALONE

    def minima(self, a: CloudSet, b: CloudSet, advance: Advance) -> Float[np.ndarray, "g r"]:
        """Return the least Chamfer distance of every row and column at its place, infinity elsewhere.

        The same set twice is searched for the nearest other cloud of each: then the least of every row alone.
        """
        search = cache(lambda: NearestSearch.between(a, b, workers=own_cores()))
        found = np.full((len(a), len(b)), np.inf)
        number, distance = self._nearest(a, b, search, advance)
        found[np.arange(len(a)), number] = distance
        if a is not b:
            number, distance = self._nearest(b, a, lambda: search().swapped(), advance)
            found[number, np.arange(len(b))] = distance
        return found

    def nearest(self, a: CloudSet, b: CloudSet) -> Nearest:
        """Return for every cloud of `a` the number of the nearest one of `b`, and its distance."""
        return self._nearest(a, b, lambda: NearestSearch.between(a, b, workers=own_cores()), lambda _: None)

    def share(self, *counts: int) -> int:
        """Return for how many clouds of sets of these sizes this process searches."""
        return sum(len(self.ranks.share(count, _BLOCK)) for count in counts)

    def _nearest(self, a: CloudSet, b: CloudSet, search: Callable[[], NearestSearch], advance: Advance) -> Nearest:
        within, of_a, of_b = a is b, _digests(a), _digests(b)
        share, found = self.ranks.share(len(a), _BLOCK), list[Nearest]()
        with self.ranks.together():
            for start in range(share.start, share.stop, _BLOCK):
                rows = range(start, min(start + _BLOCK, share.stop))
                key = [_VERSION, [of_a[i] for i in rows], of_b, rows.start if within else None]
                found.append(self._block(rows, key, search, advance))
        numbers, distances = zip(*self.ranks.gathered(found), strict=True)
        return np.concatenate(numbers), np.concatenate(distances)

    def _block(
        self, rows: Sequence[int], key: object, search: Callable[[], NearestSearch], advance: Advance
    ) -> Nearest:
        kept = self.store.kept_tensors("nearest", key)
        if kept is None:
            nearest = search().nearest(rows, workers=own_cores(), progress=lambda _pairs: advance(1))
            kept = dict(zip(("number", "distance"), map(torch.from_numpy, nearest), strict=True))
            self.store.keep_tensors("nearest", key, kept)
        else:
            advance(len(rows))
        return kept["number"].numpy(), kept["distance"].numpy()


def _digests(clouds: CloudSet) -> list[str]:
    return [hashlib.sha256(points.tobytes()).hexdigest() for points in clouds.points]
