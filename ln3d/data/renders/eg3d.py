"""EG3D's layout: pictures and a `dataset.json` that gives each its camera; one picture is one object.

`{"labels": [[file, [25 numbers]], ...]}`: a 4 x 4 pose, camera to world with OpenCV axes, then a 3 x 3 matrix of
intrinsics in picture sizes. EG3D's scripts make it so of FFHQ (cropped faces, +y up, looking to +z, every camera at a
distance of 2.7, each face also mirrored as `*_mirror.png`), and of other sets.

Sources: `eg3d/training/dataset.py`, `docs/camera_conventions.md` and `dataset_preprocessing/ffhq/` of
https://github.com/NVlabs/eg3d. The box has a side of 1 there (`box_warp`), hence the factor 2.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.sources import FolderSource, joined
from ln3d.data.renders.files import numbers, read_picture
from ln3d.data.renders.frames import Frame, Rendered, chosen, rendered, settings, world_of
from ln3d.errors import MeshError, RecipeError

_SCALE = 2.0
_FACES = re.compile(r"ffhq|face|celeb", re.IGNORECASE)
_LABEL_NUMBERS = 25


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every labelled picture in the order of `dataset.json`; a face and its mirror image are one shape.

    Raises:
        RecipeError: `dataset.json` is damaged, or a label is not 25 numbers.
    """
    root = root.resolve()
    path = root / "dataset.json"
    if not path.is_file():
        return []
    try:
        labels = dict(json.loads(path.read_text(encoding="utf-8"))["labels"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RecipeError(f"{path}: no labels ({error})", "Make the file again with EG3D's scripts.") from None
    for name, label in labels.items():
        if not isinstance(label, list) or len(label) != _LABEL_NUMBERS:
            raise RecipeError(f"{path}: {name} has no camera of 25 numbers", "Make it again with EG3D's scripts.")
    return [_entry(config, root, name, label) for name, label in labels.items()]


def load(arguments: Arguments, limits: LimitsConfig, views: int, resolution: int) -> Rendered:
    """Return the only view of an object; neither depth nor normals, and a mask only where the picture has alpha."""
    source = FolderSource(Path(str(arguments["root"])), limits)
    name = joined("", str(arguments["picture"]), source.label)
    label = f"{source.label}/{name}"
    chosen(1, views, label)
    values = numbers(arguments["label"], (_LABEL_NUMBERS,), label)
    colour = read_picture(source, name)
    lens, (height, width) = values[16:].reshape(3, 3), colour.shape[:2]
    if height != width:
        raise MeshError(f"{label}: {width} x {height} pixels, not a square", "Crop the pictures with EG3D's scripts.")
    frame = Frame(
        colour,
        values[:16].reshape(4, 4),
        (lens[0, 0] * width, lens[1, 1] * height),
        (lens[0, 2] * width, lens[1, 2] * height),
        masked=bool((colour[..., 3] < 255).any()),
    )
    world = world_of(str(arguments["up"]), float(str(arguments["turn"])), float(str(arguments["scale"])))
    return rendered([frame], world, resolution, label)


def _entry(config: CollectionConfig, root: Path, name: str, label: list[Any]) -> CatalogueEntry:
    category = config.category or ("face" if _FACES.search(root.as_posix()) else "object")
    laid = settings(config, "y", 0.0, _SCALE)
    camera = [repr(value) for value in label]
    stem = name.rpartition(".")[0] or name
    digest = hashlib.sha256(" ".join(camera).encode()).hexdigest()[:16]
    return CatalogueEntry(
        source_id=f"eg3d/{root.name}/{name}",
        shape_id=shape_id("eg3d", root.name, stem.removesuffix("_mirror")),
        name=category,
        category=category,
        captions=phrasings(with_article(category)),
        licence="unknown",
        author="unknown",
        load=("eg3d", {"root": str(root), "picture": name, "label": camera, **laid}),
        stamp=(*laid.values(), digest),
    )
