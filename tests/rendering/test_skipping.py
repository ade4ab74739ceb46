"""Rendering with an occupancy grid, and with a search field."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.rendering.fields import Field, triplane_field
from ln3d.rendering.occupancy import THRESHOLD, Occupancy, meets, occupancy_grid, place_samples
from ln3d.rendering.volume import TILE, render_images, render_rays

CONFIG = RendererConfig()
SMALL = RendererConfig(coarse=8, fine=6)
BALL = 0.6
BOXES = torch.tensor([[[-0.7, -0.6, -0.5], [-0.1, 0.5, 0.3]], [[0.3, -0.2, 0.1], [0.8, 0.7, 0.6]]])


def ball(density: float) -> Field:
    """Return a red ball of radius 0.6 around the origin."""
    red = torch.tensor([1.0, 0, 0])
    return lambda points: (density * (points.norm(dim=-1) < BALL).float(), red.expand(points.shape))


def boxes(density: float) -> Field:
    """Return two boxes with a gap between them, coloured by place."""

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        inside = ((points[..., None, :] > BOXES[:, 0]) & (points[..., None, :] < BOXES[:, 1])).all(-1).any(-1)
        return density * inside.float(), (points + 1) / 2

    return field


def ball_length(origins: Tensor, directions: Tensor) -> Tensor:
    """Return the length of the chord through the ball."""
    closest = -(origins * directions).sum(dim=-1)
    beside = (origins + closest[..., None] * directions).norm(dim=-1)
    return 2 * (BALL**2 - beside**2).clamp(min=0).sqrt()


def boxes_length(origins: Tensor, directions: Tensor) -> Tensor:
    """Return the length of a ray within the two boxes."""
    lengths = []
    for low, high in BOXES:
        one, other = (low - origins) / directions, (high - origins) / directions
        near, far = torch.minimum(one, other).amax(dim=-1), torch.maximum(one, other).amin(dim=-1)
        lengths.append((far - near).clamp(min=0))
    return lengths[0] + lengths[1]


def views(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the rays of `count` images of `size` x `size`."""
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=count)))
    return image_rays(poses, matrices, size)


def tri_plane(requires_grad: bool = False) -> tuple[Field, Tensor, nn.Module]:
    """Return a random field of two objects, its planes and its head."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))
        planes = (2 * torch.randn(2, 3, 4, 8, 8)).requires_grad_(requires_grad)
    return triplane_field(planes, head, density_scale=10.0, density_shift=1.0), planes, head


def dense_part(field: Field) -> Occupancy:
    """Return a grid of the densest places of `tri_plane`, so that some rays meet nothing."""
    threshold = occupancy_grid(field, 2, resolution=16).density.quantile(0.995).item()
    grid = occupancy_grid(field, 2, resolution=16, threshold=threshold)
    assert 0.05 < grid.occupied.float().mean() < 0.6
    return grid


@pytest.mark.parametrize(("scene", "length"), [(ball, ball_length), (boxes, boxes_length)])
@pytest.mark.parametrize("density", [2.0, 30.0])
def test_pruned_rendering_agrees_with_plain_rendering_and_with_the_truth(
    scene: object, length: object, density: float
) -> None:
    field = scene(density)  # type: ignore[operator]
    origins, directions = views(4, 20)
    grid = occupancy_grid(field, 4)
    plain = render_rays(field, origins, directions, CONFIG)
    pruned = render_rays(field, origins, directions, CONFIG, occupancy=grid)
    truth = 1 - torch.exp(-density * length(origins, directions))  # type: ignore[operator]
    # A third of the samples: tolerances are means over the picture.
    assert (pruned.alpha - truth).abs().mean() < 0.006
    assert (pruned.colour - plain.colour).abs().mean() < 0.01
    assert (pruned.depth - plain.depth)[truth > 0.5].abs().mean() < 0.02
    assert pruned.alpha[truth == 0].max() < 1e-3
    many = render_rays(field, origins, directions, RendererConfig(coarse=1, fine=256), occupancy=grid)
    assert (many.alpha - truth).abs().mean() < 0.001


def test_what_is_left_out_is_below_the_threshold() -> None:
    origins, directions = views(2, 8)
    near, far = box_interval(origins, directions)

    def haze(points: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full(points.shape[:-1], THRESHOLD), torch.zeros_like(points)

    plain = render_rays(haze, origins, directions, SMALL)
    pruned = render_rays(haze, origins, directions, SMALL, occupancy=occupancy_grid(haze, 2, resolution=8))
    assert not pruned.alpha.any() and not pruned.depth.any() and (pruned.colour == 1).all()
    assert (plain.alpha <= 1 - torch.exp(-THRESHOLD * (far - near)) + 1e-6).all() and plain.alpha.max() < 0.035


@settings(max_examples=20)
@given(sigma=st.floats(0.1, 20), seed=st.one_of(st.none(), st.integers(0, 2**32)))
def test_a_full_box_follows_beer_lambert(sigma: float, seed: int | None) -> None:
    origins, directions = views(2, 8)
    near, far = box_interval(origins, directions)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    full = Occupancy(torch.ones(2, 8, 8, 8, dtype=torch.bool), torch.full((2, 8, 8, 8), sigma))
    rendered = render_rays(
        lambda points: (torch.full(points.shape[:-1], sigma), points),
        origins,
        directions,
        SMALL,
        generator=generator,
        occupancy=full,
    )
    torch.testing.assert_close(rendered.alpha, 1 - torch.exp(-sigma * (far - near)), atol=2e-6, rtol=1e-5)


def test_the_field_is_asked_in_occupied_places_only() -> None:
    origins, directions = views(3, 12)
    grid = occupancy_grid(ball(30.0), 3, resolution=16)
    asked = []

    def spy(points: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(points)
        return ball(30.0)(points)

    render_rays(spy, origins, directions, SMALL, occupancy=grid)
    (points,) = asked
    most = int(meets(grid, origins, directions).sum(dim=1).max())
    assert points.shape == (3, most * SMALL.fine, 3) and most < origins.shape[1]
    margin = 2 * 3**0.5 * 2 / 16 + 2 / 16  # what the grid adds to the ball, and half a bin to either side of a middle
    assert (points.norm(dim=-1) < BALL + margin).float().mean() > 0.99  # the rest fills up objects that few rays meet


def test_rays_that_meet_nothing_see_white() -> None:
    nothing = Occupancy(torch.zeros(2, 8, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, 8))
    field, planes, _ = tri_plane(requires_grad=True)
    for chunk in (None, 50):
        rendered = render_rays(field, *views(2, 12), SMALL, occupancy=nothing, chunk=chunk)
        assert (rendered.colour == 1).all() and not rendered.alpha.any() and not rendered.depth.any()
    (gradient,) = torch.autograd.grad(sum(value.sum() for value in rendered), planes)
    assert not gradient.any()


@pytest.mark.parametrize("autocast", [False, True])
def test_chunks_of_any_size_give_the_same_bits(autocast: bool) -> None:
    field, _, _ = tri_plane()
    grid = dense_part(field)
    origins, directions = views(2, 30)
    assert origins.shape[1] > TILE
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        results = [
            render_rays(field, origins, directions, SMALL, occupancy=grid, chunk=chunk)
            for chunk in (10_000, TILE + 1, 100)
        ]
        whole = render_rays(field, origins, directions, SMALL, occupancy=grid)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))
    for one, two in zip(results[0], whole, strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=2e-3)


def test_gradients_are_those_of_the_kept_samples() -> None:
    field, planes, _ = tri_plane(requires_grad=True)
    grid = dense_part(field)
    origins, directions = views(2, 6)
    rendered = render_rays(field, origins, directions, SMALL, occupancy=grid)
    (gradient,) = torch.autograd.grad(rendered.colour.square().sum() + rendered.alpha.sum(), planes)
    # The slow way round: every ray by itself, sample after sample.
    placed = place_samples(grid, origins, directions, SMALL.fine)
    met = meets(grid, origins, directions)
    total = torch.zeros(())
    for scene, ray in met.nonzero().tolist():
        light, colour = torch.ones(()), torch.zeros(3)
        for distance, spacing in zip(placed.distances[scene, ray], placed.spacing[scene, ray], strict=True):
            point = origins[scene, ray] + distance * directions[scene, ray]
            density, emitted = field(point.expand(2, 1, 3))
            stopped = light * (1 - torch.exp(-density[scene, 0] * spacing))
            colour, light = colour + stopped * emitted[scene, 0], light - stopped
        total = total + (colour + light).square().sum() + 1 - light
    (slow,) = torch.autograd.grad(total, planes)
    assert met.any() and not met.all()
    torch.testing.assert_close(gradient, slow, atol=1e-3, rtol=1e-3)


def test_images_take_a_grid() -> None:
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=2)))
    grid = occupancy_grid(ball(30.0), 2, resolution=32)
    plain, pruned = (
        render_images(ball(30.0), poses, matrices, 20, CONFIG, occupancy=occupancy) for occupancy in (None, grid)
    )
    assert pruned.colour.shape == (2, 20, 20, 3)
    assert (plain.colour - pruned.colour).abs().mean() < 0.01
    rays = render_rays(ball(30.0), *views(2, 20), CONFIG, occupancy=grid)
    torch.testing.assert_close(pruned.alpha[:, 9, 7], rays.alpha[:, 9 * 20 + 7], atol=1e-4, rtol=1e-4)


def test_a_search_only_says_where_the_fine_samples_go() -> None:
    field, planes, _ = tri_plane(requires_grad=True)
    asked = []

    def spied(name: str) -> Field:
        def spy(points: Tensor) -> tuple[Tensor, Tensor]:
            asked.append((name, points.shape[1], torch.is_grad_enabled()))
            return field(points)

        return spy

    origins, directions = views(2, 6)
    found = render_rays(spied("field"), origins, directions, SMALL, search=spied("search"))
    assert asked == [("search", 36 * SMALL.coarse, False), ("field", 36 * SMALL.fine, True)]
    assert torch.autograd.grad(found.alpha.sum(), planes)[0].any()
    opaque = RendererConfig(coarse=48, fine=48)
    alone, merged = (render_rays(ball(50.0), origins, directions, opaque, search=s) for s in (ball(50.0), None))
    assert (alone.colour - merged.colour).abs().mean() < 0.02
    torch.testing.assert_close(
        render_rays(field, origins, directions, RendererConfig(coarse=8, fine=0), search=field),
        render_rays(field, origins, directions, RendererConfig(coarse=8, fine=0)),
        atol=0,
        rtol=0,
    )


def test_a_search_under_autocast_leaves_the_head_its_gradient() -> None:
    field, _, head = tri_plane(requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        rendered = render_rays(field, *views(2, 6), SMALL, search=field)
    rendered.alpha.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head[0].parameters())


def test_ways_to_place_samples_exclude_each_other() -> None:
    field, _, _ = tri_plane()
    grid, rays = occupancy_grid(field, 2, resolution=4), views(2, 4)
    with pytest.raises(ValueError, match="exclude each other"):
        render_rays(field, *rays, SMALL, occupancy=grid, search=field)
    with pytest.raises(ValueError, match="exclude each other"):
        render_rays(field, *rays, SMALL, occupancy=grid, depth_hint=torch.zeros(2, 16))
    with pytest.raises(ValueError, match="chunk size"):
        render_rays(field, *rays, SMALL, occupancy=grid, generator=torch.Generator(), chunk=8)
