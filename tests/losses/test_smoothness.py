"""Normals of known surfaces, and what their bending costs."""

import math

import pytest
import torch
from torch import Tensor

from ln3d.losses.smoothness import normal_smoothness, surface_normals

SIDE = 12
ROWS, COLUMNS = torch.meshgrid(*[torch.linspace(-0.3, 0.3, SIDE, dtype=torch.float64)] * 2, indexing="ij")
COVERED = torch.ones(1, SIDE, SIDE, dtype=torch.float64)
GREY = torch.full((1, 3, SIDE, SIDE), 0.5, dtype=torch.float64)


def _surface(height: Tensor) -> Tensor:
    """Return points over an image plane: x to the right, y down, `height` away from the viewer."""
    return torch.stack([COLUMNS, ROWS, height])[None]


@pytest.mark.parametrize(("across", "down"), [(0.0, 0.0), (0.7, -0.2), (-3.0, 1.5)])
def test_a_plane_has_one_normal_and_costs_nothing(across: float, down: float) -> None:
    points = _surface(across * COLUMNS + down * ROWS)
    normal = torch.tensor([-across, -down, 1.0], dtype=torch.float64)
    expected = (normal / normal.norm())[None, :, None, None].expand(1, 3, SIDE - 1, SIDE - 1)
    torch.testing.assert_close(surface_normals(points), expected, atol=1e-6, rtol=0)
    assert normal_smoothness(points, COVERED, GREY).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_a_fold_costs_one_minus_the_cosine_of_its_angle(slope: float, transposed: bool) -> None:
    points = _surface(slope * (COLUMNS - COLUMNS[0, 5]).clamp(min=0))
    if transposed:
        points = points.transpose(-1, -2)[:, [1, 0, 2]]
    pairs = 2 * (SIDE - 1) * (SIDE - 2)  # neighbours across and down
    expected = (SIDE - 1) * (1 - math.cos(math.atan(slope))) / pairs
    assert normal_smoothness(points, COVERED, GREY).item() == pytest.approx(expected, rel=1e-5)


def test_a_sphere_turns_as_its_radius_says() -> None:
    radius = 5.0
    points = _surface(-(radius**2 - COLUMNS**2 - ROWS**2).sqrt())
    step = (0.6 / (SIDE - 1)) / radius  # nearly the angle between neighbours where the sphere faces the viewer
    assert normal_smoothness(points, COVERED, GREY).item() == pytest.approx(1 - math.cos(step), rel=0.02)


def test_only_covered_pixels_count_and_edges_of_the_picture_count_less() -> None:
    bumpy = _surface(0.1 * torch.rand(SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    flat_outside = bumpy.clone()
    half = COVERED.clone()
    half[..., 6:] = 0.4
    flat_outside[0, 2, :, 6:] = 7.0
    inside = normal_smoothness(bumpy, half, GREY)
    assert inside.item() > 0.01
    torch.testing.assert_close(normal_smoothness(flat_outside, half, GREY), inside)
    assert normal_smoothness(bumpy, torch.zeros_like(COVERED), GREY).item() == 0
    fold = _surface(2 * (COLUMNS - COLUMNS[0, 5]).clamp(min=0))
    painted = GREY.clone()
    painted[..., 5:] = 1.0  # the picture has an edge where the surface has its own
    plain, edge = normal_smoothness(fold, COVERED, GREY).item(), normal_smoothness(fold, COVERED, painted).item()
    pairs, weight = 2 * (SIDE - 1) * (SIDE - 2), math.exp(-0.5)
    weighted = pairs - (SIDE - 1) * (1 - weight)
    assert edge == pytest.approx(plain * weight * pairs / weighted, rel=1e-6)


def test_the_gradient_is_finite_where_rays_hit_nothing_and_none_reaches_the_coverage() -> None:
    points = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)  # all at the camera
    alpha = COVERED.clone().requires_grad_()
    normal_smoothness(points, alpha, GREY).backward()
    assert points.grad is not None and points.grad.isfinite().all()
    assert alpha.grad is None
