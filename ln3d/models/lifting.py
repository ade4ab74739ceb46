"""Posed RGB-D views, unprojected and averaged onto the three planes."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ln3d.models.views import Views

LIFTED_CHANNELS = 10
_SHARPNESS = 12.0  # per world unit: how strongly the nearest surface outweighs the ones behind it
_PLANE_AXES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # column, row and height axis of the planes xy, yz, zx


@torch.no_grad()
def lift(views: Views, resolution: int, chroma_gain: float) -> Float[Tensor, "b 3 10 r r"]:
    """Return what the views saw, per plane cell: seen from the front, from the back, and how much.

    Channels: colour in about [-1, 1] and height of the surface towards the plane's positive axis (4), the same
    for its negative axis (4), occupancy in {0, 1}, and log(1 + points) / 4. A cell's points are averaged with
    weights exp(+-12 height), a soft version of "the outermost one wins". Empty cells are 0.
    """
    colour = rearrange(2.0 * views.stretched_colour(chroma_gain) - 1.0, "b v c h w -> (b v h w) c")
    batch, count = views.depth.shape[0], views.depth[0].numel()
    points = views.points().reshape(-1, 3)
    owner = torch.arange(batch, device=points.device).repeat_interleave(count)
    seen = (views.depth.reshape(-1) > 0) & (points.abs() < 1).all(dim=-1)
    points, colour, owner = points[seen], colour[seen], owner[seen]
    planes = [_splat(points, colour, owner, axes, batch, resolution) for axes in _PLANE_AXES]
    return torch.stack(planes, dim=1)


def _splat(
    points: Float[Tensor, "n 3"],
    colour: Float[Tensor, "n 3"],
    owner: Int[Tensor, "n"],
    axes: tuple[int, int, int],
    batch: int,
    resolution: int,
) -> Float[Tensor, "b 10 r r"]:
    """Average coloured points onto one plane; the first axis runs along the columns, the second along the rows."""
    column, row, up = axes
    place = ((points + 1) * (resolution / 2)).long().clamp(0, resolution - 1)
    cell = (owner * resolution + place[:, row]) * resolution + place[:, column]
    height = points[:, up, None]
    value = torch.cat([colour, height], dim=-1)
    front, back = torch.exp(_SHARPNESS * height), torch.exp(-_SHARPNESS * height)
    rows = torch.cat([value * front, front, value * back, back, torch.ones_like(height)], dim=-1)
    total = rows.new_zeros(batch * resolution * resolution, rows.shape[-1]).index_add_(0, cell, rows)
    amount = total[:, 10:]
    lifted = torch.cat(
        [
            total[:, 0:4] / total[:, 4:5].clamp(min=1e-12),
            total[:, 5:9] / total[:, 9:10].clamp(min=1e-12),
            (amount > 0).to(total.dtype),
            torch.log1p(amount) / 4,
        ],
        dim=-1,
    )
    return rearrange(lifted, "(b h w) c -> b c h w", b=batch, h=resolution)
