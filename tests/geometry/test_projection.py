"""Projection: where corners must be, what is hidden, and pictures of points."""

import numpy as np
import pytest

from ln3d.config.render import CameraConfig
from ln3d.geometry.cameras import camera_set, intrinsics, look_at
from ln3d.geometry.clouds import unproject
from ln3d.geometry.projection import box_edges, hidden, project, splat, world_axes


def test_corners_of_a_box_are_where_they_must_be() -> None:
    """From +z at distance 3 with a right angle of view, x is at 1/2 + x / (2 (3 - z)), and y points up."""
    pose, k = look_at(np.array([[0.0, 0.0, 3.0]])), intrinsics(90.0)[None]
    corners = np.array([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (-1.0, 1)])
    position, ahead = project(corners, pose, k)
    x, y, z = corners.T
    np.testing.assert_allclose(position[0], np.stack([0.5 + x / (2 * (3 - z)), 0.5 - y / (2 * (3 - z))], 1), atol=1e-12)
    np.testing.assert_allclose(ahead[0], 3 - z)


def test_projection_undoes_unprojection() -> None:
    poses, k = camera_set(CameraConfig(views=5))
    size = 9
    depth = np.random.default_rng(0).uniform(2, 4, (5, size, size))
    points = unproject(depth, poses, k)
    position, ahead = project(points, poses, k)
    centre = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(centre, centre)
    for view in range(5):
        own = slice(view * size**2, (view + 1) * size**2)
        np.testing.assert_allclose(position[view, own], np.stack([x, y], -1).reshape(-1, 2), atol=1e-5)
        assert (ahead[view, own] > 0).all()


def test_what_is_behind_the_camera_is_not_ahead() -> None:
    pose = look_at(np.array([[0.0, 0.0, 3.0]]))
    _, ahead = project(np.array([[0.0, 0, 4], [0, 0, 3]]), pose, intrinsics(40.0)[None])
    assert (ahead[0] <= 0).all()


def test_hidden_is_what_lies_behind_the_surface_and_in_the_picture() -> None:
    pose, k = look_at(np.array([0.0, 0.0, 3.0])), intrinsics(40.0)
    depth = np.zeros((8, 8))
    depth[:, 4:] = 2.5  # a wall in the right half of the picture
    points = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0.1, 0, 0.6], [0.1, 0, 0.495], [5, 0, 0], [0, 0, 9]])
    assert hidden(points, depth, pose, k).tolist() == [True, False, False, False, False, False]


def test_box_and_axes() -> None:
    edges = box_edges(0.5)
    np.testing.assert_allclose(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1), 1)
    assert len({tuple(map(tuple, edge)) for edge in edges}) == 12 and (np.abs(edges) == 0.5).all()
    corners, counts = np.unique(edges.reshape(-1, 3), axis=0, return_counts=True)
    assert len(corners) == 8 and (counts == 3).all()
    np.testing.assert_array_equal(world_axes(2.0)[:, 1], 2 * np.eye(3))
    assert not world_axes()[:, 0].any()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_the_nearest_point_of_a_pixel_is_drawn(order: list[int]) -> None:
    pose, k = look_at(np.array([0.0, 0.0, 3.0])), intrinsics(40.0)
    points = np.array([[0.01, -0.01, 0.5], [0.01, -0.01, -0.5], [0.01, -0.01, 3.5]])[order]
    colours = np.eye(3)[order]
    picture, depth = splat(points, colours, pose, k, 10, radius=0)
    assert picture[5, 5].tolist() == [1, 0, 0] and depth[5, 5] == pytest.approx(2.5, abs=1e-3)
    assert (depth > 0).sum() == 1 and (picture == 1).all(axis=-1).sum() == 99
    wide, reach = splat(points, colours, pose, k, 10, radius=1)
    assert (reach > 0).sum() == 9 and (reach[4:7, 4:7] > 0).all() and (wide[4:7, 4:7] == [1, 0, 0]).all()
