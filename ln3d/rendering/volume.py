"""Volume rendering of a field: samples on rays, coarse then fine, composited over white."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ln3d.config.vae import RendererConfig
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.geometry.sampling import guided, importance, stratified, widened
from ln3d.geometry.volume import cell_edges, composite, expected_depth, ray_weights
from ln3d.rendering.fields import Field

TILE = 512
"""Rays per object that a field is asked for at once when rendering in chunks."""


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
    generator: torch.Generator | None = None,
    depth_hint: Float[Tensor, "b r"] | None = None,
    chunk: int | None = None,
) -> Rendered:
    """Render rays with unit `directions` through the scene box, differentiably.

    Samples are jittered with a `generator` and deterministic without. A `depth_hint` (distance of the
    first surface, 0 for a ray that hits nothing) replaces the coarse-to-fine search by samples around it.
    `chunk` bounds the rays per object that are worked on at once; chunks are filled up to whole tiles, so
    the result is the same, bit for bit, for any `chunk`. ValueError for `chunk` with `generator`.
    """
    if chunk is not None:
        if generator is not None:
            raise ValueError("jitter depends on the chunk size: render either in chunks or with a generator")
        return _render_in_tiles(field, origins, directions, config, depth_hint, chunk)
    near, far = box_interval(origins, directions)
    if depth_hint is not None and config.guided_fine > 0:
        counts = (config.guided_coarse, config.guided_fine)
        distances = guided(near, far, depth_hint, counts, config.guided_band, generator)
        return _blend(_evaluate(field, origins, directions, distances), near, far)
    coarse = _evaluate(field, origins, directions, stratified(near, far, config.coarse, generator))
    if config.fine == 0:
        return _blend(coarse, near, far)
    with torch.no_grad():
        edges = cell_edges(coarse.distances, near, far)
        weights = widened(ray_weights(coarse.density, edges.diff(dim=-1)))
        distances = importance(edges, weights, config.fine, generator)
    return _blend(_merge(coarse, _evaluate(field, origins, directions, distances)), near, far)


@torch.no_grad()
def render_images(
    field: Field,
    camera_to_world: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    size: int,
    config: RendererConfig,
    *,
    rays_per_tile: int = TILE,
) -> Rendered:
    """Return deterministic `size` x `size` images, one per object: colour (b h w 3), alpha and depth (b h w)."""
    origins, directions = image_rays(camera_to_world, intrinsics, size)
    colour, alpha, depth = render_rays(field, origins, directions, config, chunk=rays_per_tile)
    return Rendered(
        rearrange(colour, "b (h w) c -> b h w c", h=size).clamp(0, 1),
        rearrange(alpha, "b (h w) -> b h w", h=size),
        rearrange(depth, "b (h w) -> b h w", h=size),
    )


def _render_in_tiles(
    field: Field,
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: RendererConfig,
    depth_hint: Float[Tensor, "b r"] | None,
    chunk: int,
) -> Rendered:
    rays, device = origins.shape[1], origins.device
    parts = []
    for start in range(0, rays, chunk):
        stop = min(start + chunk, rays)
        for first in range(start, stop, TILE):
            # A tile's shape never changes: its tail repeats the last ray, and is cut off again.
            index = torch.arange(first, first + TILE, device=device).clamp(max=stop - 1)
            hint = None if depth_hint is None else depth_hint[:, index]
            tile = render_rays(field, origins[:, index], directions[:, index], config, depth_hint=hint)
            parts.append(Rendered(*(value[:, : stop - first] for value in tile)))
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
    spacing = cell_edges(samples.distances, near, far).diff(dim=-1)
    values = torch.cat([samples.colour, samples.distances[..., None]], dim=-1)
    total, alpha = composite(samples.density, values, spacing)
    return Rendered(total[..., :3] + (1 - alpha)[..., None], alpha, expected_depth(total[..., 3], alpha))
