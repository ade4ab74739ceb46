"""Small pictures of a mesh, as a viewer would show it."""

from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ln3d.export.mesh import Mesh
from ln3d.geometry.rays import image_rays
from ln3d.raycast.lighting import brightness
from ln3d.raycast.surface import PaintedSurface

_GREY = 0.75
_SUPERSAMPLED = 2


def mesh_views(
    mesh: Mesh,
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    size: int,
    *,
    painted: bool = True,
) -> UInt8[np.ndarray, "v h w 3"]:
    """Return pictures of `mesh` on white, sRGB: its own colours unlit, or grey and lit to show the shape alone.

    The colours that a model learned have light in them already, so none is added.
    """
    surface = PaintedSurface([_part(mesh, painted)], texel=0.0)
    side = size * _SUPERSAMPLED
    pictures = []
    for pose, lens in zip(camera_to_world, intrinsics, strict=True):
        origins, directions = image_rays(torch.as_tensor(pose)[None], torch.as_tensor(lens)[None], side)
        seen = surface.look(origins[0].float().numpy(), directions[0].float().numpy())
        colour = seen.colour if painted else seen.colour * brightness(seen.normal)[:, None]
        colour = np.where(seen.hit[:, None], colour, 1.0).reshape(size, _SUPERSAMPLED, size, _SUPERSAMPLED, 3)
        pictures.append(np.rint(colour.mean(axis=(1, 3)).clip(0, 1) * 255).astype(np.uint8))
    return np.stack(pictures)


def _part(mesh: Mesh, painted: bool) -> SimpleNamespace:
    colours = None
    if painted and mesh.colours is not None:
        colours = np.ones((len(mesh.vertices), 4), np.float32)
        colours[:, :3] = mesh.colours / 255.0
    tone = 1.0 if colours is not None else _GREY
    return SimpleNamespace(
        vertices=mesh.vertices,
        faces=mesh.faces,
        uv=None,
        colours=colours,
        base_colour=np.array([tone, tone, tone, 1.0], np.float32),
        texture=None,
        cutout=False,
    )
