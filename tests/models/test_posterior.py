"""The posterior over latents, in closed form."""

import math

import pytest
import torch

from ln3d.models.posterior import Posterior


def test_parameters_are_split_into_mean_and_bounded_log_variance() -> None:
    parameters = torch.randn(2, 3, 8, 4, 4) * 30
    posterior = Posterior.from_parameters(parameters.bfloat16(), bias=-3.0)
    rounded = parameters.bfloat16().float()
    assert posterior.mean.dtype == posterior.log_variance.dtype == torch.float32
    assert torch.equal(posterior.mean, rounded[:, :, :4])
    torch.testing.assert_close(posterior.log_variance, 20 * torch.tanh((rounded[:, :, 4:] - 3) / 20))
    assert posterior.log_variance.abs().max() <= 20


def test_bias_is_the_log_variance_at_the_start_as_long_as_it_is_small() -> None:
    posterior = Posterior.from_parameters(torch.zeros(1, 3, 2, 1, 1), bias=-4.0)
    assert posterior.log_variance.mean().item() == pytest.approx(-4.0, abs=0.06)
    assert Posterior.from_parameters(torch.zeros(1, 3, 2, 1, 1), bias=0.0).log_variance.abs().max() == 0


def test_a_sample_is_mean_plus_deviation_times_noise() -> None:
    mean = torch.randn(1, 3, 2, 4, 4)
    posterior = Posterior(mean, torch.full_like(mean, 2 * math.log(0.25)))
    assert torch.equal(posterior.sample(torch.zeros_like(mean)), mean)
    torch.testing.assert_close(posterior.sample(torch.ones_like(mean)), mean + 0.25)
    torch.testing.assert_close(posterior.sample(-2 * torch.ones_like(mean)), mean - 0.5)


def test_samples_have_the_posteriors_moments() -> None:
    mean, log_variance = torch.tensor(0.7).expand(1, 3, 1, 100, 100), torch.tensor(-1.0).expand(1, 3, 1, 100, 100)
    drawn = Posterior(mean, log_variance).sample(torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)))
    assert drawn.mean().item() == pytest.approx(0.7, abs=0.02)
    assert drawn.var().item() == pytest.approx(math.exp(-1.0), rel=0.03)
