import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from ln3d.geometry.planes import sample_planes
from ln3d.rendering import fields
from ln3d.rendering.fields import checkpointed, triplane_field


def _head(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))


def _planes_and_points() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    planes = 3 * torch.randn(2, 3, 4, 8, 8, generator=generator)
    return planes, 1.5 * (2 * torch.rand(2, 50, 3, generator=generator) - 1)


def test_field_is_the_activated_head_of_the_summed_features() -> None:
    planes, points = _planes_and_points()
    points = points / 1.5
    density, colour = triplane_field(planes, _head(), density_scale=20.0, density_shift=3.0)(points)
    raw = _head()(sample_planes(planes, points))
    torch.testing.assert_close(density, 20 * torch.log1p(torch.exp(raw[..., 0] - 3)))
    torch.testing.assert_close(colour, raw[..., 1:].sigmoid() * 1.002 - 0.001)


def test_there_is_no_density_outside_the_box() -> None:
    planes, points = _planes_and_points()
    density, colour = triplane_field(planes, _head(), 1.0, -5.0)(points)
    inside = points.abs().amax(dim=-1) <= 1
    assert inside.any() and not inside.all()
    assert (density[inside] > 0).all() and not density[~inside].any()
    assert colour.min() >= -0.001 and colour.max() <= 1.001


def test_only_the_head_runs_under_autocast() -> None:
    planes, points = _planes_and_points()
    seen: list[tuple[torch.dtype, torch.dtype]] = []

    class Spy(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            raw = F.linear(features, torch.ones(4, 4))
            seen.append((features.dtype, raw.dtype))
            return raw

    with torch.autocast("cpu", torch.bfloat16):
        density, colour = triplane_field(planes, Spy(), 1.0, 0.0)(points)
    assert seen == [(torch.float32, torch.bfloat16)]
    assert density.dtype == colour.dtype == torch.float32


def test_extreme_features_keep_values_and_gradients_finite() -> None:
    planes, points = _planes_and_points()
    planes = (1e4 * planes).requires_grad_()
    density, colour = triplane_field(planes, _head(), 20.0, 3.0)(points)
    (gradient,) = torch.autograd.grad(density.sum() + colour.sum(), planes)
    assert density.isfinite().all() and colour.isfinite().all() and gradient.isfinite().all()


def test_a_checkpointed_field_is_the_same_and_keeps_points_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, points = _planes_and_points()
    planes.requires_grad_()
    monkeypatch.setattr(fields, "_PIECE", 16)  # of 50 points: three pieces and a rest
    kept: list[int] = []

    def outcome(field: fields.Field) -> tuple[torch.Tensor, ...]:
        kept.append(0)
        with saved_tensors_hooks(lambda t: (kept.append(kept.pop() + t.numel()), t)[1], lambda t: t):
            density, colour = field(points)
        gradients = torch.autograd.grad((density + colour.sum(dim=-1)).square().sum(), (planes, *head.parameters()))
        return (density, colour, *gradients)

    head = _head()
    plain = triplane_field(planes, head, 20.0, 3.0)
    for one, other in zip(outcome(plain), outcome(checkpointed(plain)), strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] <= points.numel() < kept[0] / 5
