"""Agreement of views: a ball with true cameras has a thin cloud, one wrong camera makes its view thick."""

import numpy as np
import pytest

from ln3d.config.render import CameraConfig
from ln3d.geometry.agreement import MISSED, cloud_thickness, depth_disagreement, sampled_surface
from ln3d.geometry.cameras import camera_set, to_opengl
from ln3d.geometry.clouds import unproject

BALL = 0.8
Views = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def ball(views: int = 12, size: int = 64, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Views:
    """Return depth, normals and cameras of a ball, from the quadratic equation of its rays."""
    poses, k = (a.astype(np.float64) for a in camera_set(CameraConfig(views=views)))
    pixel = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(pixel / k[0, 0, 0], pixel / k[0, 1, 1])
    local = np.stack([x, y, np.ones_like(x)], -1) / np.sqrt(x**2 + y**2 + 1)[..., None]
    rays = np.einsum("vij,hwj->vhwi", poses[:, :3, :3], local)
    eye = poses[:, None, None, :3, 3] - np.array(centre)
    along = (rays * eye).sum(-1)
    square = along**2 - (eye**2).sum(-1) + BALL**2
    depth = np.where(square > 0, -along - np.sqrt(np.maximum(square, 0)), 0)
    normal = np.where(depth[..., None] > 0, (eye + rays * depth[..., None]) / BALL, 0)
    return depth, normal, poses, k


def test_fused_points_of_a_ball_lie_on_it() -> None:
    depth, _, poses, k = ball()
    points = unproject(depth, poses, k)
    assert len(points) > 10_000
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), BALL, atol=1e-3)


def test_true_cameras_have_a_thin_cloud() -> None:
    thickness = cloud_thickness(*ball(centre=(0.1, -0.05, 0.02)))
    assert thickness.shape == (12,) and np.isfinite(thickness).all()
    assert thickness.max() < 1e-3


@pytest.mark.parametrize("shift", [0.05, 0.15])
def test_one_wrong_camera_is_found_and_measured(shift: float) -> None:
    depth, normal, poses, k = ball()
    poses = poses.copy()
    poses[5, :3, 3] += shift * poses[5, :3, 2]
    thickness = cloud_thickness(depth, normal, poses, k)
    assert thickness[5] == pytest.approx(shift, rel=0.35)  # the median over the ball's slopes of shift * cosine
    assert np.delete(thickness, 5).max() < 2e-3


def test_a_wrong_scale_makes_every_view_thick() -> None:
    depth, normal, poses, k = ball()
    poses = poses.copy()
    poses[:, :3, 3] *= 1.1
    assert cloud_thickness(depth, normal, poses, k).min() > 0.05


def test_a_mirrored_world_is_thick() -> None:
    depth, normal, poses, k = ball(centre=(0.1, 0.0, 0.0))
    mirrored = np.diag([-1.0, 1, 1, 1]) @ poses @ np.diag([-1.0, 1, 1, 1])
    assert np.median(cloud_thickness(depth, normal * [-1, 1, 1], mirrored, k)) > 0.02


def test_cameras_that_look_away_have_no_thickness_that_could_pass() -> None:
    depth, normal, poses, k = ball()
    thickness = cloud_thickness(depth, normal, to_opengl(poses), k)
    assert not (thickness < 0.1).any()


def test_points_are_asked_of_other_views_alone() -> None:
    depth, normal, poses, k = ball(views=6)
    points, normals, source = sampled_surface(depth, normal, poses, k, 50)
    assert np.bincount(source).tolist() == [50] * 6
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), BALL, atol=1e-6)
    np.testing.assert_allclose(normals, points / BALL, atol=1e-6)
    lonely = depth_disagreement(points, normals, source, depth * (np.arange(6) == 0)[:, None, None], poses, k)
    assert np.isnan(lonely[source == 0]).sum() < 50  # others are asked, and see background
    assert (lonely[(source == 0) & ~np.isnan(lonely)] == MISSED).all()
    away = depth_disagreement(points, -normals, source, depth, poses, k)
    assert np.nanmin(away) > BALL / 2  # turned about, they are asked of views that see the other side


def test_pictures_of_nothing_have_no_thickness() -> None:
    depth, normal, poses, k = ball(views=3)
    assert np.isnan(cloud_thickness(np.zeros_like(depth), normal, poses, k)).all()
    assert np.isnan(cloud_thickness(depth[:1], normal[:1], poses[:1], k[:1])).all()
