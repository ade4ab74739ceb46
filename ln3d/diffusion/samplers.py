"""ODE solvers: follow a velocity field along a given grid of times, usually from noise at 1 to data at 0."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""dz/dt of a state at a time, which is a tensor without dimensions."""

Sampler = Callable[[Velocity, Tensor, Tensor], Tensor]
"""What `euler` and `heun` are."""


def time_grid(steps: int) -> Float[Tensor, "times"]:
    """Return `steps` + 1 evenly spaced times from 1 (noise) down to 0 (data)."""
    return torch.linspace(1, 0, steps + 1)


def euler(velocity: Velocity, start: Float[Tensor, "*shape"], times: Float[Tensor, "times"]) -> Float[Tensor, "*shape"]:
    """Return the state at the last time, by Euler's method: first order, one evaluation per step."""
    z = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        z = z + (then - now) * velocity(z, now)
    return z


def heun(velocity: Velocity, start: Float[Tensor, "*shape"], times: Float[Tensor, "times"]) -> Float[Tensor, "*shape"]:
    """Return the state at the last time, by Heun's method: second order, two evaluations per step.

    Each step averages the velocities at its start and at the end that Euler's method predicts.
    """
    z = start
    for now, then in zip(times[:-1], times[1:], strict=True):
        here = velocity(z, now)
        there = velocity(z + (then - now) * here, then)
        z = z + (then - now) * (here + there) / 2
    return z


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun}
