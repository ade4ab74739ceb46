"""Posed views: rays, points and colours as the encoders see them."""

import pytest
import torch

from ln3d.geometry.cameras import intrinsics, look_at, spiral
from ln3d.models.views import Views

LUMA = torch.tensor([0.299, 0.587, 0.114])


def _views(side: int = 4) -> Views:
    numbers = torch.Generator().manual_seed(0)
    poses = torch.from_numpy(look_at(spiral(6) * 3.0)).float().reshape(2, 3, 4, 4)
    matrices = torch.from_numpy(intrinsics(36.0)).float().expand(2, 3, 3, 3)
    depth = 2 + torch.rand(2, 3, side, side, generator=numbers)
    return Views(torch.rand(2, 3, 3, side, side, generator=numbers), depth, poses, matrices)


def test_points_project_back_to_the_pixels_they_came_from() -> None:
    views, side = _views(), 4
    points = views.points().reshape(2, 3, side * side, 3)
    rotation, eye = views.camera_to_world[..., :3, :3], views.camera_to_world[..., None, :3, 3]
    local = (points - eye) @ rotation  # the inverse of a rotation is its transpose
    image = local @ views.intrinsics.transpose(-1, -2)
    pixels = side * image[..., :2] / image[..., 2:]
    rows, columns = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).reshape(-1, 2).expand_as(pixels)
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)
    distance = (points - eye).norm(dim=-1)
    torch.testing.assert_close(distance, views.depth.flatten(2), atol=1e-5, rtol=0)


def test_pluecker_channels_are_moment_and_direction_of_each_pixel() -> None:
    views = _views()
    moment, direction = views.pluecker().split(3, dim=2)
    origin = views.camera_to_world[..., :3, 3, None, None].expand_as(direction)
    torch.testing.assert_close(moment, torch.linalg.cross(origin, direction, dim=2), atol=1e-5, rtol=0)
    seen = views.points().reshape(2, 3, 4, 4, 3).permute(0, 1, 4, 2, 3)
    along = (seen - origin) / views.depth[:, :, None]
    torch.testing.assert_close(direction, along, atol=1e-5, rtol=0)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_stretching_keeps_luma_and_multiplies_the_differences_from_it(gain: float) -> None:
    views = _views()
    luma = (views.colour * LUMA[:, None, None]).sum(dim=2, keepdim=True)
    stretched = views.stretched_colour(gain)
    torch.testing.assert_close((stretched * LUMA[:, None, None]).sum(dim=2, keepdim=True), luma, atol=1e-5, rtol=0)
    torch.testing.assert_close(stretched - luma, gain * (views.colour - luma), atol=1e-5, rtol=0)
