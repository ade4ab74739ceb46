"""Volume rendering of a field: samples on rays, coarse then fine, composited over white."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from ln3d.config.vae import RendererConfig
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.geometry.sampling import (
    Jitter,
    equal_bins,
    flattened,
    guided,
    importance,
    one_per_bin,
    stratified,
    widened,
)
from ln3d.geometry.volume import cell_edges, composite, expected_depth, ray_weights
from ln3d.rendering.fields import Field
from ln3d.rendering.occupancy import Occupancy, meets, place_samples

TILE = 512
"""Rays per object that a field is asked for at once when rendering in chunks."""
CHUNK = 32 * TILE
"""Rays per object that images are rendered in: with an occupancy grid, those that meet nothing make room for others."""


class Rendered(NamedTuple):
    """What rays see; `*r` is the shape of the rays."""

    colour: Float[Tensor, "*r 3"]
    """Blended on white, in [0, 1] up to the field's 0.001 beyond; images are clipped."""
    alpha: Float[Tensor, "*r"]
    """Opacity, in [0, 1]."""
    depth: Float[Tensor, "*r"]
    """Mean distance at which the light is stopped, in world units; 0 where nothing is hit."""


class _Samples(NamedTuple):
    distances: Float[Tensor, "b r s"]
    density: Float[Tensor, "b r s"]
    colour: Float[Tensor, "b r s 3"]


def render_rays(
    field: Field,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: RendererConfig,
    *,
    generator: Jitter | None = None,
    depth_hint: Float[Tensor, "b r"] | None = None,
    search: Field | None = None,
    occupancy: Occupancy | None = None,
    chunk: int | None = None,
) -> Rendered:
    """Render rays with unit `directions` through the scene box, differentiably.

    Samples are jittered with a `generator` and deterministic without. How they are placed:

    - coarse, then fine, and all of them count: as it is;
    - `depth_hint`, the distance of the first surface (0 for a ray that hits nothing): around it, without a search;
    - `search`, this field or a cheaper one like it: its coarse samples only say where the fine ones go, have no
      gradient and do not count;
    - `occupancy`, a grid of this field: rays that meet no occupied cell are not evaluated, and the others have their
      `fine` samples (`coarse`, where that is 0) on the occupied stretches, cut out of the ray, without a search.

    `chunk` bounds the rays per object that are worked on at once; chunks are filled up to whole tiles, so
    the result is the same, bit for bit, for any `chunk`. ValueError for `chunk` with `generator`, and for two of
    the ways to place samples at once.
    """
    if sum(given is not None for given in (depth_hint, search, occupancy)) > 1:
        raise ValueError("a depth hint, a search field and an occupancy grid exclude each other")
    if chunk is not None:
        if generator is not None:
            raise ValueError("jitter depends on the chunk size: render either in chunks or with a generator")
        return _render_in_chunks(field, origins, directions, config, depth_hint, search, occupancy, chunk)
    if occupancy is not None:
        return _render_occupied(field, origins, directions, config, occupancy, generator)
    near, far = box_interval(origins, directions)
    if depth_hint is not None and config.guided_fine > 0:
        counts = (config.guided_coarse, config.guided_fine)
        distances = guided(near, far, depth_hint, counts, config.guided_band, generator)
        return _blend(_evaluate(field, origins, directions, distances), near, far)
    if config.fine == 0:
        search = None
    with torch.set_grad_enabled(torch.is_grad_enabled() and search is None):
        distances = stratified(near, far, config.coarse, generator)
        coarse = _evaluate(field if search is None else search, origins, directions, distances)
    if config.fine == 0:
        return _blend(coarse, near, far)
    edges = cell_edges(distances, near, far)
    with torch.no_grad():
        stopped = ray_weights(coarse.density, edges.diff(dim=-1))
        if search is None:
            distances = importance(edges, widened(stopped), config.fine, generator)
        else:
            borders = equal_bins(edges, flattened(stopped, torch.full_like(stopped, 1 / config.coarse)), config.fine)
    if search is None:
        return _blend(_merge(coarse, _evaluate(field, origins, directions, distances)), near, far)
    torch.clear_autocast_cache()  # it would hand the fine pass weights that were cast without a gradient
    samples = _evaluate(field, origins, directions, one_per_bin(borders, generator))
    return _composited(samples, borders.diff(dim=-1))


@torch.no_grad()
def render_images(
    field: Field,
    camera_to_world: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    size: int,
    config: RendererConfig,
    *,
    occupancy: Occupancy | None = None,
    chunk: int = CHUNK,
) -> Rendered:
    """Return deterministic `size` x `size` images, one per object: colour (b h w 3), alpha and depth (b h w).

    With an `occupancy` grid of the field, empty space is skipped; see `render_rays`.
    """
    origins, directions = image_rays(camera_to_world, intrinsics, size)
    colour, alpha, depth = render_rays(field, origins, directions, config, occupancy=occupancy, chunk=chunk)
    return Rendered(
        rearrange(colour, "b (h w) c -> b h w c", h=size).clamp(0, 1),
        rearrange(alpha, "b (h w) -> b h w", h=size),
        rearrange(depth, "b (h w) -> b h w", h=size),
    )


def _render_in_chunks(
    field: Field,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: RendererConfig,
    depth_hint: Float[Tensor, "b r"] | None,
    search: Field | None,
    occupancy: Occupancy | None,
    chunk: int,
) -> Rendered:
    parts = []
    for start in range(0, origins.shape[1], chunk):
        some = slice(start, start + chunk)
        if occupancy is not None:
            parts.append(_render_occupied(field, origins[:, some], directions[:, some], config, occupancy, tile=TILE))
            continue
        for index, count in _tiles(origins[:, some]):
            index = index + start
            hint = None if depth_hint is None else depth_hint[:, index]
            tile = render_rays(field, origins[:, index], directions[:, index], config, depth_hint=hint, search=search)
            parts.append(Rendered(*(value[:, :count] for value in tile)))
    return _joined(parts)


def _tiles(rays: Float[Tensor, "b r 3"]) -> Iterator[tuple[Int[Tensor, " tile"], int]]:
    """Yield the rays of every tile and how many of them count.

    A tile's shape never changes: the tail of the last one repeats its last ray.
    """
    for first in range(0, rays.shape[1], TILE):
        count = min(TILE, rays.shape[1] - first)
        yield first + torch.arange(TILE, device=rays.device).clamp(max=count - 1), count


def _render_occupied(
    field: Field,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: RendererConfig,
    occupancy: Occupancy,
    generator: Jitter | None = None,
    tile: int | None = None,
) -> Rendered:
    """Render the rays that meet something, `tile` of them at a time or all at once; the others see white."""
    rays = origins.shape[1]
    index = _meeting(origins, directions, occupancy, tile)
    parts = []
    for some in index.split(tile or index.shape[1], dim=1):
        chosen = some.clamp(max=rays - 1)[..., None].expand(-1, -1, 3)
        here, towards = origins.gather(1, chosen), directions.gather(1, chosen)
        placed = place_samples(occupancy, here, towards, config.fine or config.coarse, generator)
        parts.append(_composited(_evaluate(field, here, towards, placed.distances), placed.spacing))
    seen = _joined(parts)
    # One ray more than there are, for those that only fill up a tile.
    blank = torch.zeros(len(origins), rays + 1, device=origins.device)
    everywhere = index[..., None].expand(-1, -1, 3)
    return Rendered(
        torch.ones_like(blank)[..., None].expand(-1, -1, 3).scatter(1, everywhere, seen.colour)[:, :rays],
        blank.scatter(1, index, seen.alpha)[:, :rays],
        blank.scatter(1, index, seen.depth)[:, :rays],
    )


def _meeting(
    origins: Float[Tensor, "b r 3"], directions: Float[Tensor, "b r 3"], occupancy: Occupancy, tile: int | None
) -> Int[Tensor, "b m"]:
    """Return which rays of each object meet something, filled up with `r` to an equal number of whole tiles."""
    if tile is None:
        hit = meets(occupancy, origins, directions)
    else:
        tiles = [(meets(occupancy, origins[:, i], directions[:, i]), count) for i, count in _tiles(origins)]
        hit = torch.cat([found[:, :count] for found, count in tiles], dim=1)
    step = tile or 1
    most = step * math.ceil(max(1, int(hit.sum(dim=1).max())) / step)
    index = torch.full((len(hit), most), hit.shape[1], device=hit.device)
    scene, ray = hit.nonzero(as_tuple=True)
    index[scene, hit.cumsum(dim=1)[hit] - 1] = ray
    return index


def _joined(parts: Sequence[Rendered]) -> Rendered:
    return Rendered(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))


def _evaluate(
    field: Field,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    distances: Float[Tensor, "b r s"],
) -> _Samples:
    points = origins[..., None, :] + distances[..., None] * directions[..., None, :]
    density, colour = field(rearrange(points, "b r s xyz -> b (r s) xyz"))
    samples = distances.shape[-1]
    return _Samples(
        distances,
        rearrange(density, "b (r s) -> b r s", s=samples),
        rearrange(colour, "b (r s) c -> b r s c", s=samples),
    )


def _merge(one: _Samples, other: _Samples) -> _Samples:
    distances, order = torch.cat([one.distances, other.distances], dim=-1).sort(dim=-1)
    density = torch.cat([one.density, other.density], dim=-1).gather(-1, order)
    colour = torch.cat([one.colour, other.colour], dim=-2)
    return _Samples(distances, density, colour.gather(-2, order[..., None].expand_as(colour)))


def _blend(samples: _Samples, near: Float[Tensor, "b r"], far: Float[Tensor, "b r"]) -> Rendered:
    return _composited(samples, cell_edges(samples.distances, near, far).diff(dim=-1))


def _composited(samples: _Samples, spacing: Float[Tensor, "b r s"]) -> Rendered:
    values = torch.cat([samples.colour, samples.distances[..., None]], dim=-1)
    total, alpha = composite(samples.density, values, spacing)
    return Rendered(total[..., :3] + (1 - alpha)[..., None], alpha, expected_depth(total[..., 3], alpha))
