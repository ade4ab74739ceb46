import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ln3d.config.render import CameraConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.rendering.fields import Field
from ln3d.rendering.occupancy import THRESHOLD, Occupancy, meets, occupancy_grid, place_samples

GRID = 16
CELL = 2 / GRID


def balls(centres: Tensor, radii: Tensor, density: float = 50.0) -> Field:
    """Return a field that is dense in the union of balls."""

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        inside = ((points[..., None, :] - centres).norm(dim=-1) <= radii).any(dim=-1)
        return density * inside.float(), points.clamp(0, 1)

    return field


def cell_of(points: Tensor, side: int = GRID) -> Tensor:
    """Return the flat cells of points in a grid of one scene."""
    x, y, z = ((points + 1) * side / 2).floor().clamp(0, side - 1).long().unbind(dim=-1)
    return (x * side + y) * side + z


def rays(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the rays of `count` views as those of one scene."""
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=count)))
    origins, directions = image_rays(poses, matrices, size)
    return origins.reshape(1, -1, 3), directions.reshape(1, -1, 3)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4), larger=st.floats(1, 5))
def test_nothing_made_of_balls_of_a_cell_is_missed(seed: int, count: int, larger: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    centres = 1.7 * torch.rand(count, 3, generator=generator) - 0.85
    radius = math.sqrt(3) / 2 * CELL * larger * 1.0001
    grid = occupancy_grid(balls(centres, torch.full((count,), radius)), 1, resolution=GRID)
    # Points of the balls, most of them at the surface, and moved by half a cell as the middle of a bin can be.
    away = torch.randn(200, count, 3, generator=generator)
    reach = radius * torch.rand(200, count, 1, generator=generator) ** 0.1
    points = (centres + reach * away / away.norm(dim=-1, keepdim=True)).reshape(-1, 3)
    within = points.abs().amax(dim=-1) < 1
    aside = (points + 0.5 * CELL * torch.nn.functional.normalize(torch.randn_like(points), dim=-1)).clamp(-1, 1)
    for some in (points, aside):
        assert grid.occupied.flatten()[cell_of(some[within])].all()


def test_cells_away_from_density_are_empty() -> None:
    grid = occupancy_grid(balls(torch.zeros(1, 3), torch.tensor([0.4])), 2, resolution=GRID)
    middles = (torch.arange(GRID) + 0.5) * CELL - 1
    distance = torch.cartesian_prod(middles, middles, middles).norm(dim=-1).reshape(GRID, GRID, GRID)
    assert grid.occupied.shape == grid.density.shape == (2, GRID, GRID, GRID)
    for occupied in grid.occupied:
        assert occupied[distance <= 0.4].all()
        assert not occupied[distance > 0.4 + 2 * math.sqrt(3) * CELL].any()
    assert torch.equal(grid.density[0] > 0, distance <= 0.4)


def test_scenes_of_a_batch_have_their_own_cells_and_axes_are_x_y_z() -> None:
    places = torch.tensor([[0.7, 0.0, 0.0], [0.0, 0.0, -0.7]])

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        return 9 * ((points - places[:, None]).norm(dim=-1) < 0.2).float(), points

    occupied = occupancy_grid(field, 2, resolution=GRID).occupied
    middle = GRID // 2
    assert occupied[0, 13, middle, middle] and not occupied[0, middle, middle, 2]
    assert occupied[1, middle, middle, 2] and not occupied[1, 13, middle, middle]


def test_threshold_is_exclusive_and_the_query_knows_no_gradient() -> None:
    asked = []

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        asked.append((points.shape[1], torch.is_grad_enabled()))
        return torch.full(points.shape[:-1], THRESHOLD), points

    assert not occupancy_grid(field, 1, resolution=40).occupied.any()
    assert occupancy_grid(field, 1, resolution=40, threshold=THRESHOLD / 2).occupied.all()
    assert sum(count for count, _ in asked) == 2 * 40**3 and not any(grad for _, grad in asked)


@given(seed=st.integers(0, 2**32))
def test_rays_through_density_meet_it_and_rays_far_away_do_not(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(1, 3, generator=generator) - 0.5
    grid = occupancy_grid(balls(centre, torch.tensor([0.3])), 1, resolution=GRID)
    origins, directions = rays(3, 12)
    met = meets(grid, origins, directions)
    along = ((centre - origins) * directions).sum(dim=-1, keepdim=True)
    beside = (origins + along * directions - centre).norm(dim=-1)
    assert met[beside < 0.3].all()
    assert not met[beside > 0.3 + 3.5 * math.sqrt(3) * CELL].any()
    assert met.any() and not met.all()


def test_rays_that_miss_the_box_meet_nothing() -> None:
    grid = occupancy_grid(lambda points: (torch.ones(points.shape[:-1]), points), 1, resolution=4)
    origins = torch.tensor([[[0.0, 0, 3], [0, 5, 3], [0, 0, 3]]])
    directions = torch.tensor([[[0.0, 0, -1], [0, 0, -1], [0, 0, 1]]])
    assert meets(grid, origins, directions).tolist() == [[True, False, False]]
    assert place_samples(grid, origins, directions, 5).spacing[:, 1:].abs().max() == 0


def slabs() -> Occupancy:
    """Return a grid of 16 cells a side with two slabs across x: cells 2 and 3, and cells 10 to 12."""
    occupied = torch.zeros(1, GRID, GRID, GRID, dtype=torch.bool)
    occupied[:, [2, 3, 10, 11, 12]] = True
    return Occupancy(occupied, occupied.float())


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_gaps_are_cut_out_of_the_ray(seed: int | None) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    origins, directions = torch.tensor([[[-3.0, 0.03, 0.03]]]), torch.tensor([[[1.0, 0, 0]]])
    distances, spacing = place_samples(slabs(), origins, directions, 20, generator)
    x = distances[0, 0] - 3
    first, second = (x > -1 + 2 * CELL) & (x < -1 + 4 * CELL), (x > -1 + 10 * CELL) & (x < -1 + 13 * CELL)
    assert (first | second).all() and first.any() and second.any()
    assert (distances.diff(dim=-1) > 0).all() and (spacing > 0).all()
    torch.testing.assert_close(spacing.sum(dim=-1), torch.tensor([[5 * CELL]]))


def test_samples_go_where_the_light_is_stopped() -> None:
    thin = slabs()
    opaque = Occupancy(thin.occupied, thin.density * 100)
    origins, directions = torch.tensor([[[-3.0, 0.03, 0.03]]]), torch.tensor([[[1.0, 0, 0]]])
    front = -1 + 2.5 * CELL  # where of a density of 100 all but e^-6 has been stopped
    before = [
        (place_samples(grid, origins, directions, 40).distances - 3 < front).float().mean() for grid in (thin, opaque)
    ]
    assert before[0] < 0.15 and before[1] > 0.3


@given(seed=st.integers(0, 2**32), count=st.integers(1, 30))
def test_samples_stand_for_the_whole_occupied_length(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(1, 8, 8, 8, generator=generator) < 0.3
    grid = Occupancy(occupied, 20 * torch.rand(1, 8, 8, 8, generator=generator) * occupied)
    origins, directions = rays(2, 6)
    distances, spacing = place_samples(grid, origins, directions, count, generator)
    near, far = box_interval(origins, directions)
    bins = 16
    middles = near[..., None] + (far - near)[..., None] * (torch.arange(bins) + 0.5) / bins
    points = origins[..., None, :] + middles[..., None] * directions[..., None, :]
    share = occupied.flatten()[cell_of(points, 8)].float().mean(dim=-1)
    torch.testing.assert_close(spacing.sum(dim=-1), share * (far - near), atol=1e-5, rtol=1e-5)
    assert (spacing >= 0).all() and (distances.diff(dim=-1) >= 0).all()
    nearest = ((distances - near[..., None]) / (far - near)[..., None] * bins).floor().clamp(0, bins - 1).long()
    inside = occupied.flatten()[cell_of(points, 8)].gather(-1, nearest)
    assert inside[share > 0].float().mean() > 0.99  # all but those on the border of a bin
