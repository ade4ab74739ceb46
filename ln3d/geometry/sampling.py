"""Distances along rays: stratified, in a band, and where something is."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 0.01


def stratified(
    near: Float[Tensor, "*r"], far: Float[Tensor, "*r"], count: int, generator: torch.Generator | None = None
) -> Float[Tensor, "*r s"]:
    """Return `count` ascending distances, one in each of as many equal bins (NeRF, eq. 2).

    Uniform within the bin with a `generator`, its middle without.
    """
    share = _bin_shares(near.shape, count, near, generator)
    return near[..., None] + (far - near)[..., None] * share


def importance(
    edges: Float[Tensor, "*r edges"],
    weights: Float[Tensor, "*r cells"],
    count: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*r s"]:
    """Return `count` ascending distances distributed like `weights` over the cells between `edges`.

    The inverse of the piecewise linear cumulative distribution at stratified quantiles: random ones
    with a `generator`, the middles (2i + 1) / 2 count without. Weights are at least 0, in any unit;
    a ray whose weights are all 0 is sampled uniformly over its cells.
    """
    empty = weights.sum(dim=-1, keepdim=True) <= 0
    cumulative = F.pad(torch.where(empty, 1.0, weights).cumsum(dim=-1), (1, 0))
    quantiles = _bin_shares(edges.shape[:-1], count, edges, generator) * cumulative[..., -1:]
    last_cell = weights.shape[-1] - 1
    cell = (torch.searchsorted(cumulative, quantiles, right=True) - 1).clamp(0, last_cell)
    low, high = cumulative.gather(-1, cell), cumulative.gather(-1, cell + 1)
    start, end = edges.gather(-1, cell), edges.gather(-1, cell + 1)
    share = ((quantiles - low) / (high - low).clamp(min=torch.finfo(edges.dtype).tiny)).clamp(0, 1)
    return start + share * (end - start)


def widened(weights: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Return weights that also cover the neighbouring cells and leave none out (Mip-NeRF, eq. 18).

    Each becomes the mean of its two pairwise maxima, plus 0.01: importance samples then bracket a thin
    surface, and a few go where the coarse samples saw nothing.
    """
    padded = F.pad(weights, (1, 1))
    left, right = torch.maximum(padded[..., :-2], weights), torch.maximum(weights, padded[..., 2:])
    return (left + right) / 2 + _FLOOR


def guided(
    near: Float[Tensor, "*r"],
    far: Float[Tensor, "*r"],
    depth: Float[Tensor, "*r"],
    counts: tuple[int, int],
    band: float,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*r s"]:
    """Return ascending distances for rays of known `depth` (0 where nothing is hit).

    Of `counts` = (over the whole ray, around the surface), the first are stratified over [near, far]
    and the others over depth +- `band`; a ray that hits nothing has them all over [near, far].
    """
    whole, around = counts
    low = torch.minimum(torch.maximum(depth - band, near), far)
    high = torch.minimum(torch.maximum(depth + band, near), far)
    hit = torch.cat([stratified(near, far, whole, generator), stratified(low, high, around, generator)], dim=-1)
    missed = stratified(near, far, whole + around, generator)
    return torch.where(depth[..., None] > 0, hit.sort(dim=-1).values, missed)


def _bin_shares(
    shape: tuple[int, ...], count: int, like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "*r s"]:
    """Return numbers in [0, 1), one in each of `count` equal bins."""
    index = torch.arange(count, device=like.device, dtype=like.dtype)
    if generator is None:
        return ((index + 0.5) / count).expand(*shape, count)
    # Drawn where the generator lives, so that a CPU generator gives the same numbers on every device.
    jitter = torch.rand((*shape, count), generator=generator, device=generator.device, dtype=like.dtype)
    return (index + jitter.to(like.device)) / count
