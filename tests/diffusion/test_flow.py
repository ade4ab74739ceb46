"""Paths, times and the loss of rectified flow."""

import torch

from ln3d.diffusion import flow


def test_paths_end_at_data_and_at_noise() -> None:
    data, noise = torch.randn(4, 3, 2), torch.randn(4, 3, 2)
    assert torch.equal(flow.interpolate(data, noise, torch.zeros(4)), data)
    assert torch.equal(flow.interpolate(data, noise, torch.ones(4)), noise)


def test_velocity_is_the_derivative_of_the_path() -> None:
    data, noise = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    t, step = torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=torch.float64), 1e-3
    difference = flow.interpolate(data, noise, t + step) - flow.interpolate(data, noise, t - step)
    assert torch.allclose(difference / (2 * step), flow.velocity(data, noise), atol=1e-12)


def test_clean_undoes_the_path() -> None:
    data, noise, t = torch.randn(5, 2), torch.randn(5, 2), torch.rand(5)
    z = flow.interpolate(data, noise, t)
    assert torch.allclose(flow.clean(z, flow.velocity(data, noise), t), data, atol=1e-6)


def test_logit_of_the_times_is_normal_with_the_given_mean_and_deviation() -> None:
    normal = torch.linspace(-3, 3, 31, dtype=torch.float64)
    times = flow.logit_normal(normal, mean=0.5, std=2.0)
    assert torch.allclose(torch.log(times / (1 - times)), 0.5 + 2.0 * normal, atol=1e-12)
    assert flow.logit_normal(torch.zeros(())).item() == 0.5


def test_loss_is_per_sample_and_zero_for_the_true_velocity() -> None:
    data, noise = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    off = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    losses = flow.loss(flow.velocity(data, noise) + off, data, noise)
    assert torch.allclose(losses, torch.tensor([0.0, 1.0, 4.0]), atol=1e-5)
