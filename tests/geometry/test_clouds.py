"""Point clouds: what depth maps of a known solid give back."""

import numpy as np
import pytest

from ln3d.geometry.clouds import normalised_cloud, thinned, unproject


def _cameras(views: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Cameras on a ring around +y that look at the origin, 40 degrees wide."""
    poses = []
    for angle in np.arange(views) * 2 * np.pi / views:
        forward = -np.array([np.sin(angle), 0, np.cos(angle)])
        down = np.array([0, -1.0, 0])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([np.cross(down, forward), down, forward], axis=1)
        pose[:3, 3] = -forward * radius
        poses.append(pose)
    focal = 0.5 / np.tan(np.radians(20))
    k = np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    return np.stack(poses), np.repeat(k[None], views, axis=0)


def _ball_depth(poses: np.ndarray, intrinsics: np.ndarray, size: int, radius: float) -> np.ndarray:
    """Distances along the rays to a ball at the origin, from the quadratic equation; 0 where it is missed."""
    pixel = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(pixel, pixel)
    camera = np.stack([(x - 0.5) / intrinsics[0, 0, 0], (y - 0.5) / intrinsics[0, 1, 1], np.ones_like(x)], axis=-1)
    camera /= np.linalg.norm(camera, axis=-1, keepdims=True)
    rays = np.einsum("vij,hwj->vhwi", poses[:, :3, :3], camera)
    along = np.einsum("vhwi,vi->vhw", rays, poses[:, :3, 3])
    square = along**2 - (poses[:, :3, 3] ** 2).sum(-1)[:, None, None] + radius**2
    return np.where(square > 0, -along - np.sqrt(np.maximum(square, 0)), 0)


def test_depth_maps_of_a_ball_give_points_on_it() -> None:
    poses, intrinsics = _cameras(5, 3.0)
    points = unproject(_ball_depth(poses, intrinsics, 33, 0.9), poses, intrinsics)
    assert len(points) > 1000
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.9, atol=1e-6)


def test_no_depth_no_points() -> None:
    poses, intrinsics = _cameras(2, 3.0)
    assert unproject(np.zeros((2, 8, 8)), poses, intrinsics).shape == (0, 3)


def test_normalised_cloud_spans_the_box_and_ignores_place_and_size() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3)) * [3, 1, 2]
    ours = normalised_cloud(points)
    np.testing.assert_allclose(ours.max(0), -ours.min(0), atol=1e-12)
    assert np.abs(ours).max() == pytest.approx(1)
    np.testing.assert_allclose(normalised_cloud(points * 5 + [7, -2, 1]), ours, atol=1e-12)


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.ones((4, 3)), np.array([[0, 0, 0], [np.inf, 0, 0]])])
def test_degenerate_clouds_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cloud"):
        normalised_cloud(bad)


def test_thinning_evens_out_what_was_seen_often() -> None:
    rng = np.random.default_rng(1)
    sparse, dense = rng.uniform(0, 1, (2000, 3)), rng.uniform(0, 1, (20000, 3))
    sparse[:, 2], dense[:, 2] = 0, 0
    dense[:, 0] += 1  # the right half of a sheet has ten times the points of the left
    chosen = thinned(np.concatenate([sparse, dense]), 500, seed=0)
    assert chosen.shape == (500, 3)
    assert (chosen[:, 0] < 1).mean() == pytest.approx(0.5, abs=0.1)


def test_thinned_points_are_points_of_the_cloud_and_the_seed_decides() -> None:
    points = np.random.default_rng(2).normal(size=(900, 3)).astype(np.float32)
    chosen = thinned(points, 300, seed=5)
    assert {tuple(p) for p in chosen} <= {tuple(p) for p in points}
    assert len({tuple(p) for p in chosen}) == 300
    np.testing.assert_array_equal(chosen, thinned(points, 300, seed=5))
    assert (chosen != thinned(points, 300, seed=6)).any()


def test_few_points_are_repeated() -> None:
    chosen = thinned(np.eye(3), 7, seed=0)
    assert chosen.shape == (7, 3)
    assert {tuple(p) for p in chosen} == {tuple(p) for p in np.eye(3)}
    with pytest.raises(ValueError, match="empty"):
        thinned(np.zeros((0, 3)), 4, seed=0)
