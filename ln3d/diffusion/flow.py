"""Rectified flow: straight paths from data (t = 0) to noise (t = 1) (Liu et al. 2023; Esser et al. 2024)."""

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor


def interpolate(
    data: Float[Tensor, "b *rest"], noise: Float[Tensor, "b *rest"], t: Float[Tensor, "b"]
) -> Float[Tensor, "b *rest"]:
    """Return the point of each path at its time in [0, 1]: z_t = (1 - t) x_0 + t eps."""
    times = _per_sample(t, data)
    return (1 - times) * data + times * noise


def velocity(data: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return dz/dt of the path from `data` to `noise`, what the network learns: eps - x_0."""
    return noise - data


def clean(
    z: Float[Tensor, "b *rest"], predicted: Float[Tensor, "b *rest"], t: Float[Tensor, "b"]
) -> Float[Tensor, "b *rest"]:
    """Return the data that a predicted velocity points at from `z` at time `t`: x_0 = z_t - t v."""
    return z - _per_sample(t, z) * predicted


def logit_normal(normal: Float[Tensor, "*shape"], mean: float = 0.0, std: float = 1.0) -> Float[Tensor, "*shape"]:
    """Return times in (0, 1), dense in the middle, from standard normal numbers (Esser et al. 2024, eq. 19)."""
    return torch.sigmoid(mean + std * normal)


def loss(
    predicted: Float[Tensor, "b *rest"], data: Float[Tensor, "b *rest"], noise: Float[Tensor, "b *rest"]
) -> Float[Tensor, "b"]:
    """Return the mean squared error of the predicted velocity, one value per sample (conditional flow matching)."""
    return reduce((predicted - velocity(data, noise)) ** 2, "b ... -> b", "mean")


def _per_sample(t: Tensor, like: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (like.ndim - 1))
