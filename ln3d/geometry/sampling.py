"""Distances along rays: stratified, in a band, and where something is."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 0.01
_EVENLY = 0.3


Jitter = torch.Generator | Sequence[torch.Generator]
"""Where random numbers come from: one generator, or one for each object of a batch, the first axis."""


def stratified(
    near: Float[Tensor, "*r"], far: Float[Tensor, "*r"], count: int, generator: Jitter | None = None
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
    generator: Jitter | None = None,
) -> Float[Tensor, "*r s"]:
    """Return `count` ascending distances distributed like `weights` over the cells between `edges`.

    The inverse of the piecewise linear cumulative distribution at stratified quantiles: random ones
    with a `generator`, the middles (2i + 1) / 2 count without. Weights are at least 0, in any unit;
    a ray whose weights are all 0 is sampled uniformly over its cells.
    """
    quantiles = _bin_shares(edges.shape[:-1], count, edges, generator)
    return _at_quantiles(edges, weights, quantiles)


def equal_bins(
    edges: Float[Tensor, "*r edges"], weights: Float[Tensor, "*r cells"], count: int
) -> Float[Tensor, "*r borders"]:
    """Return the `count` + 1 borders of bins that hold the same share of the `weights` each; see `importance`."""
    share = torch.arange(1, count, device=edges.device, dtype=edges.dtype) / count
    inner = _at_quantiles(edges, weights, share.expand(*edges.shape[:-1], count - 1))
    return torch.cat([edges[..., :1], inner, edges[..., -1:]], dim=-1)


def one_per_bin(borders: Float[Tensor, "*r borders"], generator: Jitter | None = None) -> Float[Tensor, "*r s"]:
    """Return the middle of every bin, or with a `generator` a uniformly random place in it.

    The middle makes the quadrature over the bins one of second order, however unequal they are.
    """
    width = borders.diff(dim=-1)
    if generator is None:
        return borders[..., :-1] + width / 2
    return borders[..., :-1] + width * _uniform(tuple(width.shape), generator, width.dtype).to(width.device)


def flattened(stopped: Float[Tensor, "*r s"], even: Float[Tensor, "*r s"]) -> Float[Tensor, "*r s"]:
    """Return weights to place samples by, from the light that cells stop and an `even` distribution that sums to 1.

    The cube root of the light that a cell or its neighbours stop, and three tenths beside it evenly: the error of the
    midpoint rule is least where samples are as dense as the cube root of the integrand's curvature.
    """
    root = widened(stopped, floor=0.0) ** (1 / 3)
    return root / root.sum(dim=-1, keepdim=True).clamp(min=1e-3) + _EVENLY * even


def _at_quantiles(
    edges: Float[Tensor, "*r edges"], weights: Float[Tensor, "*r cells"], quantiles: Float[Tensor, "*r s"]
) -> Float[Tensor, "*r s"]:
    empty = weights.sum(dim=-1, keepdim=True) <= 0
    cumulative = F.pad(torch.where(empty, 1.0, weights).cumsum(dim=-1), (1, 0))
    quantiles = quantiles * cumulative[..., -1:]
    last_cell = weights.shape[-1] - 1
    cell = (torch.searchsorted(cumulative, quantiles, right=True) - 1).clamp(0, last_cell)
    low, high = cumulative.gather(-1, cell), cumulative.gather(-1, cell + 1)
    start, end = edges.gather(-1, cell), edges.gather(-1, cell + 1)
    share = ((quantiles - low) / (high - low).clamp(min=torch.finfo(edges.dtype).tiny)).clamp(0, 1)
    return start + share * (end - start)


def widened(weights: Float[Tensor, "*r s"], floor: float = _FLOOR) -> Float[Tensor, "*r s"]:
    """Return weights that also cover the neighbouring cells and leave none out (Mip-NeRF, eq. 18).

    Each becomes the mean of its two pairwise maxima, plus the `floor`: importance samples then bracket a thin
    surface, and a few go where the coarse samples saw nothing.
    """
    padded = F.pad(weights, (1, 1))
    left, right = torch.maximum(padded[..., :-2], weights), torch.maximum(weights, padded[..., 2:])
    return (left + right) / 2 + floor


def guided(
    near: Float[Tensor, "*r"],
    far: Float[Tensor, "*r"],
    depth: Float[Tensor, "*r"],
    counts: tuple[int, int],
    band: float,
    generator: Jitter | None = None,
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


def _bin_shares(shape: tuple[int, ...], count: int, like: Tensor, generator: Jitter | None) -> Float[Tensor, "*r s"]:
    """Return numbers in [0, 1), one in each of `count` equal bins."""
    index = torch.arange(count, device=like.device, dtype=like.dtype)
    if generator is None:
        return ((index + 0.5) / count).expand(*shape, count)
    return (index + _uniform((*shape, count), generator, like.dtype).to(like.device)) / count


def _uniform(shape: tuple[int, ...], jitter: Jitter, dtype: torch.dtype) -> Tensor:
    """Return numbers in [0, 1); CPU generators give the same ones whatever the device of the rays."""
    if isinstance(jitter, torch.Generator):
        return torch.rand(shape, generator=jitter, device=jitter.device, dtype=dtype)
    return torch.stack([_uniform(shape[1:], own, dtype) for own in jitter])
