import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.geometry.sampling import stratified
from ln3d.geometry.volume import cell_edges
from ln3d.rendering.fields import Field, triplane_field
from ln3d.rendering.volume import TILE, Rendered, render_images, render_rays

CONFIG = RendererConfig()
SMALL = RendererConfig(coarse=8, fine=4, guided_coarse=4, guided_fine=4)
BALL = 0.6


def constant(density: float) -> Field:
    """Return a field of the same `density` and a colour that is the position, (p + 1) / 2, everywhere."""
    return lambda points: (torch.full(points.shape[:-1], density), (points + 1) / 2)


def ball(density: float) -> Field:
    """Return a red ball of radius 0.6 around the origin."""
    red = torch.tensor([1.0, 0, 0])
    return lambda points: (density * (points.norm(dim=-1) < BALL).float(), red.expand(points.shape))


def tri_plane(seed: int = 0, requires_grad: bool = False) -> tuple[Field, Tensor]:
    """Return a random field of two objects and its planes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))
        planes = (2 * torch.randn(2, 3, 4, 8, 8)).requires_grad_(requires_grad)
    return triplane_field(planes, head, density_scale=10.0, density_shift=1.0), planes


def views(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the rays of `count` images of `size` x `size`."""
    poses, matrices = camera_set(CameraConfig(views=count))
    return image_rays(torch.from_numpy(poses), torch.from_numpy(matrices), size)


def ball_interval(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance to the ball and the length of the chord, 0 where a ray misses."""
    closest = -(origins * directions).sum(dim=-1)
    beside = (origins + closest[..., None] * directions).norm(dim=-1)
    half = (BALL**2 - beside**2).clamp(min=0).sqrt()
    return torch.where(half > 0, closest - half, 0), 2 * half


@settings(max_examples=30, deadline=None)
@given(sigma=st.floats(0, 20), seed=st.integers(0, 2**32), jitter=st.booleans(), guided=st.booleans())
def test_uniform_box_follows_beer_lambert_for_any_samples(sigma: float, seed: int, jitter: bool, guided: bool) -> None:
    origins, directions = views(2, 8)
    near, far = box_interval(origins, directions)
    generator = torch.Generator().manual_seed(seed) if jitter else None
    hint = (near + far) / 2 if guided else None
    rendered = render_rays(constant(sigma), origins, directions, SMALL, generator=generator, depth_hint=hint)
    torch.testing.assert_close(rendered.alpha, 1 - torch.exp(-sigma * (far - near)), atol=2e-6, rtol=1e-5)


def test_opaque_ball_is_seen_where_it_is() -> None:
    origins, directions = views(6, 24)
    rendered = render_rays(ball(1e4), origins, directions, CONFIG)
    depth, chord = ball_interval(origins, directions)
    clear = chord > 0.5  # away from the silhouette, where the chord is shorter than a cell
    assert (rendered.depth - depth)[clear].abs().max() < 0.02
    assert rendered.alpha[clear].min() > 0.999
    assert rendered.alpha[chord == 0].max() == 0 and rendered.depth[chord == 0].max() == 0
    torch.testing.assert_close(rendered.colour[clear], torch.tensor([1.0, 0, 0]).expand_as(rendered.colour[clear]))
    assert (rendered.colour[chord == 0] == 1).all()


def test_depth_hints_put_the_surface_within_a_band_cell() -> None:
    origins, directions = views(6, 24)
    depth, chord = ball_interval(origins, directions)
    rendered = render_rays(ball(1e4), origins, directions, CONFIG, depth_hint=depth)
    clear = chord > 0.5
    cell = 2 * CONFIG.guided_band / CONFIG.guided_fine
    assert (rendered.depth - depth)[clear].abs().max() < cell
    assert rendered.alpha[chord == 0].max() == 0


def test_translucent_ball_absorbs_along_its_chord() -> None:
    origins, directions = views(2, 16)
    config = RendererConfig(coarse=256, fine=256)
    rendered = render_rays(ball(2.0), origins, directions, config)
    _, chord = ball_interval(origins, directions)
    torch.testing.assert_close(rendered.alpha, 1 - torch.exp(-2 * chord), atol=0.01, rtol=0)


def test_rays_agree_with_one_ray_after_the_other() -> None:
    field, _ = tri_plane()
    origins, directions = views(2, 4)
    config = RendererConfig(coarse=12, fine=0)
    rendered = render_rays(field, origins, directions, config)
    near, far = box_interval(origins, directions)
    for ray in range(16):
        distances = stratified(near[:, ray], far[:, ray], 12)
        widths = cell_edges(distances, near[:, ray], far[:, ray]).diff(dim=-1)
        light, colour, depth = torch.ones(2), torch.zeros(2, 3), torch.zeros(2)
        for sample in range(12):
            point = origins[:, ray] + distances[:, sample, None] * directions[:, ray]
            density, emitted = field(point[:, None])
            stopped = light * (1 - torch.exp(-density[:, 0] * widths[:, sample]))
            colour, depth = colour + stopped[:, None] * emitted[:, 0], depth + stopped * distances[:, sample]
            light = light - stopped
        torch.testing.assert_close(rendered.alpha[:, ray], 1 - light)
        torch.testing.assert_close(rendered.colour[:, ray], colour + light[:, None])
        torch.testing.assert_close(rendered.depth[:, ray], depth / (1 - light).clamp(min=1e-3))


def test_fine_samples_sharpen_the_surface() -> None:
    origins, directions = views(6, 24)
    depth, chord = ball_interval(origins, directions)
    errors = [
        (render_rays(ball(1e4), origins, directions, RendererConfig(coarse=16, fine=fine)).depth - depth)[chord > 0.5]
        for fine in (0, 16)
    ]
    assert errors[1].abs().mean() < errors[0].abs().mean() / 3


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("guided", [False, True])
def test_chunks_of_any_size_give_the_same_bits(autocast: bool, guided: bool) -> None:
    field, _ = tri_plane()
    origins, directions = views(2, 24)
    hint = ball_interval(origins, directions)[0] if guided else None
    assert origins.shape[1] > TILE
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        results = [
            render_rays(field, origins, directions, SMALL, depth_hint=hint, chunk=chunk)
            for chunk in (10_000, TILE + 1, 100)
        ]
        whole = render_rays(field, origins, directions, SMALL, depth_hint=hint)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))
    for one, two in zip(results[0], whole, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_objects_do_not_depend_on_the_batch() -> None:
    _, planes = tri_plane()
    head = nn.Linear(4, 4)
    origins, directions = views(2, 12)
    together = render_rays(triplane_field(planes, head, 10.0, 1.0), origins, directions, SMALL)
    alone = render_rays(triplane_field(planes[1:], head, 10.0, 1.0), origins[1:], directions[1:], SMALL)
    for one, two in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:], two)


def test_jitter_is_the_generators_and_nothing_elses() -> None:
    field, _ = tri_plane()
    origins, directions = views(2, 6)
    before = torch.get_rng_state()

    def render(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return render_rays(field, origins, directions, SMALL, generator=generator).colour

    assert torch.equal(render(0), render(0)) and torch.equal(render(None), render(None))
    assert not torch.equal(render(0), render(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_jitter_in_chunks_is_refused() -> None:
    with pytest.raises(ValueError, match="chunk size"):
        render_rays(constant(1.0), *views(1, 4), SMALL, generator=torch.Generator(), chunk=8)


@pytest.mark.parametrize("guided", [False, True])
def test_gradients_are_finite_and_those_of_the_rendered_values(guided: bool) -> None:
    field, planes = tri_plane(requires_grad=True)
    origins, directions = views(2, 6)
    origins = torch.cat([origins, torch.full((2, 1, 3), 4.0)], dim=1)  # and one ray that misses the box
    directions = torch.cat([directions, torch.tensor([[[1.0, 0, 0]]]).expand(2, 1, 3)], dim=1)
    hint = torch.rand(2, 37, generator=torch.Generator().manual_seed(0)) + 2.5 if guided else None
    rendered = render_rays(field, origins, directions, SMALL, depth_hint=hint)
    loss = sum(value.square().mean() for value in rendered)
    (gradient,) = torch.autograd.grad(loss, planes)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert rendered.alpha[:, -1].tolist() == [0, 0] and rendered.colour[:, -1].min() == 1


def test_a_field_is_learned_from_its_pictures() -> None:
    origins, directions = views(2, 12)
    target = render_rays(ball(1e3), origins, directions, SMALL)
    field, planes = tri_plane(requires_grad=True)
    optimizer = torch.optim.Adam([planes], lr=0.2)
    losses = []
    for _ in range(20):
        rendered = render_rays(field, origins, directions, SMALL)
        loss = (rendered.alpha - target.alpha).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_images_are_the_rays_of_their_pixels() -> None:
    field, _ = tri_plane()
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=2)))
    images = render_images(field, poses, matrices, 20, SMALL)
    assert isinstance(images, Rendered)
    assert images.colour.shape == (2, 20, 20, 3) and images.alpha.shape == images.depth.shape == (2, 20, 20)
    rays = render_rays(field, *image_rays(poses, matrices, 20), SMALL)
    torch.testing.assert_close(images.alpha[:, 3, 7], rays.alpha[:, 3 * 20 + 7], atol=1e-4, rtol=1e-4)
    assert not images.colour.requires_grad
    assert images.colour.min() >= 0 and images.colour.max() <= 1


def test_a_distant_ball_covers_its_solid_angle() -> None:
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=4)))
    images = render_images(ball(1e4), poses, matrices, 64, CONFIG)
    config = CameraConfig()
    silhouette = math.tan(math.asin(BALL / config.radius)) / math.tan(math.radians(config.field_of_view) / 2)
    covered = images.alpha.mean(dim=(1, 2))
    torch.testing.assert_close(covered, torch.full((4,), math.pi * silhouette**2 / 4), atol=0.01, rtol=0)
