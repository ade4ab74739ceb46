"""Where a field has density at all: a grid by which rays skip empty space and place their samples.

After the grids of Instant-NGP (Mueller et al. 2022). This one also remembers density, so that it stands in for the
coarse pass of a renderer, and the empty stretches are cut out of a ray: samples and their spacing live on what is left.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ln3d.geometry.rays import box_interval
from ln3d.geometry.sampling import Jitter, equal_bins, flattened, one_per_bin
from ln3d.geometry.volume import ray_weights
from ln3d.rendering.fields import Field

THRESHOLD = 0.01
"""Density per world unit from which on a cell is occupied. What is left out on a ray of length l has an opacity of at
most 1 - exp(-THRESHOLD * l), so 0.034 on the longest diagonal of the box, if all of it were just below."""

_DILATION = 2  # cells; see `occupancy_grid`
_PROBED = 32_768  # points that a field is asked for at once
_BIN_MULTIPLE = 16  # bins of a ray fill whole vector registers, so that no ray's place in a tile changes its bits


class Occupancy(NamedTuple):
    """A grid over the scene box [-1, 1]^3; the axes are x, y, z."""

    occupied: Bool[Tensor, "b g g g"]
    """Cells that may hold density."""
    density: Float[Tensor, "b g g g"]
    """Density at their centres, per world unit, for placing samples: an estimate."""


class Placed(NamedTuple):
    """Samples on the occupied stretches of rays."""

    distances: Float[Tensor, "b r s"]
    """From the origin, ascending."""
    spacing: Float[Tensor, "b r s"]
    """How much of the occupied length each sample stands for: together all of it, and nothing of the gaps."""


@torch.no_grad()
def occupancy_grid(
    field: Field,
    objects: int,
    *,
    resolution: int = 64,
    threshold: float = THRESHOLD,
    device: torch.device | str = "cpu",
) -> Occupancy:
    """Return the occupied cells of a field of `objects` scenes, `resolution` cells a side, by one query per centre.

    A cell is occupied where its centre or one up to two cells away on each axis is denser than `threshold`. If what is
    denser is made up of balls of at least sqrt(3) / 2 cells radius, then all of it is in occupied cells: any such
    ball that holds a point also holds a centre within sqrt(3) cells of it. The two cells also cover the half cell
    by which the middle of a bin of `place_samples` can be off. Thinner things may be missed: take more cells.
    """
    middles = (torch.arange(resolution, device=device, dtype=torch.float32) + 0.5) * (2 / resolution) - 1
    centres = torch.cartesian_prod(middles, middles, middles)
    density = torch.cat([field(part.expand(objects, -1, -1))[0] for part in centres.split(_PROBED)], dim=1)
    density = density.float().reshape(objects, resolution, resolution, resolution)
    return Occupancy(_dilated(density > threshold), density)


def meets(
    occupancy: Occupancy, origins: Float[Tensor, "b r 3"], directions: Float[Tensor, "b r 3"]
) -> Bool[Tensor, "b r"]:
    """Return which rays pass through an occupied cell."""
    near, far = box_interval(origins, directions)
    index = _cells_along(origins, directions, near, far, occupancy.occupied.shape[-1])
    return occupancy.occupied.flatten()[index].any(dim=-1) & (far > near)


@torch.no_grad()
def place_samples(
    occupancy: Occupancy,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    count: int,
    generator: Jitter | None = None,
) -> Placed:
    """Return `count` samples per ray, most of them where the grid's density would stop the light.

    A ray is marched in bins no longer than a cell, by the density of the grid. Samples are `flattened`
    like the light that the bins stop, in the middle of what each stands for; random there with a
    `generator`. A ray that meets nothing has samples of no spacing.
    """
    near, far = box_interval(origins, directions)
    index = _cells_along(origins, directions, near, far, occupancy.occupied.shape[-1])
    occupied = occupancy.occupied.flatten()[index].float()
    density = occupancy.density.flatten()[index] * occupied
    width = ((far - near) / index.shape[-1])[..., None]
    # The ray without its gaps: how many occupied bins lie before each.
    before = F.pad(occupied.cumsum(dim=-1), (1, 0))
    even = occupied / before[..., -1:].clamp(min=1)
    weights = flattened(ray_weights(density, width.expand_as(density)), even) * occupied
    borders = equal_bins(before, weights, count)
    sample = one_per_bin(borders, generator)
    cell = (torch.searchsorted(before, sample, right=True) - 1).clamp(0, index.shape[-1] - 1)
    along = cell + sample - before.gather(-1, cell)
    return Placed(near[..., None] + width * along, width * borders.diff(dim=-1))


def _cells_along(
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    near: Float[Tensor, "b r"],
    far: Float[Tensor, "b r"],
    side: int,
) -> Int[Tensor, "b r bins"]:
    """Return the cells (flat, over all objects) of the middles of equal bins, none longer than a cell."""
    bins = _BIN_MULTIPLE * math.ceil(math.sqrt(3) * side / _BIN_MULTIPLE)
    share = (torch.arange(bins, device=near.device) + 0.5) / bins
    start = (origins + near[..., None] * directions + 1) * (side / 2)
    stride = (far - near)[..., None] * directions * (side / 2)
    index = torch.arange(len(origins), device=near.device)[:, None, None]
    for axis in range(3):
        along = torch.addcmul(start[..., axis, None], stride[..., axis, None], share)
        index = index * side + along.clamp_(0, side - 1).long()
    return index


def _dilated(occupied: Bool[Tensor, "b g g g"]) -> Bool[Tensor, "b g g g"]:
    grown = occupied[:, None].float()
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * _DILATION + 1, _DILATION
        grown = F.max_pool3d(grown, size, stride=1, padding=padding)
    return grown[:, 0] > 0
