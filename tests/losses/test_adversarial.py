"""Adversarial losses at logits where their values are known, and the slope of a linear critic."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ln3d.losses.adversarial import AdversarialKind, discriminator_loss, generator_loss, lazy_factor, r1_penalty


def _logits(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_hinge_at_its_margins() -> None:
    beyond = discriminator_loss(_logits(1.0, 3.0), _logits(-1.0, -7.0), "hinge")
    assert beyond.item() == 0
    assert discriminator_loss(_logits(0.0), _logits(0.0), "hinge").item() == 2
    assert discriminator_loss(_logits(0.5, 2.0), _logits(-0.75, -2.0), "hinge").item() == 0.25 + 0.125
    assert generator_loss(_logits(2.0, -4.0), "hinge").item() == 1.0


def test_non_saturating_where_nothing_is_known() -> None:
    assert discriminator_loss(_logits(0.0), _logits(0.0), "non_saturating").item() == pytest.approx(2 * math.log(2))
    assert generator_loss(_logits(0.0), "non_saturating").item() == pytest.approx(math.log(2))


@given(real=st.floats(-30, 30), fake=st.floats(-30, 30))
def test_non_saturating_is_the_cross_entropy(real: float, fake: float) -> None:
    entropy = nn.functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    expected = entropy(_logits(real), ones) + entropy(_logits(fake), zeros)
    torch.testing.assert_close(discriminator_loss(_logits(real), _logits(fake), "non_saturating"), expected)
    torch.testing.assert_close(generator_loss(_logits(fake), "non_saturating"), entropy(_logits(fake), ones))


@pytest.mark.parametrize("kind", ["non_saturating", "hinge"])
def test_a_fooled_discriminator_teaches_the_generator_in_the_right_direction(kind: AdversarialKind) -> None:
    """The generator raises its logits even where the discriminator is sure; the discriminator parts the two."""
    fake = _logits(-0.5, 0.3).requires_grad_()
    generator_loss(fake, kind).backward()
    assert fake.grad is not None and (fake.grad < 0).all()
    sure = _logits(-20.0).requires_grad_()
    generator_loss(sure, kind).backward()
    assert sure.grad is not None and sure.grad.item() == pytest.approx(-1)  # it does not saturate
    real, fake = _logits(0.2).requires_grad_(), _logits(-0.2).requires_grad_()
    discriminator_loss(real, fake, kind).backward()
    assert real.grad is not None and real.grad.item() < 0
    assert fake.grad is not None and fake.grad.item() > 0


def test_as_many_of_one_as_of_the_other_are_not_needed() -> None:
    real, fake = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    each = [discriminator_loss(real, fake[i : i + 1], "hinge") for i in range(5)]
    torch.testing.assert_close(discriminator_loss(real, fake, "hinge"), torch.stack(each).mean())


@pytest.mark.parametrize("gamma", [0.5, 10.0])
def test_r1_of_a_linear_critic_is_its_weight_squared(gamma: float) -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()
    weight = critic[1].weight
    pictures = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    penalty = r1_penalty(critic(pictures), pictures, gamma)
    torch.testing.assert_close(penalty, gamma / 2 * weight.square().sum())
    penalty.backward()  # and its gradient is gamma times the weight
    torch.testing.assert_close(weight.grad, gamma * weight.detach())


def test_r1_of_a_quadratic_critic_is_the_mean_of_each_pictures_own_slope() -> None:
    pictures = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    logits = (pictures.square().flatten(1).sum(dim=1) / 2)[:, None].expand(5, 3)  # three heads that agree
    expected = pictures.detach().square().flatten(1).sum(dim=1).mean() / 2
    torch.testing.assert_close(r1_penalty(logits, pictures, 1.0), expected)


@pytest.mark.parametrize("interval", [1, 4, 16])
def test_a_lazy_penalty_is_the_same_on_average(interval: int) -> None:
    factors = [lazy_factor(step, interval) for step in range(16)]
    assert sum(factors) / 16 == 1
    assert sum(factor > 0 for factor in factors) == 16 // interval
    assert factors[0] == interval
