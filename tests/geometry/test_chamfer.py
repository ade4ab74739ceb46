"""Chamfer distances against a brute-force double loop, closed forms and each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ln3d.geometry.chamfer import chamfer_distance, chamfer_matrix, cloud_set
from ln3d.geometry.chamfer_minima import chamfer_minima


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
    full, partial = chamfer_matrix(a, b), chamfer_minima(a, b, workers=workers)
    for axis in (0, 1):
        np.testing.assert_array_equal(partial.argmin(axis), full.argmin(axis))
        np.testing.assert_array_equal(partial.min(axis), full.min(axis))
    known = np.isfinite(partial)
    np.testing.assert_array_equal(partial[known], full[known])


def test_minima_skip_most_pairs_of_unlike_shapes() -> None:
    clouds = cloud_set(_boxes(30, 600, 4))
    known = np.isfinite(chamfer_minima(clouds, cloud_set(_boxes(30, 600, 5))))
    assert known.mean() < 0.5


def test_minima_within_a_set_leave_out_the_diagonal() -> None:
    clouds = cloud_set([*_boxes(8, 300, 6), *_boxes(2, 300, 6)])  # the last two are copies of the first two
    full = chamfer_matrix(clouds, clouds)
    np.fill_diagonal(full, np.inf)
    partial = chamfer_minima(clouds, clouds, workers=2)
    np.testing.assert_array_equal(partial.argmin(1), full.argmin(1))
    np.testing.assert_array_equal(partial.min(1), full.min(1))
    assert partial[0, 8] == partial[9, 1] == 0


def test_minima_keep_ties() -> None:
    cloud = _boxes(1, 100, 7)[0]
    a, b = cloud_set([cloud, cloud]), cloud_set([cloud + 0.5, cloud + 0.5, cloud + 0.5])
    assert np.isfinite(chamfer_minima(a, b)).all()


def test_degenerate_clouds() -> None:
    point = cloud_set([np.zeros((1, 3))])
    assert chamfer_minima(point, cloud_set([np.zeros((2, 3))])).item() == 0
    assert chamfer_minima(point, cloud_set([])).shape == (1, 0)
    for bad in (np.zeros((0, 3)), np.array([[np.nan, 0, 0]])):
        with pytest.raises(ValueError, match="point cloud 1 is empty or not finite"):
            cloud_set([np.zeros((1, 3)), bad])
