"""Rays of pixels, their Pluecker coordinates, and where they cross the scene box."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_PARALLEL = 1e-12


def pixel_rays(
    camera_to_world: Float[Tensor, "b 4 4"],
    intrinsics: Float[Tensor, "b 3 3"],
    pixels: Float[Tensor, "b r 2"],
    size: int,
) -> tuple[Float[Tensor, "b r 3"], Float[Tensor, "b r 3"]]:
    """Return origins and unit directions in the world of the rays through `pixels`.

    `pixels` are (x, y) in pixels of an image of `size` x `size`, the centre of the first at (0.5, 0.5);
    `intrinsics` are in units of the image side; cameras have OpenCV axes.
    """
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)
    plane = (pixels / size - intrinsics[:, None, :2, 2]) / focal[:, None]
    local = torch.cat([plane, torch.ones_like(plane[..., :1])], dim=-1)
    # Products and a sum instead of a matmul: exact under autocast, and the same for any number of rays.
    directions = (camera_to_world[:, None, :3, :3] * local[..., None, :]).sum(dim=-1)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return camera_to_world[:, None, :3, 3].expand_as(directions), directions


def image_rays(
    camera_to_world: Float[Tensor, "b 4 4"], intrinsics: Float[Tensor, "b 3 3"], size: int
) -> tuple[Float[Tensor, "b r 3"], Float[Tensor, "b r 3"]]:
    """Return the rays of all pixel centres, row by row: r = `size` * `size`; otherwise as `pixel_rays`."""
    centres = torch.arange(size, device=camera_to_world.device, dtype=camera_to_world.dtype) + 0.5
    pixels = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1)
    pixels = rearrange(pixels, "h w xy -> 1 (h w) xy").expand(len(camera_to_world), -1, -1)
    return pixel_rays(camera_to_world, intrinsics, pixels, size)


def pluecker(origins: Float[Tensor, "*r 3"], directions: Float[Tensor, "*r 3"]) -> Float[Tensor, "*r 6"]:
    """Return (o x d, d), which is the same for every origin on the line, so it identifies the ray (LN3Diff, 3.1)."""
    return torch.cat([torch.linalg.cross(origins, directions), directions], dim=-1)


def box_interval(
    origins: Float[Tensor, "*r 3"], directions: Float[Tensor, "*r 3"], half: float = 1.0
) -> tuple[Float[Tensor, "*r"], Float[Tensor, "*r"]]:
    """Return the distances `near` <= `far` between which rays are inside the box [-half, half]^3.

    `near` is 0 for a ray that starts inside; both are 0 for one that misses the box or has left it.
    """
    tiny = torch.full_like(directions, _PARALLEL).copysign(directions)
    inverse = 1 / torch.where(directions.abs() < _PARALLEL, tiny, directions)
    one, other = (-half - origins) * inverse, (half - origins) * inverse
    near = torch.minimum(one, other).amax(dim=-1).clamp(min=0)
    far = torch.maximum(one, other).amin(dim=-1)
    hit = far > near
    return torch.where(hit, near, 0), torch.where(hit, far, 0)
