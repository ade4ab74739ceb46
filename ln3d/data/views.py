"""Draw a scene with all its cameras: colour and coverage supersampled, depth and normal of the pixel centres."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ln3d.data.readers.scene import Scene
from ln3d.raycast.lighting import brightness
from ln3d.raycast.surface import PaintedSurface

_RAYS_AT_ONCE = 1 << 19


@dataclass
class Views:
    """What all cameras saw.

    `colour` uint8 (v, h, w, 4): the mean sRGB colour of the covered samples, not premultiplied, and the share of
    covered samples; `depth` float32 (v, h, w): distance along the ray of the pixel's centre, world units, 0 where it
    meets nothing; `normal` float32 (v, h, w, 3): world axes, unit, turned to the camera, 0 where depth is 0.
    """

    colour: NDArray[np.uint8]
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]


def draw(
    scene: Scene,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int = 2,
    lighting: str = "rig",
) -> Views:
    """Draw `scene` with cameras `camera_to_world` (v, 4, 4) and `intrinsics` (v, 3, 3), see docs/conventions.md.

    `supersampling` rays per pixel and axis are cast for colour and coverage, one through the centre for depth and
    normal. `lighting` is `rig` (lamps fixed in the world) or `albedo` (plain surface colour).
    """
    surface = PaintedSurface(scene.parts, sample_spacing(camera_to_world, intrinsics, resolution * supersampling))
    count = len(camera_to_world)
    views = Views(
        np.zeros((count, resolution, resolution, 4), np.uint8),
        np.zeros((count, resolution, resolution), np.float32),
        np.zeros((count, resolution, resolution, 3), np.float32),
    )
    for view in range(count):
        for rows, columns in _windows(surface, camera_to_world[view], intrinsics[view], resolution, supersampling):
            place = (view, rows, columns)
            views.colour[place], views.depth[place], views.normal[place] = _draw_window(
                surface, camera_to_world[view], intrinsics[view], resolution, supersampling, lighting, rows, columns
            )
    return views


def pixel_directions(
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    resolution: int,
) -> NDArray[np.float32]:
    """Return unit ray directions (..., 3) in world axes through the image points `x`, `y` (pixels, broadcast)."""
    right = (x / resolution - intrinsics[0, 2]) / intrinsics[0, 0]
    down = (y / resolution - intrinsics[1, 2]) / intrinsics[1, 1]
    axes = camera_to_world[:3, :3].astype(np.float64)
    # One axis of the world after the other: NumPy is slow on many rows of three.
    direction = [right * across + (down * below + ahead) for across, below, ahead in axes]
    length = np.sqrt(np.square(direction[0]) + np.square(direction[1]) + np.square(direction[2]))
    unit = np.empty((*length.shape, 3), np.float32)
    for axis in range(3):
        np.divide(direction[axis], length, out=unit[..., axis], casting="same_kind")
    return unit


def _draw_window(
    surface: PaintedSurface,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int,
    lighting: str,
    rows: slice,
    columns: slice,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return colour, depth and normal of the pixels of a window."""
    across, down, centre = _sample_places(supersampling)
    x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)[:, None]
    directions = pixel_directions(camera_to_world, intrinsics, x + across, y + down, resolution)
    origins = np.broadcast_to(camera_to_world[:3, 3].astype(np.float32), directions.shape)
    found = surface.find(origins.reshape(-1, 3), directions.reshape(-1, 3))
    shape = directions.shape[:-1]  # (samples, rows, columns)
    hit, lit = np.zeros(shape, bool), np.zeros((3, *shape), np.float32)
    hit.reshape(-1)[found.ray] = True
    light = brightness(found.normal) if lighting == "rig" else np.float32(1)
    for channel in range(3):
        lit[channel].reshape(-1)[found.ray] = found.colour[:, channel] * light
    drawn = supersampling**2
    depth, normal = np.zeros(shape[1:], np.float32), np.zeros((*shape[1:], 3), np.float32)
    pixel = found.ray - centre * depth.size
    here = slice(None) if len(hit) == 1 else np.flatnonzero((pixel >= 0) & (pixel < depth.size))
    depth.reshape(-1)[pixel[here]] = found.distance[here]
    normal.reshape(-1, 3)[pixel[here]] = found.normal[here]
    return average(np.moveaxis(lit, 0, -1)[:drawn], hit[:drawn]), depth, normal


def _sample_places(supersampling: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return where in a pixel the samples are, across and down (k, 1, 1), and which of them is the pixel's centre.

    The centre is an extra one behind the others, unless `supersampling` is odd: then it is one of them.
    """
    offsets = (np.arange(supersampling) + 0.5) / supersampling
    across, down = np.tile(offsets, supersampling), np.repeat(offsets, supersampling)
    if supersampling % 2:
        centre = len(across) // 2
    else:
        centre, across, down = len(across), np.append(across, 0.5), np.append(down, 0.5)
    return across[:, None, None], down[:, None, None], centre


def average(colour: NDArray[np.float32], hit: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return RGBA bytes (h, w, 4): the mean of the covered samples (k, h, w, 3), 0 where not `hit`, and their share."""
    covered = reduce(np.add, hit.astype(np.float32))
    share = np.maximum(covered, 1)
    rgba = np.empty((*covered.shape, 4), np.uint8)
    for channel in range(3):
        total = reduce(np.add, colour[..., channel])  # in the order of the samples, so that the last bit is sure
        rgba[..., channel] = _as_bytes(total / share)
    rgba[..., 3] = _as_bytes(covered / len(hit))
    return rgba


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.rint(np.clip(values, 0, 1) * 255)


def _windows(
    surface: PaintedSurface,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int,
) -> Iterator[tuple[slice, slice]]:
    """Yield the (rows, columns) of bands that together cover all pixels the surface can touch.

    They lie in the rectangle around the projected corners of the bounding box, unless the box reaches behind the
    camera; a band has a bounded number of rays, whatever the resolution.
    """
    left, top, right, bottom = 0, 0, resolution, resolution
    corners = surface.bounds[np.indices((2, 2, 2)).reshape(3, 8).T, range(3)].astype(np.float64)
    local = (corners - camera_to_world[:3, 3]) @ camera_to_world[:3, :3].astype(np.float64)
    if local[:, 2].min() > 1e-3:
        x = (local[:, 0] / local[:, 2] * intrinsics[0, 0] + intrinsics[0, 2]) * resolution
        y = (local[:, 1] / local[:, 2] * intrinsics[1, 1] + intrinsics[1, 2]) * resolution
        left, top = (max(0, int(np.floor(value.min() - 0.01))) for value in (x, y))
        right, bottom = (min(resolution, int(np.ceil(value.max() + 0.01))) for value in (x, y))
    if right <= left:
        return
    band = max(1, _RAYS_AT_ONCE // ((right - left) * (supersampling**2 + 1)))
    for row in range(top, bottom, band):
        yield slice(row, min(row + band, bottom)), slice(left, right)


def sample_spacing(camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], samples: int) -> float:
    """Return the distance between neighbouring samples at the origin of the world, in world units."""
    distance = float(np.linalg.norm(camera_to_world[:, :3, 3], axis=1).mean())
    return distance / float(intrinsics[:, 0, 0].mean()) / samples
