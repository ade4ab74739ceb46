import math

import numpy as np
import pytest
import torch
from torch import nn

from ln3d.geometry import surfaces
from ln3d.geometry.surfaces import extract_surface, iso_from_profiles, marching_cubes, signed_volume


def ball(points: torch.Tensor, radius: float = 0.7, sharpness: float = 30.0) -> torch.Tensor:
    return 100 * torch.sigmoid(sharpness * (radius - points.norm(dim=-1)))


def torus(points: torch.Tensor) -> torch.Tensor:
    ring = (points[:, :2].norm(dim=-1) - 0.6).square() + points[:, 2].square()
    return torch.exp(20 * (0.2 - ring.sqrt()))


def rods(points: torch.Tensor) -> torch.Tensor:
    """Three crossing rods, about as thin as one coarse cell."""
    square = points.square()
    distance = torch.stack([square[:, [1, 2]].sum(-1), square[:, [0, 2]].sum(-1), square[:, [0, 1]].sum(-1)])
    inside = points.abs().amax(dim=-1) < 0.8
    return torch.where(inside, torch.exp(60 * (0.03 - distance.amin(dim=0).sqrt())), 0)


def dense(density, resolution: int, iso: float):
    axis = (np.arange(resolution + 1) * (2.0 / resolution) - 1.0).astype(np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    with torch.no_grad():
        tiles = [density(torch.from_numpy(tile)) for tile in np.array_split(grid, 7)]
    return marching_cubes(torch.cat(tiles).numpy().reshape((resolution + 1,) * 3), iso)


@pytest.mark.parametrize("density", [ball, torus, rods])
@pytest.mark.parametrize("resolution", [24, 97, 128])
def test_coarse_to_fine_equals_the_dense_grid(density, resolution: int) -> None:
    vertices, faces = extract_surface(density, resolution, 1.0)
    expected_vertices, expected_faces = dense(density, resolution, 1.0)
    np.testing.assert_array_equal(faces, expected_faces)
    np.testing.assert_array_equal(vertices, expected_vertices)


def test_only_cells_near_the_surface_are_refined() -> None:
    asked = 0

    def counting(points: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(points)
        return ball(points)

    extract_surface(counting, 192, 10.0)
    assert asked < 0.3 * 193**3


def test_a_network_gives_the_same_surface_whatever_surrounds_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 1))

    def density(points: torch.Tensor) -> torch.Tensor:
        assert len(points) == surfaces.TILE
        return ball(points) * (1 + network(points)[:, 0])

    coarse_to_fine = extract_surface(density, 96, 10.0)
    monkeypatch.setattr(surfaces, "_COARSEST", 96)
    everywhere = extract_surface(density, 96, 10.0)
    for one, other in zip(coarse_to_fine, everywhere, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_a_ball_has_its_volume_and_radius_and_is_wound_outwards(resolution: int) -> None:
    vertices, faces = extract_surface(ball, resolution, 50.0)
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=8 / resolution**1.5)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.7).max() < 4 / resolution**2
    normal = np.cross(*(vertices[faces[:, k]] - vertices[faces[:, 0]] for k in (1, 2)))
    assert ((normal * vertices[faces].mean(axis=1)).sum(axis=1) >= -1e-12).all()


def test_axes_are_not_swapped() -> None:
    def ellipsoid(points: torch.Tensor) -> torch.Tensor:
        return ball((points - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.9, 0.6, 0.3]))

    vertices, _ = extract_surface(ellipsoid, 64, 50.0)
    centre, extent = (vertices.max(axis=0) + vertices.min(axis=0)) / 2, np.ptp(vertices, axis=0)
    np.testing.assert_allclose(centre, [0.1, 0.2, 0.3], atol=0.01)
    np.testing.assert_allclose(extent, 1.4 * np.array([0.9, 0.6, 0.3]), atol=0.02)


@pytest.mark.parametrize("resolution", [40, 97])
def test_a_surface_that_leaves_the_box_is_closed_on_its_faces(resolution: int) -> None:
    vertices, faces = extract_surface(lambda p: ball(p, radius=1.2), resolution, 50.0)
    assert np.abs(vertices).max() == 1.0
    cap = math.pi * 0.2**2 * (3 * 1.2 - 0.2) / 3
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * math.pi * 1.2**3 - 6 * cap, rel=0.01)
    full = extract_surface(lambda p: torch.full((len(p),), 9.0), resolution, 1.0)
    assert signed_volume(*full) == pytest.approx(8.0, rel=1e-3)


def test_no_surface_gives_empty_arrays() -> None:
    vertices, faces = extract_surface(lambda p: torch.zeros(len(p)), 64, 1.0)
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)


def test_a_signed_distance_works_at_level_zero() -> None:
    vertices, faces = extract_surface(lambda p: 0.5 - p.norm(dim=-1), 64, 0.0)
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * math.pi / 8, rel=0.01)


def test_signed_volume_of_a_tetrahedron() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32) + 5
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert signed_volume(vertices, faces) == pytest.approx(1.0)
    assert signed_volume(vertices, faces[:, ::-1]) == pytest.approx(-1.0)


class TestIso:
    offsets = np.linspace(-0.15, 0.15, 61)

    @pytest.mark.parametrize("level", [2.0, 20.0, 60.0])
    def test_the_level_at_the_given_depth_is_found(self, level: float) -> None:
        # The truth lies where the soft wall has this density, up to a little noise in the depths.
        shift = math.log(level / (100 - level)) / 60
        noise = np.random.default_rng(0).normal(0, 0.004, (500, 1))
        densities = 100 / (1 + np.exp(-60 * (self.offsets + shift + noise)))
        assert iso_from_profiles(densities, self.offsets) == pytest.approx(level, rel=0.1)

    def test_rays_along_silhouettes_do_not_move_it(self) -> None:
        good = np.broadcast_to(100 / (1 + np.exp(-60 * self.offsets)), (300, 61))
        never = np.full((60, 61), 0.01)
        within = np.full((60, 61), 90.0)
        chosen = iso_from_profiles(np.concatenate([good, never, within]), self.offsets)
        assert chosen == pytest.approx(50.0, rel=0.05)

    def test_the_surface_of_a_soft_ball_lies_at_its_rendered_depth(self) -> None:
        # Parallel rays down the z axis, integrated in closed steps: depth is where the light is stopped on average.
        across = torch.linspace(-0.4, 0.4, 15)
        start = torch.cartesian_prod(across, across)
        z = torch.linspace(1, -1, 4001)

        def density(heights: torch.Tensor) -> torch.Tensor:
            points = torch.cat([start[:, None].expand(-1, heights.shape[1], -1), heights[..., None]], dim=-1)
            return ball(points.reshape(-1, 3), sharpness=60.0).reshape(len(start), -1)

        sigma = density(z.expand(len(start), -1))
        weights = torch.exp(-sigma.cumsum(dim=1) * 2 / 4000) * sigma * 2 / 4000
        depth = (weights * (1 - z)).sum(dim=1) / weights.sum(dim=1)
        profiles = density(1 - (depth[:, None] + torch.from_numpy(self.offsets).float()))
        level = iso_from_profiles(profiles.numpy(), self.offsets)
        vertices, _ = extract_surface(lambda p: ball(p, sharpness=60.0), 96, level)
        rendered = torch.cat([start, 1 - depth[:, None]], dim=1).norm(dim=1).mean().item()
        assert np.linalg.norm(vertices, axis=1).mean() == pytest.approx(rendered, abs=2e-3)
        assert abs(rendered - 0.7) > 2e-3  # so the level at half the density would not do

    @pytest.mark.parametrize("densities", [np.zeros((4, 3)), np.empty((0, 3)), np.full((2, 3), np.nan)])
    def test_nothing_to_choose_from_is_an_error(self, densities: np.ndarray) -> None:
        with pytest.raises(ValueError, match="no density"):
            iso_from_profiles(densities, np.array([-1.0, 0.0, 1.0]))
