"""Kept searches find the minima of all distances, in any number of blocks, and nothing is searched for twice."""

from pathlib import Path

import numpy as np
import pytest

from ln3d.geometry.chamfer import CloudSet, chamfer_matrix, cloud_set
from ln3d.geometry.chamfer_minima import NearestSearch
from ln3d.stages import shape_distances
from ln3d.stages.evaluation_store import Store
from ln3d.stages.shape_distances import KeptSearches


def _clouds(count: int, seed: int) -> CloudSet:
    """Return random boxes' points; the last cloud is a copy of the first."""
    rng = np.random.default_rng(seed)
    clouds = [rng.uniform(-1, 1, (40, 3)) * rng.uniform(0.1, 1, 3) for _ in range(count - 1)]
    return cloud_set([*clouds, clouds[0]])


@pytest.mark.parametrize("block", [1, 3, 32])
@pytest.mark.parametrize("within", [False, True])
def test_minima_are_those_of_all_distances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, within: bool
) -> None:
    monkeypatch.setattr(shape_distances, "_BLOCK", block)
    a = _clouds(7, 0)
    b = a if within else _clouds(5, 1)
    full = chamfer_matrix(a, b)
    if within:
        np.fill_diagonal(full, np.inf)
    advances = list[int]()
    found = KeptSearches(Store(tmp_path)).minima(a, b, advances.append)
    for axis in (1,) if within else (0, 1):
        np.testing.assert_array_equal(found.min(axis), full.min(axis))
        np.testing.assert_array_equal(found.argmin(axis), full.argmin(axis))
    assert sum(advances) == len(a) + (0 if within else len(b))
    assert block < 32 or len(list(tmp_path.rglob("*.safetensors"))) == (1 if within else 2)
    monkeypatch.setattr(NearestSearch, "between", None)  # what is kept needs no search, nor what a search needs
    np.testing.assert_array_equal(KeptSearches(Store(tmp_path)).minima(a, b, advances.append), found)
    assert sum(advances) == 2 * (len(a) + (0 if within else len(b)))


def test_another_cloud_is_another_search(tmp_path: Path) -> None:
    """A subset of what was searched has other nearest ones: none of the kept answers is taken for it."""
    a, b = _clouds(4, 2), _clouds(6, 3)
    searches = KeptSearches(Store(tmp_path))
    searches.minima(a, b, lambda _: None)
    fewer = CloudSet(b.points[1:5], b.trees[1:5], b.chunk)
    number, distance = searches.nearest(a, fewer)
    full = chamfer_matrix(a, fewer)
    np.testing.assert_array_equal(number, full.argmin(1))
    np.testing.assert_array_equal(distance, full.min(1))
