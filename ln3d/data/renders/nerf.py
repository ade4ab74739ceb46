"""NeRF's layout: `transforms.json` (or `transforms_train.json`, `_val`, `_test`) beside the pictures of one object.

Poses have OpenGL camera axes (x right, y up, z backward) in a world with z up, Blender's. Frames name their picture by
`file_path`, relative and perhaps without its suffix; the lens is `camera_angle_x`, or `fl_x`, `fl_y`, `cx`, `cy` in
pixels of `w` x `h`, for all frames or for each. Units are laid into the box as instant-ngp does: by `aabb`, or by
`scale`, `offset` and `aabb_scale`, 0.33, 0.5 and 1 where they are not said.

Sources: the NeRF authors' synthetic scenes and `load_blender.py`; instant-ngp's `docs/nerf_dataset_tips.md` and
`nerf_loader.cu`; nerfstudio's data conventions (https://docs.nerf.studio/quickstart/data_conventions.html).
"""

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.sources import FolderSource, located
from ln3d.data.renders.files import PICTURES, numbers, read_json, read_picture, sizes_digest
from ln3d.data.renders.frames import Frame, Rendered, World, chosen, rendered, settings, world_of
from ln3d.errors import MeshError
from ln3d.geometry.cameras import from_opengl

_FILES = ("transforms.json", "transforms_train.json", "transforms_val.json", "transforms_test.json")
_SCALE, _OFFSET = 0.33, 0.5
_BENT = ("k1", "k2", "k3", "k4", "p1", "p2")
_BENT_BY = 1e-6


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every folder with a transforms file; the folder above an object is its category."""
    root = root.resolve()
    folders = sorted({path.parent for name in _FILES for path in root.rglob(name)})
    return [_entry(config, root, folder) for folder in folders]


def load(arguments: Arguments, limits: LimitsConfig, views: int, resolution: int) -> Rendered:
    """Return evenly spaced views of one object; neither depth nor normals."""
    source = FolderSource(Path(str(arguments["root"])), limits)
    files = [name for name in _FILES if source.has(name)]
    documents = [read_json(source, name) for name in files[:1] if name == _FILES[0]] or [
        read_json(source, name) for name in files
    ]
    shots = [(document, shot) for document in documents for shot in _shots(document, source.label)]
    picked = [shots[place] for place in chosen(len(shots), views, source.label)]
    world = _world(arguments, documents[0], source.label)
    return rendered([_frame(source, *shot) for shot in picked], world, resolution, source.label)


def _shots(document: Mapping[str, Any], label: str) -> list[Mapping[str, Any]]:
    shots = document.get("frames")
    if not isinstance(shots, list) or not all(isinstance(shot, dict) for shot in shots):
        raise MeshError(f"{label}: no frames", "Export the cameras again.")
    return shots


def _frame(source: FolderSource, document: Mapping[str, Any], shot: Mapping[str, Any]) -> Frame:
    values = {**document, **shot}
    name = _picture_name(source, str(shot.get("file_path", "")))
    label = f"{source.label}/{name}"
    for key in _BENT:
        if abs(_number(values, key, 0.0, label)) > _BENT_BY:
            raise MeshError(f"{label}: a lens with distortion ({key})", "Undistort the pictures first.")
    pose = numbers(values.get("transform_matrix"), (4, 4), f"{label}: transform_matrix")
    colour = read_picture(source, name)
    height, width = colour.shape[:2]
    shrunk = width / _number(values, "w", width, label)  # the lens may be told for a larger copy of the picture
    if "fl_x" in values:
        across = _number(values, "fl_x", 0.0, label) * shrunk
    elif "camera_angle_x" in values:
        across = width / (2 * math.tan(_number(values, "camera_angle_x", 0.0, label) / 2) or math.inf)
    else:
        raise MeshError(f"{label}: neither fl_x nor camera_angle_x", "Export the cameras again.")
    down = _number(values, "fl_y", across / shrunk, label) * shrunk
    centre = [
        _number(values, key, middle / shrunk, label) * shrunk for key, middle in (("cx", width / 2), ("cy", height / 2))
    ]
    masked = bool((colour[..., 3] < 255).any())
    return Frame(colour, from_opengl(pose), (across, down), (centre[0], centre[1]), masked=masked)


def _picture_name(source: FolderSource, reference: str) -> str:
    for suffix in ("", *PICTURES):
        name = located(source, "", reference + suffix, lenient=False)
        if name is not None and PurePosixPath(name).suffix.lower() in PICTURES:
            return name
    raise MeshError(f"{source.label}: no picture {reference!r}", "Put the pictures where file_path says.")


def _world(arguments: Arguments, document: Mapping[str, Any], label: str) -> World:
    """Return how the object's world lies in the box: as the recipe says, else as the file does."""
    up, turn = str(arguments["up"]), float(str(arguments["turn"]))
    told = str(arguments["scale"])
    if told:
        return world_of(up, turn, float(told))
    if "aabb" in document:
        low, high = numbers(document["aabb"], (2, 3), f"{label}: aabb")
        half = float(np.abs(high - low).max()) / 2
        middle = (low + high) / 2
    else:
        scale = _number(document, "scale", _SCALE, label)
        offset = numbers(document.get("offset", [_OFFSET] * 3), (3,), f"{label}: offset")
        half = _number(document, "aabb_scale", 1.0, label) / 2 / scale if scale > 0 else 0.0
        middle = (0.5 - offset) / scale if scale > 0 else offset
    if not 0 < half < math.inf:
        raise MeshError(f"{label}: a scene of no size", "Set scale of the collection.")
    return world_of(up, turn, 1 / half, (float(middle[0]), float(middle[1]), float(middle[2])))


def _number(values: Mapping[str, Any], key: str, default: float, label: str) -> float:
    return float(numbers(values.get(key, default), (1,), f"{label}: {key}")[0])


def _entry(config: CollectionConfig, root: Path, folder: Path) -> CatalogueEntry:
    path = folder.relative_to(root)
    name = root.name if folder == root else path.as_posix()
    category = config.category or (path.parts[0].lower() if len(path.parts) > 1 else "object")
    words = " ".join(PurePosixPath(name).name.replace("_", " ").replace("-", " ").lower().split())
    laid = settings(config, "z", 0.0, None)
    return CatalogueEntry(
        source_id=f"nerf/{name}",
        shape_id=shape_id("nerf", name),
        name=words,
        category=category,
        captions=phrasings(with_article(words), with_article(category)),
        licence="unknown",
        author="unknown",
        load=("nerf", {"root": str(folder), **laid}),
        stamp=(*laid.values(), sizes_digest(folder)),
    )
