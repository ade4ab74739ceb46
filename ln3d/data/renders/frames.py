"""Posed pictures of another renderer as views of ours: axes, units, size, and what they do not hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from ln3d.config.render import CameraConfig, CollectionConfig
from ln3d.data.views import Views
from ln3d.errors import MeshError

_Y_UP_FROM_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_ENOUGH_VIEWS = 4


@dataclass
class Frame:
    """One picture as its files have it, with OpenCV camera axes, in the units and axes of its own world."""

    colour: UInt8[np.ndarray, "h w 4"]
    """Straight (not premultiplied) sRGB and coverage."""
    camera_to_world: Float[np.ndarray, "4 4"]
    focal: tuple[float, float]
    """In pixels, across and down."""
    centre: tuple[float, float]
    """Principal point in pixels; the middle of the first pixel is (0.5, 0.5)."""
    depth: Float32[np.ndarray, "h w"] | None = None
    """Distance along the optical axis; 0 where nothing is hit."""
    normal: Float32[np.ndarray, "h w 3"] | None = None
    """In the frame's own world; 0 where nothing is hit."""
    masked: bool = True
    """Whether the coverage is known; without it all of it is 255."""


@dataclass(frozen=True)
class World:
    """How the world of a layout lies in the scene box: ours = scale * rotation @ (theirs - centre)."""

    rotation: Float[np.ndarray, "3 3"]
    scale: float
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def pose(self, camera_to_world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
        """Return a pose of their world in ours; the camera's axes stay unit vectors."""
        pose = np.eye(4)
        pose[:3, :3] = self.rotation @ camera_to_world[:3, :3]
        pose[:3, 3] = self.scale * (self.rotation @ (camera_to_world[:3, 3] - np.array(self.centre)))
        return pose


@dataclass
class Rendered:
    """All chosen views of one object in our conventions; what is missing is None."""

    colour: UInt8[np.ndarray, "v h w 4"]
    depth: Float32[np.ndarray, "v h w"] | None
    normal: Float32[np.ndarray, "v h w 3"] | None
    masked: bool
    camera_to_world: Float32[np.ndarray, "v 4 4"]
    intrinsics: Float32[np.ndarray, "v 3 3"]

    @property
    def lacks(self) -> tuple[str, ...]:
        """What the pictures do not tell, of `depth`, `normal` and `mask`."""
        there = {"depth": self.depth is not None, "normal": self.normal is not None, "mask": self.masked}
        return tuple(name for name, known in there.items() if not known)

    def views(self) -> Views:
        """Return the pictures; a depth or normal that is missing is 0 everywhere."""
        shape = self.colour.shape[:3]
        depth = np.zeros(shape, np.float32) if self.depth is None else self.depth
        return Views(self.colour, depth, np.zeros((*shape, 3), np.float32) if self.normal is None else self.normal)


def world_of(up: str, turn: float, scale: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> World:
    """Return the world with the axis `up` (y or z) up, turned by `turn` degrees about +y (from +z to +x).

    With z up it is Blender's, whose front is -y.
    """
    angle = np.radians(turn)
    cosine, sine = np.round([np.cos(angle), np.sin(angle)], 15)
    turned = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return World(turned @ (_Y_UP_FROM_Z_UP if up == "z" else np.eye(3)), scale, centre)


def settings(config: CollectionConfig, up: str, turn: float, scale: float | None) -> dict[str, str]:
    """Return how a recipe wants the world laid, with a layout's own values where it says nothing."""
    wanted = config.scale if config.scale is not None else scale
    return {
        "up": config.up or up,
        "turn": repr(float(turn if config.turn is None else config.turn)),
        "scale": "" if wanted is None else repr(float(wanted)),
    }


def places_of(config: CameraConfig) -> tuple[Float32[np.ndarray, "v 4 4"], Float32[np.ndarray, "v 3 3"]]:
    """Return stand-ins for cameras that every object brings itself: only their number and distance count."""
    poses = np.tile(np.eye(4, dtype=np.float32), (config.views, 1, 1))
    poses[:, 2, 3] = config.radius
    return poses, np.tile(np.eye(3, dtype=np.float32), (config.views, 1, 1))


def chosen(count: int, wanted: int, label: str) -> list[int]:
    """Return which `wanted` of `count` views to take, evenly spaced; MeshError where there are fewer."""
    if count < wanted:
        raise MeshError(
            f"{label}: {count} views, but dataset.cameras.views is {wanted}", f"Set dataset.cameras.views to {count}."
        )
    return [place * count // wanted for place in range(wanted)]


def rendered(frames: Sequence[Frame], world: World, resolution: int, label: str) -> Rendered:
    """Return frames as square views of `resolution` pixels in our world.

    Pictures are cut to their middle square. Colour and coverage are averaged over areas, which must be whole
    pixels or nearly so; depth and normal, which must not be averaged across an edge, are picked. Depth becomes
    distance along the ray. What one frame lacks counts as lacking in all.

    Raises:
        MeshError: a picture is smaller than `resolution`, a pose is no rotation and place, or the cameras stand
            upright along another axis than +y.
    """
    whole = [_square(frame) for frame in frames]
    for frame in whole:
        _check(frame, resolution, label)
    poses = np.stack([world.pose(frame.camera_to_world) for frame in whole])
    _check_upright(poses, label)
    return Rendered(
        colour=np.stack([_averaged(frame.colour, resolution) for frame in whole]),
        depth=_depths(whole, world, resolution),
        normal=_normals(whole, poses, world, resolution),
        masked=all(frame.masked for frame in whole),
        camera_to_world=poses.astype(np.float32),
        intrinsics=np.stack([_intrinsics(frame) for frame in whole]).astype(np.float32),
    )


def _square(frame: Frame) -> Frame:
    height, width = frame.colour.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    window = (slice(top, top + side), slice(left, left + side))
    return Frame(
        colour=frame.colour[window],
        camera_to_world=np.asarray(frame.camera_to_world, dtype=np.float64),
        focal=frame.focal,
        centre=(frame.centre[0] - left, frame.centre[1] - top),
        depth=None if frame.depth is None else frame.depth[window],
        normal=None if frame.normal is None else frame.normal[window],
        masked=frame.masked,
    )


def _check(frame: Frame, resolution: int, label: str) -> None:
    side = len(frame.colour)
    if side < resolution:
        raise MeshError(
            f"{label}: a picture of {side} pixels, but dataset.resolution is {resolution}",
            f"Set dataset.resolution to {side}.",
        )
    pose = frame.camera_to_world
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise MeshError(f"{label}: a pose that is not 4 x 4 numbers", "Export the cameras again.")
    axes = pose[:3, :3]
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3 or np.linalg.det(axes) < 0:
        raise MeshError(f"{label}: a pose whose axes are no rotation", "Export the cameras again.")
    if not (np.isfinite(frame.focal).all() and min(frame.focal) > 0 and np.isfinite(frame.centre).all()):
        raise MeshError(f"{label}: a focal length that is not positive", "Export the cameras again.")


def _check_upright(poses: Float[np.ndarray, "v 4 4"], label: str) -> None:
    """Raise MeshError where the tops of the pictures, on average, clearly point along another axis than +y."""
    if len(poses) < _ENOUGH_VIEWS:
        return
    upward = -poses[:, :3, 1].mean(axis=0)
    axis = int(np.argmax(np.abs(upward)))
    if abs(upward[axis]) > 0.3 and (axis != 1 or upward[1] < 0):
        name = f"{'+' if upward[axis] > 0 else '-'}{'xyz'[axis]}"
        raise MeshError(
            f"{label}: its cameras stand upright along {name}, not +y: `up` of the collection is wrong",
            "Set up: y or up: z in dataset.collections.",
        )


def _intrinsics(frame: Frame) -> Float[np.ndarray, "3 3"]:
    side = len(frame.colour)
    (fx, fy), (cx, cy) = frame.focal, frame.centre
    return np.array([[fx / side, 0, cx / side], [0, fy / side, cy / side], [0, 0, 1]])


def _averaged(colour: UInt8[np.ndarray, "h w 4"], resolution: int) -> UInt8[np.ndarray, "r r 4"]:
    if len(colour) == resolution:
        return np.ascontiguousarray(colour)
    rgba = colour.astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255  # clear texels have no say in the colour
    size = (resolution, resolution)
    planes = [np.asarray(Image.fromarray(rgba[..., c]).resize(size, Image.Resampling.BOX)) for c in range(4)]
    mean = np.stack(planes, axis=-1)
    mean[..., :3] *= 255 / np.maximum(mean[..., 3:], 1e-3)
    return np.asarray(np.rint(np.clip(mean, 0, 255)), np.uint8)


def _picks(side: int, resolution: int) -> np.ndarray:
    """Return which pixels lie at the middles of `resolution` equal parts of `side`."""
    return ((np.arange(resolution) + 0.5) * side / resolution).astype(np.int64)


def _depths(frames: Sequence[Frame], world: World, resolution: int) -> Float32[np.ndarray, "v r r"] | None:
    found = []
    for frame in frames:
        if frame.depth is None:
            return None
        depth = np.nan_to_num(frame.depth.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        places = _picks(len(depth), resolution)
        right = (places + 0.5 - frame.centre[0]) / frame.focal[0]
        down = (places + 0.5 - frame.centre[1]) / frame.focal[1]
        along = np.sqrt(right[None, :] ** 2 + down[:, None] ** 2 + 1)
        found.append(np.maximum(depth[np.ix_(places, places)], 0) * along * world.scale)
    return np.stack(found).astype(np.float32)


def _normals(
    frames: Sequence[Frame], poses: Float[np.ndarray, "v 4 4"], world: World, resolution: int
) -> Float32[np.ndarray, "v r r 3"] | None:
    """Return unit normals in our world, turned to the camera."""
    found = []
    for frame, pose in zip(frames, poses, strict=True):
        if frame.normal is None:
            return None
        places = _picks(len(frame.normal), resolution)
        normal = np.nan_to_num(frame.normal.astype(np.float64))[np.ix_(places, places)]
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        unit = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0.1) @ world.rotation.T
        right = (places + 0.5 - frame.centre[0]) / frame.focal[0]
        down = (places + 0.5 - frame.centre[1]) / frame.focal[1]
        ray = right[None, :, None] * pose[:3, 0] + down[:, None, None] * pose[:3, 1] + pose[:3, 2]
        away = (unit * ray).sum(axis=-1, keepdims=True) > 0
        found.append(np.where(away, -unit, unit))
    return np.stack(found).astype(np.float32)
