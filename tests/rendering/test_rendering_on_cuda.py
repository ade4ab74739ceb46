"""The renderer on a CUDA device gives what it gives on the CPU, its slow twin, gradients included."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.rendering.fields import Field, checkpointed, triplane_field
from ln3d.rendering.frozen import frozen_field
from ln3d.rendering.occupancy import occupancy_grid
from ln3d.rendering.volume import render_rays

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_products")]
DEVICE = "cuda"
CONFIG = RendererConfig(coarse=24, fine=12)
CLOSE = {"atol": 1e-4, "rtol": 1e-3}


def _scene(device: str) -> tuple[Tensor, nn.Module, tuple[Tensor, Tensor]]:
    """Return planes of two objects, a head, and the rays of a view of each; the same on every device."""
    draw = torch.Generator().manual_seed(0)
    planes = (2 * torch.randn(2, 3, 8, 16, 16, generator=draw)).to(device).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 4)).to(device)
    poses, lenses = (torch.from_numpy(value).to(device) for value in camera_set(CameraConfig(views=2)))
    return planes, head, image_rays(poses, lenses, 24)


def _plain(planes: Tensor, head: nn.Module) -> Field:
    return triplane_field(planes, head, 10.0, 1.0)


def _hint(origins: Tensor, directions: Tensor) -> Tensor:
    near, far = box_interval(origins, directions)
    return torch.where(torch.arange(near.shape[1], device=near.device) % 3 > 0, 0.6 * near + 0.4 * far, 0)


WAYS: dict[str, Callable[[Tensor, nn.Module, Tensor, Tensor], dict[str, object]]] = {
    "coarse and fine": lambda planes, head, *rays: {},
    "guided by depth": lambda planes, head, *rays: {"depth_hint": _hint(*rays)},
    "searched": lambda planes, head, *rays: {"search": frozen_field(planes, head, 10.0, 1.0)},
    "on a grid": lambda planes, head, *rays: {
        "occupancy": occupancy_grid(_plain(planes, head), 2, resolution=32, device=planes.device)
    },
}


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_rays_see_the_same_and_teach_the_same(way: str, jitter: bool) -> None:
    outcomes = []
    for device in ("cpu", DEVICE):
        planes, head, rays = _scene(device)
        generator = torch.Generator().manual_seed(3) if jitter else None
        options = WAYS[way](planes, head, *rays)
        rendered = render_rays(_plain(planes, head), *rays, CONFIG, generator=generator, **options)
        gradients = torch.autograd.grad(sum(value.square().mean() for value in rendered), (planes, *head.parameters()))
        outcomes.append([value.cpu() for value in (*rendered, *gradients)])
    for ours, twin in zip(*reversed(outcomes), strict=True):
        torch.testing.assert_close(ours, twin, **CLOSE)


@pytest.mark.parametrize("way", ["coarse and fine", "on a grid"])
def test_the_size_of_chunks_changes_nothing(way: str) -> None:
    planes, head, rays = _scene(DEVICE)
    with torch.no_grad():
        options = WAYS[way](planes, head, *rays)
        whole, parts = (
            render_rays(_plain(planes, head), *rays, CONFIG, chunk=chunk, **options) for chunk in (576, 100)
        )
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)


def test_fields_are_the_same_frozen_and_checkpointed() -> None:
    planes, head, (origins, directions) = _scene(DEVICE)
    points = (origins + 3.2 * directions).clamp(-1, 1)  # outside the box only the density is the same
    plain = _plain(planes, head)
    for field in (frozen_field(planes, head, 10.0, 1.0), checkpointed(plain)):
        for one, other in zip(field(points), plain(points), strict=True):
            torch.testing.assert_close(one, other, **CLOSE)
