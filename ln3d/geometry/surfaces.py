"""From a density field to a triangle mesh: coarse-to-fine queries, marching cubes, and the choice of the level.

A grid of resolution N has N cells per axis over the box [-b, b]^3, so N + 1 nodes; node (i, j, k) lies at
x = -b + 2 b i / N, and so on. What is at or above the level is inside, and nothing beyond the box is inside:
a surface that would leave it is closed on its faces.
"""

from collections.abc import Callable
from functools import partial

import mcubes
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import binary_dilation
from torch import Tensor

Density = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]

TILE = 1 << 15
"""Points per query: always this many, the last tile padded, so that a value depends on its point alone."""
_COARSEST = 48  # cells per axis that the first grid has at least, so that chair legs are not missed


def extract_surface(
    density: Density,
    resolution: int,
    iso: float,
    box: float = 1.0,
    *,
    near: float = 0.1,
    device: torch.device | str = "cpu",
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "m 3"]]:
    """Return vertices (world units) and faces of the surface {density = iso}, wound outwards: signed volume > 0.

    The result is that of a dense grid, wherever a first grid of at least 48 cells per axis sees the surface: cells
    that are neither all inside nor all below `near` * iso are halved, with their neighbours, until the resolution is
    reached, and every surface found is followed into the cells it enters. Without a surface both arrays are empty.
    """
    return marching_cubes(sample_near_surface(density, resolution, iso, box, near=near, device=device), iso, box)


def marching_cubes(
    values: Float[np.ndarray, "x y z"], iso: float, box: float = 1.0
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "m 3"]]:
    """Return vertices and faces of {values = iso} for values on the nodes of a grid (Lorensen and Cline 1987)."""
    outside = min(float(values.min()), iso - max(abs(iso), 1.0))
    closed = np.pad(values.astype(np.float32, copy=False), 1, constant_values=outside)
    vertices, faces = mcubes.marching_cubes(closed, iso)
    cells = np.array(values.shape) - 1
    world = ((vertices - 1.0) * (2.0 * box / cells) - box).clip(-box, box)
    return world.astype(np.float32), faces.astype(np.int64)


def sample_near_surface(
    density: Density,
    resolution: int,
    iso: float,
    box: float = 1.0,
    *,
    near: float = 0.1,
    device: torch.device | str = "cpu",
) -> Float[np.ndarray, "x y z"]:
    """Return values on all nodes: the field's own around the surface, elsewhere one of the right side of `iso`."""
    stride = 1
    while resolution // (2 * stride) >= _COARSEST:
        stride *= 2
    cells = -(-resolution // stride)  # the coarse grid may overhang the box by less than one of its cells
    scale = 2.0 * box / resolution

    def query(spacing: float, nodes: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        return _query(density, (nodes * spacing - box).astype(np.float32), device)

    shape = (cells + 1,) * 3
    values = query(stride * scale, np.indices(shape).reshape(3, -1).T).reshape(shape)
    while stride > 1:
        stride //= 2
        values = _refine(values, iso, min(near * iso, iso), partial(query, stride * scale))
    return values[: resolution + 1, : resolution + 1, : resolution + 1]


def signed_volume(vertices: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "m 3"]) -> float:
    """Return the volume that a closed mesh encloses; negative where it is wound inwards (divergence theorem)."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ni,ni->", a, np.cross(b, c)) / 6.0)


def iso_from_profiles(
    densities: Float[np.ndarray, "n k"], offsets: Float[np.ndarray, " k"], candidates: int = 64
) -> float:
    """Return the density level whose surface agrees best with rendered depth.

    `densities` are the field's values along n rays at `offsets` (increasing, world units) from each ray's rendered
    depth; the camera is on the negative side. A level's surface on a ray is its first crossing from the front; a ray
    that does not cross, or starts inside, counts as if it missed by the largest offset. The level with the least
    mean absolute miss is taken, out of geometrically spaced ones between the extremes of the densities. An absolute
    error, because rays along silhouettes have rendered depths that lie on no surface.

    Raises ValueError where there is no profile or no density.
    """
    densities, offsets = np.asarray(densities, np.float64), np.asarray(offsets, np.float64)
    if densities.size == 0 or not np.isfinite(densities).all() or densities.max() <= 0:
        raise ValueError("the profiles hold no density")
    highest = densities.max(axis=1)
    lowest = max(np.quantile(densities.min(axis=1), 0.5), 1e-4 * float(np.median(highest)), 1e-12)
    levels = np.geomspace(lowest, max(float(highest.max()), 2 * lowest), candidates)
    for _ in range(2):  # over the whole range, then once more between the neighbours of the best
        best = int(np.argmin([_mean_miss(densities, offsets, level) for level in levels]))
        chosen = float(levels[best])
        levels = np.geomspace(levels[max(best - 1, 0)], levels[min(best + 1, candidates - 1)], candidates)
    return chosen


def _mean_miss(densities: Float[np.ndarray, "n k"], offsets: Float[np.ndarray, " k"], level: float) -> float:
    inside = densities >= level
    after = inside.argmax(axis=1)
    row = np.flatnonzero(inside.any(axis=1) & (after > 0))
    after = after[row]
    low, high = densities[row, after - 1], densities[row, after]
    share = (level - low) / (high - low)
    miss = np.full(len(densities), np.abs(offsets).max())
    miss[row] = np.abs(offsets[after - 1] + share * (offsets[after] - offsets[after - 1]))
    return float(miss.mean())


def _refine(
    coarse: Float[np.ndarray, "x y z"],
    iso: float,
    trace: float,
    query: Callable[[Int[np.ndarray, "n 3"]], Float[np.ndarray, " n"]],
) -> Float[np.ndarray, "x2 y2 z2"]:
    """Return values on the grid of half the spacing; queried in and around cells that are not all in or all out."""
    fine = coarse
    for axis in range(3):  # the lower neighbour's value is on the right side of iso in every cell left as it is
        fine = fine.repeat(2, axis=axis).take(range(2 * coarse.shape[axis] - 1), axis=axis)
    known = np.zeros(fine.shape, bool)
    known[::2, ::2, ::2] = True
    refined = np.zeros(tuple(n - 1 for n in coarse.shape), bool)
    wanted = binary_dilation(_any_corner(coarse >= trace) & _any_corner(coarse < iso), np.ones((3, 3, 3)))
    while wanted.any():
        refined |= wanted
        nodes = _closure(wanted) & ~known
        fine[nodes] = query(np.argwhere(nodes))
        known |= nodes
        # A surface found in a refined cell may enter one that is not: follow it there.
        mixed = _any_corner(fine >= iso) & _any_corner(fine < iso)
        wanted = np.logical_or.reduce([mixed[x::2, y::2, z::2] for x, y, z in np.ndindex(2, 2, 2)]) & ~refined
    return fine


def _any_corner(nodes: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x-1 y-1 z-1"]:
    """Return for each cell whether any of its eight nodes is set."""
    for axis in range(3):
        size = nodes.shape[axis]
        nodes = nodes.take(range(size - 1), axis) | nodes.take(range(1, size), axis)
    return nodes


def _closure(cells: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "2*x+1 2*y+1 2*z+1"]:
    """Return the nodes of the grid of half the spacing that lie in or on one of the `cells`."""
    nodes = cells
    for axis in range(3):
        nodes = nodes.repeat(2, axis=axis)
        before, after = ([(0, 0)] * 3 for _ in range(2))
        before[axis], after[axis] = (1, 0), (0, 1)
        nodes = np.pad(nodes, before) | np.pad(nodes, after)
    return nodes


@torch.no_grad()
def _query(density: Density, points: Float[np.ndarray, "n 3"], device: torch.device | str) -> Float[np.ndarray, " n"]:
    """Return the density at points, asked for in tiles of one fixed size."""
    values = np.empty(len(points), np.float32)
    for start in range(0, len(points), TILE):
        tile = torch.zeros(TILE, 3)
        count = min(TILE, len(points) - start)
        tile[:count] = torch.from_numpy(points[start : start + count])
        values[start : start + count] = density(tile.to(device))[:count].float().cpu().numpy()
    return values
