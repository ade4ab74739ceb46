"""Writes views of ours in the layouts of other renderers, each by its own published conventions."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.readers.mesh import normalised
from ln3d.data.views import Views, draw
from ln3d.geometry.cameras import camera_set

SIDE, VIEWS = 32, 6
CAMERAS = CameraConfig(views=VIEWS, radius=3.2, field_of_view=36)
GL = np.diag([1.0, -1, -1, 1])
TO_BLENDER = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # (x, y, z) of ours is (x, -z, y)
TO_SRN = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # ShapeNet's front -z is Blender's +y


@dataclass
class Truth:
    """What our own renderer drew of an object."""

    views: Views
    camera_to_world: np.ndarray
    intrinsics: np.ndarray

    @property
    def focal(self) -> float:
        """In picture sides."""
        return float(self.intrinsics[0, 0, 0])


def truth_of(category: str = "chair", side: int = SIDE, views: int = VIEWS) -> Truth:
    """Draw the first parametric object of a category, without the light of our rig."""
    (entry, *_) = list_objects(
        DatasetConfig(collections=(CollectionConfig(kind="parametric", categories=(category,)),))
    )
    poses, lenses = camera_set(CAMERAS.model_copy(update={"views": views}))
    return Truth(draw(normalised(load_object(entry, LimitsConfig())), poses, lenses, side, 2, "albedo"), poses, lenses)


def moved(pose: np.ndarray, rotation: np.ndarray, scale: float) -> np.ndarray:
    """Return a pose of ours in a world that is `scale * rotation @ ours`."""
    there = np.eye(4)
    there[:3, :3] = rotation @ pose[:3, :3]
    there[:3, 3] = scale * (rotation @ pose[:3, 3])
    return there


def save(pixels: np.ndarray, path: Path) -> None:
    """Write a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Return the RGB bytes of straight RGBA on white."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def planar(truth: Truth) -> np.ndarray:
    """Return the distance along the optical axis."""
    side = truth.views.depth.shape[1]
    x = ((np.arange(side) + 0.5) / side - 0.5) / truth.focal
    return truth.views.depth / np.sqrt(x[None, :] ** 2 + x[:, None] ** 2 + 1)


def write_nerf(truth: Truth, folder: Path, units: float = 1 / 0.66, **extra: object) -> Path:
    """Write `transforms.json` and RGBA pictures; `units` is theirs per one of ours, instant-ngp's by default."""
    frames = []
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        save(truth.views.colour[number], folder / f"train/r_{number}.png")
        matrix = (moved(pose, TO_BLENDER, units) @ GL).tolist()
        frames.append({"file_path": f"./train/r_{number}", "rotation": 0.01, "transform_matrix": matrix})
    document = {"camera_angle_x": 2 * math.atan(0.5 / truth.focal), "frames": frames} | extra
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def write_srn(truth: Truth, folder: Path) -> Path:
    """Write `rgb`, `pose` and `intrinsics.txt`, on white, in half the odd files' ways of breaking lines."""
    side = truth.views.colour.shape[1]
    focal = truth.focal * 2 * side  # the lens is told for pictures of twice the size, as in cars_train
    text = f"{focal!r} {side}. {side}. 0.\n0. 0. 0.\n1.\n{2 * side} {2 * side}\n"
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        save(on_white(truth.views.colour[number]), folder / f"rgb/{number:06d}.png")
        rows = [" ".join(map(repr, row)) for row in moved(pose, TO_SRN, 0.6).tolist()]
        (folder / "pose").mkdir(exist_ok=True)
        (folder / f"pose/{number:06d}.txt").write_text((" " if number % 2 else "\n").join(rows))
    (folder / "intrinsics.txt").write_text(text)
    return folder


def write_eg3d(truth: Truth, folder: Path) -> Path:
    """Write RGB pictures, each also called its mirror image, and `dataset.json`."""
    labels = []
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        lens = truth.intrinsics[number].astype(np.float64).reshape(-1).tolist()
        label = moved(pose, np.eye(3), 0.5).reshape(-1).tolist() + lens
        for name in (f"00000/img{number:08d}.png", f"00000/img{number:08d}_mirror.png"):
            save(on_white(truth.views.colour[number]), folder / name)
            labels.append([name, label])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def write_gobjaverse(truth: Truth, folder: Path, exr: bool = False) -> Path:
    """Write premultiplied PNG, JSON cameras, and normal and depth as EXR or NPY."""
    distance = planar(truth)
    for number, pose in enumerate(truth.camera_to_world.astype(np.float64)):
        stem = folder / f"campos_512_v4/{number:05d}/{number:05d}"
        rgba = truth.views.colour[number].astype(np.float64)
        alpha = rgba[..., 3:] / 255
        save(
            np.rint(np.concatenate([rgba[..., :3] * alpha, rgba[..., 3:]], axis=-1)).astype(np.uint8),
            Path(f"{stem}.png"),
        )
        there = moved(pose, TO_BLENDER, 0.5)
        axes = {name: there[:3, column].tolist() for column, name in enumerate(("x", "y", "z", "origin"))}
        angle = 2 * math.atan(0.5 / truth.focal)
        Path(f"{stem}.json").write_text(json.dumps({**axes, "x_fov": angle, "y_fov": angle, "max_depth": 5.0}))
        normal = truth.views.normal[number]  # (-x, y, z) of ours is how that engine has its world
        stored = np.concatenate([normal * [-1, 1, 1], distance[number][..., None] / 2], axis=-1) * alpha
        write_buffers(stored.astype(np.float32), stem, exr)
    return folder


def write_buffers(stored: np.ndarray, stem: Path, exr: bool) -> None:
    """Write (h, w, 4) as an EXR or NPY file."""
    if not exr:
        np.save(f"{stem}_nd.npy", stored)
        return
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGBA": stored.copy()}).write(f"{stem}_nd.exr")
