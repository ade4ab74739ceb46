"""Outer surfaces: nothing inside is seen, and meshes and depth maps give the same points."""

import numpy as np
import torch
import trimesh

from ln3d.config.render import CameraConfig
from ln3d.generation.outer_surface import outer_points
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.clouds import unproject
from ln3d.geometry.rays import image_rays

POSES, LENSES = camera_set(CameraConfig(views=6))


def test_what_is_inside_is_not_seen() -> None:
    shell, core = trimesh.creation.box(extents=[1, 1, 1]), trimesh.creation.icosphere(radius=0.4)
    both = trimesh.util.concatenate([shell, core])
    points = outer_points(both.vertices, both.faces, POSES, LENSES, 24)
    np.testing.assert_array_equal(points, outer_points(shell.vertices, shell.faces, POSES, LENSES, 24))
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.5, atol=1e-5)


def test_agrees_with_the_depth_maps_of_the_same_views() -> None:
    box = trimesh.creation.box(extents=[1, 0.6, 1.4])
    points = outer_points(box.vertices, box.faces, POSES, LENSES, 16)
    origins, directions = image_rays(*(torch.from_numpy(a) for a in (POSES, LENSES)), 16)
    depth = _depth_of_box(origins.numpy(), directions.numpy(), np.array([0.5, 0.3, 0.7])).reshape(6, 16, 16)
    np.testing.assert_allclose(unproject(depth, POSES, LENSES), points, atol=1e-5)


def _depth_of_box(origins: np.ndarray, directions: np.ndarray, half: np.ndarray) -> np.ndarray:
    """The slab method."""
    one, other = (-half - origins) / directions, (half - origins) / directions
    near, far = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
    return np.where(near < far, near, 0)
