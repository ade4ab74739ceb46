"""How far a rendered ray is from its target."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.geometry.colour import stretch_chroma

_LEAST_DEPTH = 1e-3  # world units: a logarithm needs something

Denominator = Callable[[Tensor], Tensor]
"""From the sum of the weights to what a weighted mean divides by: more than that sum where this is part of a batch."""


def at_least_one(weight: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return `weight`, but 1 where it is less: a mean over nothing is 0."""
    return weight.clamp(min=1.0)


def colour_loss(
    rendered: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"], l1: float, l2: float, chroma: float
) -> Float[Tensor, ""]:
    """Return l1 * mean absolute + l2 * mean squared error of chroma-stretched colours."""
    error = stretch_chroma(rendered - target, chroma)
    return l1 * error.abs().mean() + l2 * error.square().mean()


def foreground_mean(
    error: Float[Tensor, "*b"], mask: Float[Tensor, "*b"], denominator: Denominator = at_least_one
) -> Float[Tensor, ""]:
    """Return the mean of `error` over mask > 0, and 0 where nothing is."""
    return (error * mask).sum() / denominator(mask.sum())


def depth_loss(
    rendered: Float[Tensor, "*b"],
    target: Float[Tensor, "*b"],
    alpha: Float[Tensor, "*b"],
    denominator: Denominator = at_least_one,
) -> Float[Tensor, ""]:
    """Return the mean absolute depth error, in world units, over rays that truly hit (target > 0).

    Weighted by the detached rendered coverage: the depth of a ray that is not yet opaque says nothing.
    """
    hit = (target > 0).to(rendered.dtype) * alpha.detach()
    return foreground_mean((rendered - target).abs(), hit, denominator)


def scale_invariant_depth_loss(
    rendered: Float[Tensor, "b r"], target: Float[Tensor, "b r"], alpha: Float[Tensor, "b r"], invariance: float
) -> Float[Tensor, ""]:
    """Return mean(e^2) - invariance * mean(e)^2, e = log(rendered / target), mean over objects (Eigen 2014, eq. 4).

    The means are over an object's rays that truly hit, weighted by coverage as in `depth_loss`. With an
    invariance of 1 a factor on all the depths of an object costs nothing; with 0 this is a squared log error.
    """
    hit = target > 0
    weights = hit.to(rendered.dtype) * alpha.detach()
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1.0)
    error = torch.log(rendered.clamp(min=_LEAST_DEPTH)) - torch.log(torch.where(hit, target, 1.0))
    squared, mean = (weights * error.square()).sum(dim=-1), (weights * error).sum(dim=-1)
    return (squared - invariance * mean.square()).mean()


def surface_colour_loss(
    field_colour: Float[Tensor, "*b 3"],
    target: Float[Tensor, "*b 3"],
    mask: Float[Tensor, "*b"],
    l1: float,
    l2: float,
    chroma: float,
    denominator: Denominator = at_least_one,
) -> Float[Tensor, ""]:
    """Return the colour loss of the field's own colour at known surface points (mask 1)."""
    error = stretch_chroma(field_colour - target, chroma)
    per_ray = (l1 * error.abs() + l2 * error.square()).mean(dim=-1)
    return foreground_mean(per_ray, mask, denominator)


def psnr_of(error: Float[Tensor, "*b"]) -> float:
    """Return the PSNR in dB of colours in [0, 1] whose mean squared error is mean(error)."""
    return float(-10.0 * torch.log10(error.mean().clamp(min=1e-10)))
