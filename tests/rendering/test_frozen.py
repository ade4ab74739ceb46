import pytest
import torch
from torch import nn

from ln3d.rendering.fields import Field, triplane_field
from ln3d.rendering.frozen import frozen_field


def _fields(height: int, width: int) -> tuple[Field, Field]:
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 5, height, width, generator=generator, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Linear(5, 16), nn.SiLU(), nn.Linear(16, 4))
    return triplane_field(planes, head, 10.0, 1.0), frozen_field(planes, head, 10.0, 1.0)


@pytest.mark.parametrize("side", [1, 2, 7, 64])
def test_equals_the_field_that_it_freezes(side: int) -> None:
    plain, frozen = _fields(side, side)
    points = 1.3 * (2 * torch.rand(2, 400, 3, generator=torch.Generator().manual_seed(1)) - 1)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 0, 1])] * 3).expand(2, -1, -1)
    points = torch.cat([points, corners], dim=1)
    for one, two in zip(plain(points), frozen(points), strict=True):
        inside = points.abs().amax(dim=-1) <= 1
        torch.testing.assert_close(one[inside], two[inside], atol=1e-4, rtol=1e-4)
    assert not frozen(points)[0][points.abs().amax(dim=-1) > 1].any()


def test_a_point_has_the_same_bits_wherever_it_stands() -> None:
    _, frozen = _fields(16, 16)
    points = 2 * torch.rand(2, 512, 3, generator=torch.Generator().manual_seed(2)) - 1
    order = torch.randperm(512, generator=torch.Generator().manual_seed(3))
    for straight, mixed in zip(frozen(points), frozen(points[:, order]), strict=True):
        assert torch.equal(straight[:, order], mixed)


def test_only_the_head_runs_under_autocast_and_nothing_has_a_gradient() -> None:
    seen = []

    class Spy(nn.Linear):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            raw = super().forward(features)
            seen.append((features.dtype, raw.dtype))
            return raw

    planes = torch.randn(1, 3, 4, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        density, colour = frozen_field(planes, Spy(4, 4), 1.0, 0.0)(torch.zeros(1, 3, 3))
    assert seen == [(torch.float32, torch.bfloat16)]
    assert density.dtype == colour.dtype == torch.float32
    assert not density.requires_grad and not colour.requires_grad
