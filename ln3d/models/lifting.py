"""Posed RGB-D views, unprojected and averaged onto the three planes."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ln3d.models.views import Views

_OUTERMOST_CHANNELS, _SLAB_CHANNELS = 10, 4
_SHARPNESS = 12.0  # per world unit: how strongly the nearest surface outweighs the ones behind it
_PLANE_AXES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # column, row and height axis of the planes xy, yz, zx


def lifted_channels(slabs: int) -> int:
    """Return how many channels a lifted plane has."""
    return _OUTERMOST_CHANNELS + _SLAB_CHANNELS * slabs


@torch.no_grad()
def lift(views: Views, resolution: int, chroma_gain: float, slabs: int = 0) -> Float[Tensor, "b 3 c r r"]:
    """Return what the views saw, per plane cell: seen from the front, from the back, how much, and what lies between.

    Channels: colour in about [-1, 1] and height of the surface towards the plane's positive axis (4), the same
    for its negative axis (4), occupancy in {0, 1}, and log(1 + points) / 4. A cell's points are averaged with
    weights exp(+-12 height), a soft version of "the outermost one wins". Then, for each of the `slabs` of equal
    thickness that the box is cut into across the plane, lowest first: mean colour and occupancy (4). Empty cells are 0.
    """
    colour = rearrange(2.0 * views.stretched_colour(chroma_gain) - 1.0, "b v c h w -> (b v h w) c")
    batch, count = views.depth.shape[0], views.depth[0].numel()
    points = views.points().reshape(-1, 3)
    owner = torch.arange(batch, device=points.device).repeat_interleave(count)
    seen = (views.depth.reshape(-1) > 0) & (points.abs() < 1).all(dim=-1)
    points, colour, owner = points[seen], colour[seen], owner[seen]
    planes = colour.new_empty(3, batch * resolution**2, lifted_channels(slabs))
    for plane, (column, row, up) in zip(planes, _PLANE_AXES, strict=True):
        place = _cells(points[:, [column, row]], resolution)
        cell = (owner * resolution + place[:, 1]) * resolution + place[:, 0]
        _outermost(colour, points[:, up, None], cell, out=plane[:, :_OUTERMOST_CHANNELS])
        _slabs(colour, points[:, up], cell, out=plane[:, _OUTERMOST_CHANNELS:])
    return rearrange(planes, "p (b h w) c -> b p c h w", b=batch, h=resolution)


def _cells(places: Float[Tensor, "*n"], count: int) -> Int[Tensor, "*n"]:
    """Return which of `count` equal parts of [-1, 1] these lie in."""
    return ((places + 1) * (count / 2)).long().clamp(0, count - 1)


def _outermost(
    colour: Float[Tensor, "n 3"], height: Float[Tensor, "n 1"], cell: Int[Tensor, "n"], out: Float[Tensor, "m 10"]
) -> None:
    """Average coloured points over the cells of a plane, those in front and those at the back most of all."""
    value = torch.cat([colour, height], dim=-1)
    front, back = torch.exp(_SHARPNESS * height), torch.exp(-_SHARPNESS * height)
    rows = torch.cat([value * front, front, value * back, back, torch.ones_like(height)], dim=-1)
    total = rows.new_zeros(len(out), rows.shape[-1]).index_add_(0, cell, rows)
    amount = total[:, 10]
    torch.div(total[:, 0:4], total[:, 4:5].clamp(min=1e-12), out=out[:, 0:4])
    torch.div(total[:, 5:9], total[:, 9:10].clamp(min=1e-12), out=out[:, 4:8])
    out[:, 8] = amount > 0
    out[:, 9] = torch.log1p(amount) / 4


def _slabs(
    colour: Float[Tensor, "n 3"], height: Float[Tensor, "n"], cell: Int[Tensor, "n"], out: Float[Tensor, "m c"]
) -> None:
    """Average coloured points over the cells of every slab, as many as there is room for."""
    slabs = out.shape[1] // _SLAB_CHANNELS
    if slabs == 0:
        return
    rows = torch.cat([colour, torch.ones_like(height)[:, None]], dim=-1)
    total = rows.new_zeros(len(out) * slabs, _SLAB_CHANNELS).index_add_(0, cell * slabs + _cells(height, slabs), rows)
    total, slab = total.unflatten(0, (len(out), slabs)), out.unflatten(1, (slabs, _SLAB_CHANNELS))
    amount = total[..., 3:]
    torch.div(total[..., :3], amount.clamp(min=1), out=slab[..., :3])
    slab[..., 3:] = amount > 0
