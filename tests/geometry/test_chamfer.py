"""Chamfer distances against a brute-force double loop, closed forms and each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ln3d.geometry import chamfer_blocks, chamfer_minima
from ln3d.geometry.chamfer import CloudSet, Tree, chamfer_distance, chamfer_matrix, cloud_set, nearest_squared
from ln3d.geometry.chamfer_bounds import located, pair_bound, point_bounds
from ln3d.geometry.chamfer_minima import NearestSearch

_squared = nearest_squared  # as it is before a test replaces it


def brute_force(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, as slowly as it is written."""
    there = sum(min(float(((x - y) ** 2).sum()) for y in b) for x in a) / len(a)
    back = sum(min(float(((x - y) ** 2).sum()) for x in a) for y in b) / len(b)
    return there + back


def _boxes(count: int, points: int, seed: int) -> list[np.ndarray]:
    """Surfaces of random boxes: like real shapes, thin and unlike one another."""
    rng = np.random.default_rng(seed)
    clouds = []
    for _ in range(count):
        cloud = rng.uniform(-1, 1, (points, 3))
        cloud[np.arange(points), rng.integers(0, 3, points)] = rng.choice([-1, 1], points)
        clouds.append((cloud * rng.uniform(0.1, 1, 3)).astype(np.float32))
    return clouds


def _minima(a: CloudSet, b: CloudSet, workers: int = 1) -> np.ndarray:
    """Return the distances that a search of all rows and columns finds out, the others infinite."""
    search = NearestSearch.between(a, b, workers=workers)
    search.nearest(range(len(a)), workers=workers)
    if a is not b:
        search.swapped().nearest(range(len(b)), workers=workers)
    return search.distances


@given(n=st.integers(1, 20), m=st.integers(1, 20), seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_equals_brute_force(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    assert chamfer_distance(a, b) == pytest.approx(brute_force(a, b), rel=1e-12)


def test_a_small_shift_costs_its_square_both_ways() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), axis=-1).reshape(-1, 3)
    assert chamfer_distance(grid, grid + [0.1, 0, 0.2]) == pytest.approx(2 * (0.01 + 0.04))
    assert chamfer_distance(grid, grid[::-1]) == 0


def test_is_symmetric_and_the_same_for_any_number_of_threads() -> None:
    a, b = cloud_set(_boxes(5, 64, 0)), cloud_set(_boxes(4, 50, 1))
    counts: list[int] = []
    matrix = chamfer_matrix(a, b, workers=2, progress=counts.append)
    assert sum(counts) == 20
    np.testing.assert_array_equal(matrix, chamfer_matrix(a, b))
    np.testing.assert_array_equal(matrix, chamfer_matrix(b, a).T)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("g", "r", "points"), [(12, 9, 700), (1, 6, 40), (7, 1, 40)])
def test_minima_are_those_of_the_full_matrix(workers: int, g: int, r: int, points: int) -> None:
    a, b = cloud_set(_boxes(g, points, 2)), cloud_set(_boxes(r, points, 3))
    full, partial = chamfer_matrix(a, b), _minima(a, b, workers=workers)
    for axis in (0, 1):
        np.testing.assert_array_equal(partial.argmin(axis), full.argmin(axis))
        np.testing.assert_array_equal(partial.min(axis), full.min(axis))
    known = np.isfinite(partial)
    np.testing.assert_array_equal(partial[known], full[known])


def test_minima_skip_most_pairs_of_unlike_shapes() -> None:
    clouds = cloud_set(_boxes(30, 600, 4))
    known = np.isfinite(_minima(clouds, cloud_set(_boxes(30, 600, 5))))
    assert known.mean() < 0.5


def test_minima_within_a_set_leave_out_the_diagonal() -> None:
    clouds = cloud_set([*_boxes(8, 300, 6), *_boxes(2, 300, 6)])  # the last two are copies of the first two
    full = chamfer_matrix(clouds, clouds)
    np.fill_diagonal(full, np.inf)
    partial = _minima(clouds, clouds, workers=2)
    np.testing.assert_array_equal(partial.argmin(1), full.argmin(1))
    np.testing.assert_array_equal(partial.min(1), full.min(1))
    assert partial[0, 8] == partial[9, 1] == 0


def test_minima_keep_ties() -> None:
    cloud = _boxes(1, 100, 7)[0]
    a, b = cloud_set([cloud, cloud]), cloud_set([cloud + 0.5, cloud + 0.5, cloud + 0.5])
    assert np.isfinite(_minima(a, b)).all()


def test_degenerate_clouds() -> None:
    point = cloud_set([np.zeros((1, 3))])
    assert _minima(point, cloud_set([np.zeros((2, 3))])).item() == 0
    for bad in (np.zeros((0, 3)), np.array([[np.nan, 0, 0]])):
        with pytest.raises(ValueError, match="point cloud 1 is empty or not finite"):
            cloud_set([np.zeros((1, 3)), bad])


@pytest.mark.parametrize("within", [False, True])
def test_rows_may_be_searched_in_any_order_and_by_anyone(within: bool) -> None:
    a = cloud_set(_boxes(9, 200, 8))
    b = a if within else cloud_set(_boxes(7, 150, 9))
    full = chamfer_matrix(a, b)
    if within:
        np.fill_diagonal(full, np.inf)
    search, counts = NearestSearch.between(a, b), list[int]()
    for rows in ([5, 2, 8], [0], [], [7, 6, 1, 4, 3]):
        number, distance = search.nearest(rows, progress=counts.append)
        np.testing.assert_array_equal(number, full[rows].argmin(1))
        np.testing.assert_array_equal(distance, full[rows].min(1))
    assert sum(counts) == full.size
    number, distance = NearestSearch.between(a, b).swapped().nearest([3, 1], workers=2)
    np.testing.assert_array_equal(number, full[:, [3, 1]].argmin(0))
    np.testing.assert_array_equal(distance, full[:, [3, 1]].min(0))


def test_columns_use_what_rows_have_found(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = cloud_set(_boxes(12, 200, 10)), cloud_set(_boxes(12, 200, 11))
    asked: list[int] = []
    monkeypatch.setattr(chamfer_minima, "nearest_squared", lambda x, t: asked.append(len(x)) or _squared(x, t))
    NearestSearch.between(a, b).swapped().nearest(range(12))
    alone = sum(asked)
    search = NearestSearch.between(a, b)
    search.nearest(range(12))
    asked.clear()
    search.swapped().nearest(range(12))
    assert sum(asked) < 0.7 * alone
    assert alone < 0.6 * 12 * 12 * 400


def test_one_cloud_alone_has_no_other() -> None:
    clouds = cloud_set(_boxes(1, 50, 12))
    assert NearestSearch.between(clouds, clouds).nearest([0]) == (0, np.inf)


@given(n=st.integers(1, 300), m=st.integers(1, 300), seed=st.integers(0, 99), thin=st.booleans())
@settings(deadline=None, max_examples=40)
def test_bounds_are_never_above_the_distances(n: int, m: int, seed: int, thin: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(count, 3)) * ([1, 1e-3, 0] if thin else [1, 1, 1]) for count in (n, m))
    one, other = cloud_set([a + 5, a]), cloud_set([b])
    left, right = located(one, other, 1)
    for i in range(2):
        there, guess = point_bounds(left, i, right, 0)
        assert (there <= nearest_squared(one.points[i], other.trees[0]) + 1e-15).all()
        assert (there <= guess + 1e-15).all()
        whole = pair_bound(left, i, right, 0)
        back, _ = point_bounds(right, 0, left, i)
        assert whole <= chamfer_distance(one.points[i], b)
        assert whole <= there.mean(dtype=np.float64) + back.mean(dtype=np.float64) + 1e-12


def test_a_bound_of_far_clouds_is_nearly_the_distance() -> None:
    a, b = _boxes(2, 400, 13)
    (left, right), apart = located(cloud_set([a]), cloud_set([b + 8]), 1), chamfer_distance(a, b + 8)
    assert 0.8 * apart < pair_bound(left, 0, right, 0) < apart


def _compare_blocks(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chamfer_blocks, "_BLOCK", 5000)
    cloud, asked = _boxes(2, 300, 14)
    tree, blocks = cloud_set([cloud]).trees[0], chamfer_blocks.Blocks(cloud, torch.device(device))
    distance, number = tree.query(asked)
    ours, place = blocks.query(asked)
    np.testing.assert_allclose(ours, distance, rtol=1e-14)
    np.testing.assert_array_equal(place, number)
    assert isinstance(blocks, Tree)


def test_comparing_all_points_finds_what_the_tree_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    _compare_blocks("cpu", monkeypatch)


@pytest.mark.gpu
def test_a_cuda_device_finds_what_the_processor_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    _compare_blocks("cuda", monkeypatch)
    a, b = _boxes(12, 700, 15), _boxes(9, 700, 16)
    here = _minima(cloud_set(a), cloud_set(b), workers=2)
    device = torch.device("cuda")
    there = _minima(cloud_set(a, device), cloud_set(b, device), workers=2)
    for axis in (0, 1):
        np.testing.assert_array_equal(there.argmin(axis), here.argmin(axis))
        np.testing.assert_allclose(there.min(axis), here.min(axis), rtol=1e-12)
