"""How far a rendered ray is from its target."""

import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.geometry.colour import stretch_chroma


def colour_loss(
    rendered: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], l1: float, l2: float, chroma: float
) -> Float[Tensor, ""]:
    """Return l1 * mean absolute + l2 * mean squared error of chroma-stretched colours."""
    error = stretch_chroma(rendered - target, chroma)
    return l1 * error.abs().mean() + l2 * error.square().mean()


def foreground_mean(error: Float[Tensor, "*b"], mask: Float[Tensor, "*b"]) -> Float[Tensor, ""]:
    """Return the mean of `error` over mask > 0, and 0 where nothing is."""
    return (error * mask).sum() / mask.sum().clamp(min=1.0)


def depth_loss(
    rendered: Float[Tensor, "*b"], target: Float[Tensor, "*b"], alpha: Float[Tensor, "*b"]
) -> Float[Tensor, ""]:
    """Return the mean absolute depth error, in world units, over rays that truly hit (target > 0).

    Weighted by the detached rendered coverage: the depth of a ray that is not yet opaque says nothing.
    """
    hit = (target > 0).to(rendered.dtype) * alpha.detach()
    return foreground_mean((rendered - target).abs(), hit)


def surface_colour_loss(
    field_colour: Float[Tensor, "*b 3"],
    target: Float[Tensor, "*b 3"],
    mask: Float[Tensor, "*b"],
    l1: float,
    l2: float,
    chroma: float,
) -> Float[Tensor, ""]:
    """Return the colour loss of the field's own colour at known surface points (mask 1)."""
    error = stretch_chroma(field_colour - target, chroma)
    per_ray = (l1 * error.abs() + l2 * error.square()).mean(dim=-1)
    return foreground_mean(per_ray, mask)


def psnr_of(error: Float[Tensor, "*b"]) -> float:
    """Return the PSNR in dB of colours in [0, 1] whose mean squared error is mean(error)."""
    return float(-10.0 * torch.log10(error.mean().clamp(min=1e-10)))
