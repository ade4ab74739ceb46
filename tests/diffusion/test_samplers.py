"""Solvers keep the order they state, and what is straight they solve at once."""

import math

import pytest
import torch

from ln3d.diffusion.samplers import SAMPLERS, Sampler, euler, heun, time_grid


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
def test_sampler_converges_at_its_stated_order(sampler: Sampler, order: int) -> None:
    start = torch.ones((), dtype=torch.float64)  # dz/dt = z, so z(0) = z(1) / e
    grids = [torch.linspace(1, 0, n + 1, dtype=torch.float64) for n in (32, 64)]
    coarse, fine = (abs(float(sampler(lambda z, t: z, start, times)) - 1 / math.e) for times in grids)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("sampler", SAMPLERS.values())
@pytest.mark.parametrize("steps", [1, 7])
def test_straight_paths_are_exact_in_any_number_of_steps(sampler: Sampler, steps: int) -> None:
    data, noise = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    reached = sampler(lambda z, t: noise - data, noise, time_grid(steps).double())
    assert torch.allclose(reached, data, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS.values())
def test_gaussian_data_come_out_with_their_own_deviation(sampler: Sampler) -> None:
    # For data of variance s^2 the marginal at t has variance v(t) = (1-t)^2 s^2 + t^2, and the flow is
    # z' = z v'(t) / (2 v(t)): it maps z(1) to s z(1).
    deviation = 0.3

    def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        variance = (1 - t) ** 2 * deviation**2 + t**2
        return z * (t - (1 - t) * deviation**2) / variance

    start = torch.tensor([-1.5, 0.2, 2.0], dtype=torch.float64)
    reached = sampler(velocity, start, torch.linspace(1, 0, 2001, dtype=torch.float64))
    assert torch.allclose(reached, deviation * start, rtol=5e-3)


def test_time_grid_falls_from_noise_to_data() -> None:
    assert time_grid(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
