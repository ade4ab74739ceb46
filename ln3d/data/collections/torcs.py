"""The cars of TORCS (Debian package `torcs-data`): bodies, liveries, and wheels placed as the game places them."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers import ac3d
from ln3d.data.readers.markup import parse_xml
from ln3d.data.readers.scene import Part, Scene, checked
from ln3d.data.readers.sources import FolderSource, located
from ln3d.errors import MeshError, RecipeError

_INCH = 0.0254
_PLAIN_WHEEL = "trb1-3"  # for the cars whose tyres the game builds itself
_FREE_ART = re.compile(r"^(car\d|acura|baja)")

# What each car is called, and what sort of car it is.
_CARS: dict[str, tuple[str, str]] = {
    "155-DTM": ("alfa romeo 155", "touring car"),
    "acura-nsx-sz": ("acura nsx", "sports car"),
    "baja-bug": ("baja bug", "off-road beetle"),
    "buggy": ("buggy", "off-road buggy"),
    "car1-ow1": ("formula car", "open-wheel race car"),
    "car1-stock1": ("stock car", "stock race car"),
    "car1-stock2": ("stock car", "stock race car"),
    "car1-trb3": ("sports coupe", "sports car"),
    "p406": ("peugeot 406", "saloon car"),
}
_OTHER = ("gt race car", "gt sports car")


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every car in its own and in every driver's livery."""
    game = _game_folder(root)
    found = []
    for folder in sorted((game / "cars").iterdir()):
        if (folder / f"{folder.name}.acc").is_file():
            liveries = sorted((game / "drivers").glob(f"*/*/{folder.name}.rgb"))
            found += [_entry(game, folder.name, livery) for livery in [None, *liveries]]
    return found


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one car with its wheels, nose to +z."""
    source = FolderSource(Path(str(arguments["root"])), limits)
    car, livery = str(arguments["car"]), str(arguments["livery"])
    folder = f"cars/{car}"

    def texture(text: str) -> str | None:
        return livery if livery and text == f"{car}.rgb" else located(source, folder, text, lenient=True)

    # The alpha of a body is its gloss; one of them looks like holes, so none is believed.
    options = ac3d.Options(find_texture=texture, opaque=True, tint=False)
    body = checked(ac3d.read(source, f"{folder}/{car}.acc", limits, options), f"{folder}/{car}.acc", limits)
    setup = _Setup(parse_xml(source.read(f"{folder}/{car}.xml"), f"{folder}/{car}.xml"), f"{folder}/{car}.xml")
    wheel_file = f"wheels/{setup.text('Graphic Objects', '3d wheel directory', _PLAIN_WHEEL)}/wheel0.acc"
    wheel = checked(ac3d.read(source, wheel_file, limits), wheel_file, limits)
    parts = body.parts + [part for place in _WHEELS for part in _placed(wheel, setup, *place)]
    return Scene([replace(part, vertices=_turned(part.vertices)) for part in parts])


_WHEELS = (("Front", "Right"), ("Front", "Left"), ("Rear", "Right"), ("Rear", "Left"))


class _Setup:
    """A car's parameter file: sections of named numbers and texts."""

    def __init__(self, tree: ElementTree.Element, label: str) -> None:
        self.label = label
        self.sections = {section.get("name", ""): section for section in tree.iter("section")}

    def text(self, section: str, name: str, default: str) -> str:
        found = self.sections.get(section)
        for item in () if found is None else found.findall("attstr"):
            if item.get("name") == name:
                return item.get("val", default)
        return default

    def number(self, section: str, name: str, default: float) -> float:
        found = self.sections.get(section)
        for item in () if found is None else found.findall("attnum"):
            if item.get("name") == name:
                try:
                    value = float(item.get("val", default))
                except ValueError:
                    raise MeshError(f"{self.label}: {name} is not a number", "Fetch the package again.") from None
                return value * {"in": _INCH, "mm": 1e-3}.get(item.get("unit", ""), 1.0)
        return default


def _placed(wheel: Scene, setup: _Setup, end: str, side: str) -> list[Part]:
    """Return the unit wheel as one wheel of the car; file axes: x forward, y up, z right."""
    section = f"{end} {side} Wheel"
    width = setup.number(section, "tire width", 0.245)
    tyre = width * setup.number(section, "tire height-width ratio", 0.5)
    radius = setup.number(section, "rim diameter", 0.4) / 2 + tyre
    centre = np.array(
        [
            setup.number(f"{end} Axle", "xpos", 1.3 if end == "Front" else -1.3),
            radius - setup.number(section, "ride height", 0.1),
            -setup.number(section, "ypos", 0.8 if side == "Left" else -0.8),
        ]
    )
    outward = 1.0 if side == "Left" else -1.0  # the model's outer face looks to -z, the car's left
    scale = np.array([2 * radius * outward, 2 * radius, width * outward])
    return [replace(part, vertices=(part.vertices * scale + centre).astype(np.float32)) for part in wheel.parts]


def _turned(points: np.ndarray) -> np.ndarray:
    """Return points of the file's axes (x forward, y up, z right) with +z forward."""
    return np.stack([-points[:, 2], points[:, 1], points[:, 0]], axis=1)


def _game_folder(root: Path) -> Path:
    for folder in (root, root / "usr/share/games/torcs"):
        if (folder / "cars").is_dir():
            return folder.resolve()
    raise RecipeError(f"{root}: no TORCS cars here", "Unpack the package torcs-data there; see docs/data.md.")


def _entry(game: Path, car: str, livery: Path | None) -> CatalogueEntry:
    name, sort = _CARS.get(car, _OTHER)
    number = car.split("-")[0].removeprefix("car") if car not in _CARS else ""
    driver = "" if livery is None else f"{livery.parent.parent.name}-{livery.parent.name}"
    team = "" if livery is None else f" of team {livery.parent.parent.name.rstrip('0123456789')}"
    return CatalogueEntry(
        source_id=f"torcs/{car}/{driver or 'own'}",
        shape_id=shape_id("torcs", car),
        name=f"{name} {number}".strip(),
        category="car",
        captions=phrasings(
            with_article(name),
            with_article(sort),
            "a race car" if "race" in sort else "a car",
            f"{with_article(name)}{team}, {with_article(sort)}",
        ),
        licence="Free Art License" if _FREE_ART.match(car) else "GPL-2.0-or-later",
        author="the TORCS team",
        load=(
            "torcs",
            {"root": str(game), "car": car, "livery": "" if livery is None else livery.relative_to(game).as_posix()},
        ),
    )
