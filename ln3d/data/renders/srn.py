"""Scene Representation Networks' layout: `rgb/*.png`, `pose/*.txt` and `intrinsics.txt` in a folder per object.

A pose is 16 numbers on one line or four, camera to world with OpenCV axes; `intrinsics.txt` says focal length and
principal point in pixels, then two lines that are not needed, then height and width, and perhaps 1 where poses are
world to camera. Pictures are on white; where they have no alpha, what is purely white is background. The sets are
called `cars_train`, `cars_val`, `chairs_test` and so on, from which category and split are taken (`cars_train_val` are
other views of training objects).

Sources: `parse_intrinsics` of https://github.com/vsitzmann/scene-representation-networks, and pixelNeRF's
`src/data/SRNDataset.py`. Their objects are ShapeNet's in Blender's world: z up, front at +y. The official LN3Diff's
ShapeNet renders have the same files with y up and the front at -z (`up: y`), at a distance of 1.2.
"""

import re
from pathlib import Path

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.shapenet import SYNSETS
from ln3d.data.readers.sources import FolderSource
from ln3d.data.renders.files import PICTURES, numbers, on_white_mask, read_picture, sizes_digest, words_to_numbers
from ln3d.data.renders.frames import Frame, Rendered, chosen, rendered, settings, world_of
from ln3d.errors import MeshError

_SCALE = 1 / 0.6  # ShapeNet's bounding boxes have a diagonal of 1
_FRONT_TURN = 180.0
_SET = re.compile(r"(?P<what>\w+?)_(?:[\d.]+_)?(?P<split>train|val|test)(?:_val|_test)?")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every folder with an `intrinsics.txt`."""
    root = root.resolve()
    folders = sorted(path.parent for path in root.rglob("intrinsics.txt"))
    return [_entry(config, root, folder) for folder in folders if (folder / "rgb").is_dir()]


def load(arguments: Arguments, limits: LimitsConfig, views: int, resolution: int) -> Rendered:
    """Return evenly spaced views of one object; neither depth nor normals."""
    root = Path(str(arguments["root"]))
    source = FolderSource(root, limits)
    names = sorted(
        path.name
        for path in (root / "rgb").iterdir()
        if path.suffix.lower() in PICTURES and source.has(f"pose/{path.stem}.txt")
    )
    picked = [names[place] for place in chosen(len(names), views, source.label)]
    world = world_of(str(arguments["up"]), float(str(arguments["turn"])), float(str(arguments["scale"])))
    return rendered([_frame(source, name) for name in picked], world, resolution, source.label)


def _frame(source: FolderSource, name: str) -> Frame:
    colour = on_white_mask(read_picture(source, f"rgb/{name}"))
    focal, centre, size, inverse = _lens(source)
    label = f"{source.label}/pose/{Path(name).stem}.txt"
    text = source.read(f"pose/{Path(name).stem}.txt").decode("latin-1")
    pose = numbers(words_to_numbers(text, label), (4, 4), label)
    if inverse:
        try:
            pose = np.linalg.inv(pose)
        except np.linalg.LinAlgError:
            raise MeshError(f"{label}: a pose without an inverse", "Export the cameras again.") from None
    down, across = colour.shape[0] / size[0], colour.shape[1] / size[1]
    return Frame(colour, pose, (focal * across, focal * down), (centre[0] * across, centre[1] * down))


def _lens(source: FolderSource) -> tuple[float, tuple[float, float], tuple[float, float], bool]:
    """Return focal length, principal point, (height, width), and whether poses are world to camera."""
    label = f"{source.label}/intrinsics.txt"
    lines = source.read("intrinsics.txt").decode("latin-1").split("\n")
    rows = [words_to_numbers(line, label) for line in lines if line.strip()]
    sizes = [row for row in rows[1:] if len(row) == 2]
    if not rows or len(rows[0]) < 3 or not sizes or min(sizes[-1]) <= 0:
        raise MeshError(f"{label}: not focal length, principal point and size", "Fetch the file again.")
    focal, cx, cy = rows[0][:3]
    return focal, (cx, cy), (sizes[-1][0], sizes[-1][1]), len(rows) > 4 and rows[-1] == [1.0]


def _entry(config: CollectionConfig, root: Path, folder: Path) -> CatalogueEntry:
    path = Path(root.name) / folder.relative_to(root)
    parts = [*reversed(path.parts[:-1]), *reversed(root.parts[:-1])]
    told = next((match for part in parts if (match := _SET.fullmatch(part))), None)
    synset = next((SYNSETS[part] for part in parts if part in SYNSETS), "")
    category = config.category or synset or (told["what"].removesuffix("s").lower() if told else "object")
    split = _SPLITS[told["split"]] if told else ""
    laid = settings(config, "z", _FRONT_TURN, _SCALE)
    return CatalogueEntry(
        source_id=f"srn/{path.as_posix()}",
        shape_id=shape_id("srn", path.name),
        name=category,
        category=category,
        captions=phrasings(with_article(category)),
        licence="unknown",
        author="unknown",
        load=("srn", {"root": str(folder), **laid}),
        official_split=split,
        stamp=(split, *laid.values(), sizes_digest(folder)),
    )
