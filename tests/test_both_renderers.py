"""A mesh through the renderer of datasets, the same solid as a field through the volume renderer: the same pictures."""

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import draw
from ln3d.geometry.cameras import camera_set
from ln3d.rendering.fields import Field
from ln3d.rendering.volume import render_images

SIZE, FINE = 32, 3  # the field is seen through FINE x FINE rays a pixel
CENTRE, RADIUS = np.array([0.25, -0.1, 0.2]), 0.5
LOW, HIGH = np.array([-0.6, -0.25, -0.1]), np.array([0.3, 0.5, 0.6])
COLOUR = (0.2, 0.4, 0.6)
DENSITY = 2000.0  # opaque within a thousandth
SAMPLES = RendererConfig(coarse=192, fine=64)


def ball(points: Tensor) -> Tensor:
    return (points - torch.from_numpy(CENTRE).float()).norm(dim=-1) < RADIUS


def box(points: Tensor) -> Tensor:
    low, high = torch.from_numpy(LOW).float(), torch.from_numpy(HIGH).float()
    return ((points > low) & (points < high)).all(dim=-1)


def solid(inside) -> Field:
    return lambda points: (DENSITY * inside(points).float(), torch.tensor(COLOUR).expand_as(points))


MESHES = {
    "ball": trimesh.creation.icosphere(subdivisions=5, radius=RADIUS).apply_translation(CENTRE),
    "box": trimesh.creation.box(bounds=[LOW, HIGH]),
}
FIELDS = {"ball": solid(ball), "box": solid(box)}


def moments(alpha: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Area, centre and spread (its square root) of a coverage map, in pixels."""
    row, column = np.indices(alpha.shape) + 0.5
    area = alpha.sum()
    centre = np.array([(alpha * axis).sum() / area for axis in (column, row)])
    spread = np.array([(alpha * (axis - c) ** 2).sum() / area for axis, c in zip((column, row), centre, strict=True)])
    return float(area), centre, np.sqrt(spread)


@pytest.mark.parametrize("shape", ["ball", "box"])
def test_a_mesh_and_the_field_of_the_same_solid_look_the_same_to_a_fraction_of_a_pixel(shape: str) -> None:
    poses, matrices = camera_set(CameraConfig(views=3))
    mesh = MESHES[shape]
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    scene = Scene([Part(vertices, faces, None, None, np.float32([*COLOUR, 1]), None)])
    drawn = draw(scene, poses, matrices, SIZE, supersampling=FINE, lighting="albedo")
    for view, (pose, matrix) in enumerate(zip(poses, matrices, strict=True)):
        camera = torch.from_numpy(pose)[None], torch.from_numpy(matrix)[None]
        with torch.no_grad():
            fine = render_images(FIELDS[shape], *camera, SIZE * FINE, SAMPLES)
            centres = render_images(FIELDS[shape], *camera, SIZE, SAMPLES)
        alpha = fine.alpha[0].reshape(SIZE, FINE, SIZE, FINE).mean(dim=(1, 3)).numpy()
        coverage = drawn.colour[view, ..., 3] / 255
        (area, centre, spread), (area_drawn, centre_drawn, spread_drawn) = moments(alpha), moments(coverage)
        outline = np.sqrt(4 * np.pi * area)  # at least: that of a disc
        assert abs(area - area_drawn) / outline < 0.05  # the mean distance of the outlines, in pixels
        np.testing.assert_allclose(centre_drawn, centre, atol=0.03)
        np.testing.assert_allclose(spread_drawn, spread, atol=0.03)
        assert np.abs(alpha - coverage).max() < 0.35
        seen = centres.alpha[0].numpy() > 0.99
        both = seen & (drawn.depth[view] > 0)
        assert both.sum() > 0.9 * area
        np.testing.assert_allclose(drawn.depth[view][both], centres.depth[0].numpy()[both], atol=0.02)
        np.testing.assert_allclose(drawn.colour[view][both][:, :3] / 255, centres.colour[0].numpy()[both], atol=0.005)
