"""Cameras around an object: where they stand, how they look, and how other programs write them down.

World: right-handed, +y up, +z front. Camera: OpenCV axes (x right, y down, z forward). Intrinsics are
in units of the image side, so the same matrix serves every resolution. Everything here is numpy.
"""

import math

import numpy as np
from jaxtyping import Float

from ln3d.config.render import CameraConfig
from ln3d.errors import RecipeError

OBJECT_RADIUS = 0.9
"""Radius of the sphere that every object is scaled into."""
VIEW_MARGIN = 1.02
"""A camera set must see this much more than the sphere, so that no silhouette touches the border."""

_UPPER_RING, _LOWER_RING = 13.7, -4.0
_UP = np.array([0.0, 1.0, 0.0])
_FRONT = np.array([0.0, 0.0, 1.0])
_THREE_QUARTER = np.array([0.6, 0.45, 0.75])  # seen from here, most objects show what they are
_STORED_DIGITS = 5  # of the cosine between directions to cameras that were stored in float32
_FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])
_Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def look_at(
    eye: Float[np.ndarray, "*v 3"], target: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Float[np.ndarray, "*v 4 4"]:
    """Return `camera_to_world` of upright cameras at `eye` that look at `target`.

    Upright means that the world's +y points up in the image; one that looks straight down or up has the
    roll it would arrive with from the front. ValueError where `eye` is the target.
    """
    eye = np.asarray(eye, dtype=np.float64)
    offset = np.asarray(target, dtype=np.float64) - eye
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    if not np.all(distance > 0):
        raise ValueError("a camera cannot look at the point where it stands")
    forward = offset / distance
    vertical = np.hypot(forward[..., 0:1], forward[..., 2:3]) < 1e-9
    right = np.cross(forward, np.where(vertical, forward[..., 1:2] * _FRONT, _UP))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    pose = np.zeros((*eye.shape[:-1], 4, 4))
    pose[..., :3, :] = np.stack([right, down, forward, eye], axis=-1)
    pose[..., 3, 3] = 1.0
    return pose


def intrinsics(field_of_view: float) -> Float[np.ndarray, "3 3"]:
    """Return the intrinsics of a square image whose full angle of view is `field_of_view` degrees."""
    focal = 0.5 / math.tan(math.radians(field_of_view) / 2)
    return np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])


def directions(azimuth: Float[np.ndarray, "*#v"], elevation: Float[np.ndarray, "*#v"]) -> Float[np.ndarray, "*v 3"]:
    """Return unit vectors at `azimuth` (0 is +z, 90 is +x) and `elevation` (90 is +y), both in degrees."""
    turn, lift = np.broadcast_arrays(np.radians(azimuth), np.radians(elevation))
    return np.stack([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)], axis=-1)


def spiral(count: int, lowest: float = -1.0) -> Float[np.ndarray, "v 3"]:
    """Return `count` near-uniform unit vectors with heights in (`lowest`, 1), from top to bottom.

    The spherical Fibonacci lattice: equal steps in height are equal areas (Archimedes), and the golden
    angle keeps neighbouring rows apart. Heights are cell centres, so no point is a pole (count > 1).
    """
    index = np.arange(count)
    height = 1 - (1 - lowest) * (index + 0.5) / count
    turn = index * 360 * (2 - (1 + math.sqrt(5)) / 2)
    return directions(turn, np.degrees(np.arcsin(height)))


def spread_order(points: Float[np.ndarray, "v 3"], first: int, count: int | None = None, digits: int = 9) -> list[int]:
    """Return the beginning of an order of unit vectors in which each is farthest from all before it.

    It is `count` long, or has all of them. Cosines that differ by less than `digits` tell are a tie: the lowest index.
    """
    order, nearest = [first], points @ points[first]
    while len(order) < (len(points) if count is None else count):
        # The lowest largest cosine is the largest smallest angle; rounding keeps ties the same on any machine.
        nearest[order] = 2.0
        order.append(int(np.argmin(np.round(nearest, digits))))
        nearest = np.maximum(nearest, points @ points[order[-1]])
    return order


def views_apart(eyes: Float[np.ndarray, "v 3"], count: int) -> list[int]:
    """Return `count` views, the first one and then each farthest from those before it.

    `eyes` are unit vectors to where stored cameras stand. Of a layout that comes in such an order, these are the first.
    """
    return spread_order(eyes.astype(np.float64), first=0, count=min(count, len(eyes)), digits=_STORED_DIGITS)


def camera_set(config: CameraConfig) -> tuple[Float[np.ndarray, "v 4 4"], Float[np.ndarray, "v 3 3"]]:
    """Return `camera_to_world` and `intrinsics` (float32) of a built-in layout.

    `sphere` and `upper` are near-uniform and come in an order whose every beginning is spread out, a
    three-quarter view first; `orbit` is a closed ring, evenly spaced from the front; `rings` is G-Objaverse's
    set; `listed` stands where the recipe says. Raises RecipeError where the cameras would cut the sphere that
    objects are scaled into.
    """
    if config.layout == "orbit":
        return orbit(config.views, config.radius, config.elevation, config.field_of_view)
    if config.layout == "rings":
        return _cameras(two_rings(), config.radius, config.field_of_view)
    if config.layout == "listed":
        azimuth, elevation = np.asarray(config.directions, dtype=np.float64).T
        return _cameras(directions(azimuth, elevation), config.radius, config.field_of_view)
    points = spiral(config.views, lowest=-1.0 if config.layout == "sphere" else 0.0)
    points = points[spread_order(points, first=int(np.argmax(points @ _THREE_QUARTER)))]
    return _cameras(points, config.radius, config.field_of_view)


def orbit(
    views: int, radius: float, elevation: float, field_of_view: float
) -> tuple[Float[np.ndarray, "v 4 4"], Float[np.ndarray, "v 3 3"]]:
    """Return a closed ring of cameras from the front (+z) over the right (+x), as `camera_set` does; degrees."""
    if not -90 < elevation < 90:
        raise RecipeError(
            f"an orbit at {elevation:g} degrees is a single point", "choose an elevation between -90 and 90 degrees"
        )
    azimuth = np.arange(views) * (360 / views)
    return _cameras(directions(azimuth, np.asarray(elevation)), radius, field_of_view)


def two_rings() -> Float[np.ndarray, "38 3"]:
    """Return unit vectors to G-Objaverse's cameras, in its order but for two that it has twice.

    24 from the front over the right at 13.7 degrees, the top, the bottom, and 12 at -4 degrees (Qiu et al. 2023,
    RichDreamer).
    """
    upper = directions(np.arange(24) * 15.0, np.asarray(_UPPER_RING))
    lower = directions(np.arange(12) * 30.0, np.asarray(_LOWER_RING))
    return np.concatenate([upper, [_UP, -_UP], lower])


def _cameras(
    points: Float[np.ndarray, "v 3"], radius: float, field_of_view: float
) -> tuple[Float[np.ndarray, "v 4 4"], Float[np.ndarray, "v 3 3"]]:
    half = math.sin(math.radians(field_of_view) / 2)
    if radius * half < OBJECT_RADIUS * VIEW_MARGIN:
        angle = 2 * math.degrees(math.asin(min(OBJECT_RADIUS * VIEW_MARGIN / radius, 1.0)))
        raise RecipeError(
            f"cameras at radius {radius:g} with a field of view of {field_of_view:g} degrees cut the object",
            f"use a radius of at least {math.ceil(100 * OBJECT_RADIUS * VIEW_MARGIN / half) / 100:g} "
            f"or a field of view of at least {math.ceil(angle):g} degrees",
        )
    poses = look_at(points * radius).astype(np.float32)
    return poses, np.broadcast_to(intrinsics(field_of_view).astype(np.float32), (len(points), 3, 3)).copy()


def to_opengl(camera_to_world: Float[np.ndarray, "*v 4 4"]) -> Float[np.ndarray, "*v 4 4"]:
    """Return the poses with OpenGL camera axes (x right, y up, z backward); the world stays as it is."""
    return (camera_to_world @ _FLIP_YZ).astype(camera_to_world.dtype)


def from_opengl(camera_to_world: Float[np.ndarray, "*v 4 4"]) -> Float[np.ndarray, "*v 4 4"]:
    """Return poses with OpenGL camera axes in ours; the inverse of `to_opengl`, and the same flip."""
    return to_opengl(camera_to_world)


def to_blender(camera_to_world: Float[np.ndarray, "*v 4 4"]) -> Float[np.ndarray, "*v 4 4"]:
    """Return the poses in Blender's world (+z up, -y front) with its OpenGL camera axes."""
    poses: Float[np.ndarray, "*v 4 4"] = _Y_UP_FROM_Z_UP.T @ to_opengl(camera_to_world)
    return poses.astype(camera_to_world.dtype)


def from_blender(camera_to_world: Float[np.ndarray, "*v 4 4"]) -> Float[np.ndarray, "*v 4 4"]:
    """Return Blender poses (as NeRF's synthetic scenes are written) in our world and axes."""
    return from_opengl((_Y_UP_FROM_Z_UP @ camera_to_world).astype(camera_to_world.dtype))
