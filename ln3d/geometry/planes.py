"""Tri-planes: three feature planes xy, yz, zx that a point is projected onto."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

AXES = ((0, 1), (1, 2), (2, 0))
"""World axes of each plane, in storage order: (across, along the rows) of xy, yz, zx."""


def project(points: Float[Tensor, "*n 3"]) -> Float[Tensor, "3 *n 2"]:
    """Return the coordinates of `points` on each plane: (x, y), (y, z), (z, x), in the order of `AXES`."""
    cycle = torch.cat([points, points[..., :1]], dim=-1)
    return cycle.unfold(-1, size=2, step=1).movedim(-2, 0)


def sample_planes(planes: Float[Tensor, "b 3 c h w"], points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n c"]:
    """Return the features of `points` in [-1, 1]^3: bilinear on each plane, summed over the planes.

    A plane covers [-1, 1]^2, its first coordinate across the columns and its second down the rows;
    -1 and 1 are the outer borders of the outer texels, and outside there are zeros. Always fp32:
    half-precision sampling is slower on CPUs and loses the position within a texel.
    """
    with torch.autocast(points.device.type, enabled=False):
        # One long row of points: the CPU kernel works on rows, and is half as fast on a column.
        grids = rearrange(project(points.float()), "p b n xy -> p b 1 n xy")
        xy, yz, zx = (_sampled(plane, grid) for plane, grid in zip(planes.float().unbind(dim=1), grids, strict=True))
        return rearrange(xy + yz + zx, "b c 1 n -> b n c").contiguous()


def _sampled(plane: Float[Tensor, "b c h w"], grid: Float[Tensor, "b 1 n 2"]) -> Float[Tensor, "b c 1 n"]:
    return F.grid_sample(plane, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
