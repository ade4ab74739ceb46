"""G-Objaverse's layout: `<part>/<object>/campos_512_v4/00000/00000{.json,.png,_nd.exr}`, 40 views of an object.

The JSON has the camera's axes `x`, `y`, `z` (OpenCV's) and `origin` in Blender's world (z up, front at -y), in which
objects lie within a cube of side 1, and `x_fov` in radians. The EXR has the distance along the optical axis in A and
the world normal in R, G, B, in the axes of another engine: (-R, -B, G) in Blender's. Edges are antialiased: colour,
depth and normal are all multiplied by the coverage in the PNG's alpha.

Sources: `dataset/gobjaverse/` of https://github.com/modelscope/richdreamer and `datasets/g_buffer_objaverse.py` of
https://github.com/NIRVANALAN/LN3Diff; axes, kind of depth and coverage were measured on the object that the latter
carries. `00000_nd.npy`, float (h, w, 4), serves in place of the EXR. Captions are Cap3D's
(`text_captions_cap3d.json`, {"<part>/<object>": caption}), found in the folder or named by the recipe.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.annotations import captions_by_uid, categories_by_uid, told_or_beside
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.limits import check_pixels
from ln3d.data.readers.sources import FolderSource
from ln3d.data.renders.exr import check_reader, read_rgba
from ln3d.data.renders.files import numbers, read_json, read_picture
from ln3d.data.renders.frames import Frame, Rendered, chosen, rendered, settings, world_of
from ln3d.errors import MeshError

VIEWS = "campos_512_v4"
_SCALE = 2.0
_DEEPEST = 4
_REACH = 0.867  # of a cube of side 1, from its middle: half its diagonal
_COVERED = 128  # the pixel's middle is on the object, as far as its coverage can tell


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every object by its uid `<part>/<object>`.

    Raises:
        RecipeError: there are EXR files and no package that reads them, or captions or categories are damaged.
    """
    root = root.resolve()
    folders = {"/".join(path.parts[-2:]): path for path in sorted(_objects(root, 0))}
    first = next(iter(folders.values()), None)
    if first is not None and any((first / VIEWS).glob("*/*_nd.exr")):
        check_reader()
    spoken = told_or_beside(config.captions, root, "*cap3d*.json", "*Cap3D*.csv")
    sorted_in = told_or_beside(config.annotations, root)
    captions = captions_by_uid(spoken, folders.keys()) if spoken else {}
    categories = categories_by_uid(sorted_in) if sorted_in else {}
    return [
        _entry(config, folder, uid, categories.get(uid) or _kind(root, folder), captions.get(uid, []))
        for uid, folder in folders.items()
    ]


def load(arguments: Arguments, limits: LimitsConfig, views: int, resolution: int) -> Rendered:
    """Return evenly spaced views of one object; depth and normals where all of them have an EXR or NPY file."""
    root = Path(str(arguments["root"]))
    source = FolderSource(root, limits)
    names = sorted(
        path.name for path in root.iterdir() if path.name.isdigit() and (path / f"{path.name}.json").is_file()
    )
    picked = [names[place] for place in chosen(len(names), views, source.label)]
    world = world_of(str(arguments["up"]), float(str(arguments["turn"])), float(str(arguments["scale"])))
    return rendered([_frame(source, f"{name}/{name}") for name in picked], world, resolution, source.label)


def _frame(source: FolderSource, stem: str) -> Frame:
    label = f"{source.label}/{stem}"
    camera = read_json(source, f"{stem}.json")
    pose = np.eye(4)
    for column, name in enumerate(("x", "y", "z", "origin")):
        pose[:3, column] = numbers(camera.get(name), (3,), f"{label}.json: {name}")
    angle = float(numbers(camera.get("x_fov"), (1,), f"{label}.json: x_fov")[0])
    if not 0 < angle < math.pi:
        raise MeshError(f"{label}.json: a field of view of {angle} radians", "Fetch the file again.")
    stored = read_picture(source, f"{stem}.png")
    height, width = stored.shape[:2]
    focal = width / 2 / math.tan(angle / 2)
    buffers = _buffers(source, stem)
    depth, normal = (None, None) if buffers is None else _geometry(buffers, stored[..., 3], pose, label)
    return Frame(_straight(stored), pose, (focal, focal), (width / 2, height / 2), depth, normal)


def _straight(stored: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Return premultiplied colour as straight colour."""
    rgba = stored.astype(np.float32)
    rgba[..., :3] *= 255 / np.maximum(rgba[..., 3:], 1)
    return np.asarray(np.rint(np.minimum(rgba, 255)), np.uint8)


def _buffers(source: FolderSource, stem: str) -> Float32[np.ndarray, "h w 4"] | None:
    """Return normal and depth as they are stored; None where there is no file of them."""
    label = f"{source.label}/{stem}_nd"
    if source.has(f"{stem}_nd.exr"):
        return read_rgba(source.read(f"{stem}_nd.exr"), source.limits, f"{label}.exr")
    if not source.has(f"{stem}_nd.npy"):
        return None
    try:
        values = np.load(io.BytesIO(source.read(f"{stem}_nd.npy")), allow_pickle=False)
        check_pixels((values.shape[1], values.shape[0]), source.limits.texture_pixels, f"{label}.npy")
        return np.asarray(values, dtype=np.float32)
    except (ValueError, EOFError, IndexError, AttributeError) as error:
        raise MeshError(f"{label}.npy: a damaged file ({error})", "Write it again.") from None


def _geometry(
    buffers: Float32[np.ndarray, "h w 4"], alpha: UInt8[np.ndarray, "h w"], pose: np.ndarray, label: str
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w 3"]]:
    """Return depth and Blender's normals of the pixels that the object covers by half, 0 elsewhere."""
    if buffers.shape != (*alpha.shape, 4):
        raise MeshError(f"{label}_nd: {buffers.shape} numbers for {alpha.shape} pixels", "Fetch it again.")
    finite = np.nan_to_num(buffers, nan=0.0, posinf=0.0, neginf=0.0)
    depth = finite[..., 3] / np.maximum(alpha, 1) * np.float32(255)
    nearest = max(float(np.linalg.norm(pose[:3, 3])) - _REACH, 0.0)
    solid = (alpha >= _COVERED) & (depth > nearest)
    normal = np.stack([-finite[..., 0], -finite[..., 2], finite[..., 1]], axis=-1)
    return np.where(solid, depth, 0).astype(np.float32), np.where(solid[..., None], normal, 0).astype(np.float32)


def _objects(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that hold views; theirs are not looked into, which would take hours."""
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    if any(path.name == VIEWS for path in inner):
        yield folder
    elif depth < _DEEPEST:
        for path in inner:
            yield from _objects(path, depth + 1)


def _kind(root: Path, folder: Path) -> str:
    """Return the folder above `<part>/<object>` in words where the set is divided so, as in `Animals/0/10120`."""
    above = folder.relative_to(root).parts[:-2]
    return above[-1].replace("_", " ").lower() if above else ""


def _entry(config: CollectionConfig, folder: Path, uid: str, kind: str, captions: list[str]) -> CatalogueEntry:
    category = kind or config.category or "object"
    said = phrasings(*(caption.rstrip(". ") for caption in captions))
    laid = settings(config, "z", 0.0, _SCALE)
    return CatalogueEntry(
        source_id=f"gobjaverse/{uid}",
        shape_id=shape_id("gobjaverse", uid),
        name=category,
        category=category,
        captions=said or phrasings(with_article(category)),
        licence="ODC-By 1.0 as a whole; each object its own",
        author="unknown",
        load=("gobjaverse", {"root": str(folder / VIEWS), **laid}),
        own_captions=bool(said),
        stamp=tuple(laid.values()),
    )
