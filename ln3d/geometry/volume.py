"""The volume rendering integral over samples on rays (Max 1995; NeRF, eq. 3), through nerfacc.

Only nerfacc's batched functions are used: they are plain tensor code and run on every device.
"""

import torch
from jaxtyping import Float
from nerfacc import accumulate_along_rays, render_weight_from_density
from torch import Tensor

_LEAST_OPACITY = 1e-3


def cell_edges(
    distances: Float[Tensor, "*rays samples"], near: Float[Tensor, "*rays"], far: Float[Tensor, "*rays"]
) -> Float[Tensor, "*rays samples+1"]:
    """Return the borders of the cells that ascending samples stand for: the middles between neighbours.

    The first cell begins at `near` and the last ends at `far`, so the cells cover the ray exactly.
    """
    middles = (distances[..., 1:] + distances[..., :-1]) / 2
    return torch.cat([near[..., None], middles, far[..., None]], dim=-1)


def ray_weights(
    density: Float[Tensor, "*rays samples"], spacing: Float[Tensor, "*rays samples"]
) -> Float[Tensor, "*rays samples"]:
    """Return the share of the light that each sample stops: w = T (1 - exp(-density * spacing)).

    `density` is in 1/world-unit, `spacing` in world units; the weights of a ray sum to at most 1.
    """
    weights: Tensor = render_weight_from_density(torch.zeros_like(spacing), spacing, density)[0]
    return weights


def composite(
    density: Float[Tensor, "*rays samples"],
    values: Float[Tensor, "*rays samples c"],
    spacing: Float[Tensor, "*rays samples"],
) -> tuple[Float[Tensor, "*rays c"], Float[Tensor, "*rays"]]:
    """Integrate values (colours, distances, ...) front to back; return (integral, opacity).

    `density` and `spacing` are as in `ray_weights`. Background is not added: the caller blends it with
    `1 - opacity`.
    """
    weights = ray_weights(density, spacing)
    return accumulate_along_rays(weights, values), weights.sum(dim=-1)


def expected_depth(distance: Float[Tensor, "*rays"], opacity: Float[Tensor, "*rays"]) -> Float[Tensor, "*rays"]:
    """Return the mean distance at which a ray's light is stopped, from the integral sum(w t) and sum(w).

    The divisor is at least 0.001: the depth is 0 where nothing stops the light, and the gradient finite.
    """
    return distance / opacity.clamp(min=_LEAST_OPACITY)
