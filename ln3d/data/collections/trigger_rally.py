"""The rally cars of Trigger Rally (Debian package `trigger-rally-data`), read from the game's archive in place."""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, unreadable, with_article
from ln3d.data.readers import general
from ln3d.data.readers.markup import parse_xml
from ln3d.data.readers.scene import Part, Scene, checked
from ln3d.data.readers.sources import Source, ZipSource, folder_of, located
from ln3d.errors import MeshError, RecipeError

_ARCHIVES = ("data.zip", "usr/share/games/trigger-rally/data.zip")
_VEHICLES = "vehicles/"
_LARGEST_BODY = 32_000_000  # bytes, for telling whether two are the same
_CLASSES = {"Kit-Car": "kit car", "S500": "super 500 rally car", "WRC": "world rally car"}


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every car; the three paints of a body are liveries of one shape."""
    archive = _archive(root)
    names = [name for name in ZipSource(archive, LimitsConfig()).names() if name.startswith(_VEHICLES)]
    return [_entry(archive, name) for name in names if name.endswith(".vehicle")]


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one car on its four wheels, nose to +z; in metres."""
    source = ZipSource(Path(str(arguments["archive"])), limits)
    vehicle = str(arguments["vehicle"])
    tree = parse_xml(source.read(vehicle), vehicle)
    body, wheel = _part(tree, "part", vehicle), _part(tree, "genparams", vehicle)
    parts = _read(source, vehicle, body.get("model", ""), limits)
    parts = [replace(part, vertices=part.vertices * _number(body, "scale", 1.0, vehicle)) for part in parts]
    tyre = _read(source, vehicle, wheel.get("wheelmodel", ""), limits)
    for place in body.iterfind("wheel"):  # wheels are placed in the frame of the body's model
        parts += _placed(tyre, place, _number(wheel, "wheelscale", 1.0, vehicle), vehicle)
    return Scene([replace(part, vertices=_turned(part.vertices)) for part in parts])


class _OneMaterial:
    """A source whose OBJ files wear the one material of their library, whatever they call it.

    Some bodies name a material that their library lacks; the game takes the texture all the same.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.label = source, source.label

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        return self.source.has(name)

    def read(self, name: str) -> bytes:
        """Return a file's bytes, in an OBJ with the material's right name."""
        data = self.source.read(name)
        if not name.endswith(".obj"):
            return data
        library = re.search(rb"^mtllib[ \t]+(\S+)", data, re.MULTILINE)
        path = located(self.source, folder_of(name), library[1].decode("latin-1"), lenient=False) if library else None
        material = re.search(rb"^newmtl[ \t]+(\S+)", self.source.read(path), re.MULTILINE) if path else None
        return re.sub(rb"(?m)^usemtl.*$", b"usemtl " + material[1], data) if material else data


def _read(source: Source, vehicle: str, model: str, limits: LimitsConfig) -> list[Part]:
    path = located(source, folder_of(vehicle), model, lenient=False) if model else None
    if path is None:
        raise MeshError(f"{source.label}/{vehicle}: no model {model!r}", "Fetch the package again.")
    scene = general.read(_OneMaterial(source), path, limits)
    # the alpha of these textures is gloss
    return [replace(part, cutout=False) for part in checked(scene, f"{source.label}/{path}", limits).parts]


def _placed(tyre: list[Part], place: ElementTree.Element, scale: float, vehicle: str) -> list[Part]:
    """Return the wheel where one `wheel` element puts it; the game scales it by its radius, its outer face is at +x."""
    size = scale * _number(place, "radius", 0.3, vehicle)
    centre = np.array(_numbers(place, "pos", vehicle))
    if len(centre) != 3:
        raise MeshError(f"{vehicle}: a wheel without a position", "Fetch the package again.")
    turned = np.array([1, 1, 1] if centre[0] > 0 else [-1, -1, 1])
    return [replace(part, vertices=(part.vertices * turned * size + centre).astype(np.float32)) for part in tyre]


def _turned(points: np.ndarray) -> np.ndarray:
    """Return points of the game's axes (x right, y forward, z up) with +y up and +z forward."""
    return np.stack([-points[:, 0], points[:, 2], points[:, 1]], axis=1).astype(np.float32)


def _part(tree: ElementTree.Element, name: str, label: str) -> ElementTree.Element:
    found = tree.find(name)
    if found is None:
        raise MeshError(f"{label}: no element {name!r}", "Fetch the package again.")
    return found


def _number(element: ElementTree.Element, name: str, default: float, label: str) -> float:
    return (_numbers(element, name, label) or [default])[0]


def _numbers(element: ElementTree.Element, name: str, label: str) -> list[float]:
    try:
        return [float(word) for word in element.get(name, "").replace(",", " ").split()]
    except ValueError:
        raise MeshError(f"{label}: {name} is not made of numbers", "Fetch the package again.") from None


def _archive(root: Path) -> Path:
    for name in _ARCHIVES:
        if (root / name).is_file():
            return (root / name).resolve()
    raise RecipeError(f"{root}: no data.zip here", "Unpack the package trigger-rally-data there; see docs/data.md.")


@lru_cache(maxsize=64)
def _geometry(archive: Path, model: str) -> str:
    """Return the id of a body, equal for equal vertices: the paints differ in the names of their materials."""
    try:
        data = ZipSource(archive, LimitsConfig(file_bytes=_LARGEST_BODY)).read(model)
    except MeshError:  # if it cannot be read, the car will be a rejection with this reason, when it is loaded
        return shape_id("trigger-rally", model)
    return shape_id("trigger-rally", b"\n".join(line for line in data.splitlines() if line.startswith(b"v ")))


def _entry(archive: Path, vehicle: str) -> CatalogueEntry:
    path = PurePosixPath(vehicle)
    try:
        tree = parse_xml(ZipSource(archive, LimitsConfig()).read(vehicle), vehicle)
        model = _part(tree, "part", vehicle).get("model", "")
    except MeshError as error:
        return unreadable(f"trigger-rally/{path.stem}", error.message)
    make, sort = tree.get("name", path.stem).lower(), _CLASSES.get(tree.get("class", ""), "rally car")
    captions = (with_article(f"{make} {sort}"), with_article(sort), f"{with_article(make)}, a rally car", "a rally car")
    return CatalogueEntry(
        source_id=f"trigger-rally/{path.stem}",
        shape_id=_geometry(archive, (path.parent / model).as_posix()),
        name=f"{make} {sort}",
        category="car",
        captions=phrasings(*captions, "a car"),
        licence="GPL-2.0-or-later",
        author="the Trigger Rally team",
        load=("trigger-rally", {"archive": str(archive), "vehicle": vehicle}),
    )
