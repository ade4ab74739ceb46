"""Colour and depth errors: what they measure and what they leave out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.losses.reconstruction import (
    colour_loss,
    depth_loss,
    foreground_mean,
    psnr_of,
    scale_invariant_depth_loss,
    surface_colour_loss,
)

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
GREY, TINT = torch.ones(3).double(), torch.tensor([0.587, -0.299, 0.0]).double()  # all luma, and none of it
channel = st.floats(0, 1)


def test_colour_loss_of_a_constant_error() -> None:
    target = torch.rand(2, 5, 3).double()
    for error, gain in ((0.1 * GREY, 1.0), (0.1 * TINT, 3.0)):  # luma counts once, hue three times
        seen = gain * error
        expected = 0.5 * seen.abs().mean() + 4.0 * seen.square().mean()
        torch.testing.assert_close(colour_loss(target + error, target, l1=0.5, l2=4.0, chroma=3.0), expected)
    assert colour_loss(target, target, 1.0, 1.0, 3.0).item() == 0


def test_depth_is_compared_where_something_is_hit_and_seen() -> None:
    target = torch.tensor([2.0, 3.0, 0.0, 0.0])
    alpha = torch.tensor([1.0, 0.5, 1.0, 1.0], requires_grad=True)
    rendered = torch.tensor([2.1, 3.4, 9.0, -5.0], requires_grad=True)
    loss = depth_loss(rendered, target, alpha)
    assert loss.item() == pytest.approx((1.0 * 0.1 + 0.5 * 0.4) / 1.5, rel=1e-4)
    loss.backward()
    assert rendered.grad is not None
    assert rendered.grad[2:].tolist() == [0, 0]
    assert rendered.grad[:2].tolist() == pytest.approx([1 / 1.5, 0.5 / 1.5])
    assert alpha.grad is None  # coverage must not fall to please the depth
    assert depth_loss(rendered, torch.zeros(4), alpha).item() == 0


def _depths(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    rendered, target = (1 + 3 * torch.rand(2, 40, generator=random, dtype=torch.float64) for _ in range(2))
    return rendered, target, torch.ones(2, 40, dtype=torch.float64)


@given(scale=st.floats(0.1, 10), invariance=st.floats(0, 1))
def test_a_factor_on_all_depths_costs_what_is_left_of_its_square(scale: float, invariance: float) -> None:
    _, target, alpha = _depths()
    loss = scale_invariant_depth_loss(scale * target, target, alpha, invariance)
    assert loss.item() == pytest.approx((1 - invariance) * math.log(scale) ** 2, rel=1e-9, abs=1e-12)


@given(scale=st.floats(0.1, 10))
def test_full_invariance_forgets_the_scale_of_every_object(scale: float) -> None:
    rendered, target, alpha = _depths()
    factors = torch.tensor([[scale], [1.0]], dtype=torch.float64)
    same, scaled = (scale_invariant_depth_loss(r, target, alpha, 1.0) for r in (rendered, factors * rendered))
    torch.testing.assert_close(scaled, same)
    assert same.item() > 0.1


@pytest.mark.parametrize("invariance", [0.0, 0.5, 1.0])
def test_scale_invariant_depth_is_eigens_formula(invariance: float) -> None:
    rendered, target, alpha = _depths()
    d = rendered.log() - target.log()
    n = d.shape[1]
    expected = (d.square().sum(dim=1) / n - invariance / n**2 * d.sum(dim=1).square()).mean()
    torch.testing.assert_close(scale_invariant_depth_loss(rendered, target, alpha, invariance), expected)
    pairs = (d[:, :, None] - d[:, None, :]).square().sum(dim=(1, 2)) / (2 * n**2)  # his eq. 2
    if invariance == 1:
        torch.testing.assert_close(expected, pairs.mean())


def test_scale_invariant_depth_is_blind_where_nothing_is_hit() -> None:
    rendered, target, alpha = _depths()
    target[:, 20:] = 0
    rendered[:, 30:] = 0
    rendered, alpha = rendered.requires_grad_(), alpha.requires_grad_()
    loss = scale_invariant_depth_loss(rendered, target, alpha, 0.5)
    kept = scale_invariant_depth_loss(rendered[:, :20], target[:, :20], alpha[:, :20], 0.5)
    torch.testing.assert_close(loss, kept)
    loss.backward()
    assert rendered.grad is not None
    assert (rendered.grad[:, 20:] == 0).all() and rendered.grad[:, :20].any()
    assert alpha.grad is None
    assert scale_invariant_depth_loss(rendered, torch.zeros_like(target), alpha, 0.5).item() == 0


def test_mean_over_a_mask_and_over_nothing() -> None:
    error, mask = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 0.0, 1.0])
    assert foreground_mean(error, mask).item() == 2.5
    assert foreground_mean(error, torch.zeros(3)).item() == 0


def test_surface_colour_is_compared_where_the_surface_is_known() -> None:
    target, mask = torch.rand(4, 3).double(), torch.tensor([1.0, 1.0, 0.0, 1.0]).double()
    field = torch.where(mask[:, None] > 0, target + 0.1, torch.full_like(target, 9.0))
    expected = 0.5 * 0.1 + 4.0 * 0.01
    loss = surface_colour_loss(field, target, mask, l1=0.5, l2=4.0, chroma=3.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    whole = torch.ones(4).double()
    torch.testing.assert_close(
        surface_colour_loss(field, target, whole, 0.5, 4.0, 3.0), colour_loss(field, target, 0.5, 4.0, 3.0)
    )


@pytest.mark.parametrize(("error", "decibels"), [(1.0, 0.0), (0.01, 20.0), (1e-4, 40.0), (0.0, 100.0)])
def test_psnr_of_a_mean_squared_error(error: float, decibels: float) -> None:
    assert psnr_of(torch.tensor([error, error])) == pytest.approx(decibels, abs=1e-4)
