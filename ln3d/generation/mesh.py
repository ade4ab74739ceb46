"""From a radiance field to a coloured mesh, and the decision whether there is an object in it at all."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ln3d.errors import DivergedError
from ln3d.export.components import largest_components
from ln3d.export.mesh import Mesh
from ln3d.geometry.surfaces import TILE, extract_surface, signed_volume

Field = Callable[[Float[Tensor, "b n 3"]], tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]]

# Objects fill a sphere of radius 0.9, so even a cube is more than 1 long; below these figures there are only crumbs.
SMALLEST_EXTENT = 0.6
"""World units that the longest side of a real object's bounding box has at least."""
SMALLEST_VOLUME = 1e-4
"""Cubic world units: a wire 1.8 long and 0.008 thick."""
LARGEST_VOLUME = 0.9 * 8
"""More than this share of the scene box is no object but a full field."""
LEAST_KEPT = 0.25
"""Share of the surface that has to be left when small components are dropped; otherwise all is crumbs."""

_HINT = "take another --seed, a lower --guidance, or a model that was trained for longer"


@torch.no_grad()
def field_mesh(
    field: Field, resolution: int, iso: float, smallest_component: float, device: torch.device | str = "cpu"
) -> Mesh:
    """Return the surface {density = iso} of a field of one scene (b = 1), with the field's colour at its vertices.

    `resolution` is in cells per axis of the box [-1, 1]^3, `iso` in density per world unit. Connected components
    with less than `smallest_component` of the faces are dropped.

    Raises DivergedError where the field is not finite, empty, full, or holds nothing but debris.
    """

    def opacity(points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        density = field(points[None])[0][0].float()
        if not bool(torch.isfinite(density).all()):
            raise DivergedError("the field is not finite", _HINT)
        # The same surface at level 1/2; between nodes it varies more evenly than density, which leaps by orders of
        # magnitude, so that linear interpolation places the vertices without terraces.
        return density / (density + iso)

    vertices, faces = extract_surface(opacity, resolution, 0.5, device=device)
    if len(faces) == 0:
        raise DivergedError(f"the field is empty: no density reaches {iso:g}", _HINT)
    found = Mesh(vertices, faces)
    kept = largest_components(found, smallest_component)
    _check(found, kept)
    return Mesh(kept.vertices, kept.faces, _colours(field, kept.vertices, device))


def _check(found: Mesh, kept: Mesh) -> None:
    """Raise DivergedError unless `kept`, what is left of the surface `found`, can be an object."""
    if signed_volume(found.vertices, found.faces) > LARGEST_VOLUME:
        raise DivergedError("the field is full: density fills the whole scene box", _HINT)
    share = len(kept.faces) / len(found.faces)
    if share < LEAST_KEPT:
        raise DivergedError(f"the field is debris: {1 - share:.0%} of the surface is in small pieces", _HINT)
    extent = float(np.ptp(kept.vertices, axis=0).max())
    volume = signed_volume(kept.vertices, kept.faces)
    if extent < SMALLEST_EXTENT or volume < SMALLEST_VOLUME:
        raise DivergedError(
            f"the field is debris: the surface is {extent:.2f} long and encloses {volume:.1e}, "
            f"an object at least {SMALLEST_EXTENT:g} and {SMALLEST_VOLUME:g}",
            _HINT,
        )


def _colours(field: Field, vertices: Float[np.ndarray, "n 3"], device: torch.device | str) -> UInt8[np.ndarray, "n 3"]:
    """Return the field's colours at points, asked for in tiles of one fixed size."""
    colours = np.empty((len(vertices), 3), np.uint8)
    for start in range(0, len(vertices), TILE):
        tile = torch.zeros(TILE, 3)
        count = min(TILE, len(vertices) - start)
        tile[:count] = torch.from_numpy(vertices[start : start + count])
        values = field(tile[None].to(device))[1][0, :count].float().clamp(0, 1)
        colours[start : start + count] = values.mul(255).round().to(torch.uint8).cpu().numpy()
    return colours
