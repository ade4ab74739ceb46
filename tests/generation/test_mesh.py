import numpy as np
import pytest
import torch

from ln3d.errors import DivergedError
from ln3d.export.components import mesh_report
from ln3d.generation.mesh import field_mesh


def balls(*balls: tuple[float, float, float, float], wall: float = 40.0):
    """A field of soft balls (x, y, z, radius), of density 200 inside, whose colour is its position."""

    def field(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert points.ndim == 3 and points.shape[0] == 1
        inside = [r - (points - torch.tensor([x, y, z])).norm(dim=-1) for x, y, z, r in balls]
        density = 200 * torch.sigmoid(wall * torch.stack(inside).amax(dim=0))
        return density, points / 2 + 0.5

    return field


def test_a_ball_becomes_a_closed_outward_ball_painted_where_it_is() -> None:
    mesh = field_mesh(balls((0.0, 0.0, 0.0, 0.6)), 64, 100.0, 0.02)
    report = mesh_report(mesh)
    assert report.watertight and report.components == 1
    assert report.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.01)
    assert mesh.colours is not None
    np.testing.assert_allclose(mesh.colours / 255, mesh.vertices / 2 + 0.5, atol=0.5 / 255 + 1e-6)


def test_steep_walls_leave_no_terraces() -> None:
    # Density falls by a factor of about fifty from node to node here.
    mesh = field_mesh(balls((0.0, 0.0, 0.0, 0.6), wall=120.0), 64, 10.0, 0.02)
    radii = np.linalg.norm(mesh.vertices, axis=1)
    level = 0.6 - np.log(10.0 / 190.0) / 120.0
    assert np.abs(radii - level).max() < 0.15 * 2 / 64


def test_floaters_are_dropped_and_real_parts_kept() -> None:
    field = balls((0.3, 0.0, 0.0, 0.4), (-0.5, 0.0, 0.0, 0.3), (0.0, 0.9, 0.0, 0.04))
    assert mesh_report(field_mesh(field, 64, 100.0, 0.0)).components == 3
    assert mesh_report(field_mesh(field, 64, 100.0, 0.02)).components == 2
    assert mesh_report(field_mesh(field, 64, 100.0, 1.0)).components == 1


def constant(density: float):
    return lambda points: (torch.full(points.shape[:2], density), torch.zeros_like(points))


def dust(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return 200 * torch.sigmoid(40 * (torch.cos(points * 20).prod(dim=-1) - 0.6)), torch.zeros_like(points)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (constant(0.0), "empty"),
        (constant(9.9), "empty"),
        (constant(500.0), "full"),
        (balls((0.0, 0.0, 0.0, 2.0)), "full"),
        (constant(float("nan")), "not finite"),
        (balls((0.0, 0.0, 0.0, 0.15)), "debris: the surface is 0.4"),
        (dust, "debris: .* in small pieces"),
    ],
)
def test_a_field_without_an_object_says_why(field, reason: str) -> None:
    with pytest.raises(DivergedError, match=reason) as caught:
        field_mesh(field, 48, 10.0, 0.02)
    assert "--seed" in caught.value.hint
