"""Ships, trees and animals of 0 A.D. (Debian package `0ad-data`), read from its 3 GB archive in place."""

import re
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.zero_ad_actors import ACTORS, Assembly
from ln3d.data.readers.scene import Scene, checked
from ln3d.data.readers.sources import ZipSource
from ln3d.errors import MeshError, RecipeError

_ARCHIVES = ("public.zip", "usr/share/games/0ad/mods/public/public.zip", "mods/public/public.zip")

PLAYER_COLOURS: dict[str, tuple[float, float, float]] = {
    "plain": (0.86, 0.84, 0.78),
    "red": (0.72, 0.10, 0.10),
    "blue": (0.13, 0.25, 0.68),
    "green": (0.15, 0.50, 0.16),
    "yellow": (0.90, 0.78, 0.15),
    "purple": (0.45, 0.20, 0.55),
}
"""Colours of the parts that the game paints in a player's colour: flags, shields, patterns of sails."""

_PEOPLES = {
    "athenians": "athenian",
    "carthaginians": "carthaginian",
    "celts": "celtic",
    "han": "chinese",
    "hellenes": "greek",
    "iberians": "iberian",
    "kushites": "kushite",
    "macedonians": "macedonian",
    "mauryas": "indian",
    "persians": "persian",
    "ptolemies": "egyptian",
    "romans": "roman",
    "spartans": "spartan",
    "viking": "viking",
}
_SHIPS = {  # by the actor's file name: name, and what it is made for
    "bireme": ("bireme", "rowed warship"),
    "fireship": ("fire ship", "wooden ship"),
    "fishing_boat": ("fishing boat", "small wooden boat"),
    "fishing_ship": ("fishing boat", "small wooden boat"),
    "fishship": ("fishing boat", "small wooden boat"),
    "longship": ("longship", "wooden sailing ship"),
    "merchant": ("merchant ship", "wooden sailing ship"),
    "merchant_ship": ("merchant ship", "wooden sailing ship"),
    "merchantman": ("merchant ship", "wooden sailing ship"),
    "quinquereme": ("quinquereme", "large rowed warship"),
    "rowboat": ("rowing boat", "small wooden boat"),
    "towership": ("tower ship", "large wooden warship"),
    "trireme": ("trireme", "rowed warship"),
    "warship": ("warship", "wooden warship"),
    "warship_light": ("light warship", "wooden warship"),
}
_HEADS = frozenset(
    "bamboo baobab bear beech cedar cypress elephant fir fish fox giraffe horse juniper mangrove maple oak orchard "
    "palm pig pine poplar whale zebu".split()
)
_SEASONS = frozenset("autumn blooming dead old sapling short snowy tall large winter young".split())
_LONG = {"aut": "autumn", "bloom": "blooming", "medit": "mediterranean", "deci": "deciduous", "tropic": "tropical"}
_LONG |= {"euro": "european", "snow": "snowy", "w": "snowy", "cherryblossom": "blossoming cherry", "willow": "willow"}
_NOISE = frozenset(("", "a", "b", "new", "wild", "windswept", "single", "small", "trees"))
_NO_TREE = re.compile(r"top|leaves|branches|needles|grass|fern|test|biome|forest|patch|building|poppy|percent|bush")
_NO_ANIMAL = re.compile(r"circle|shoal|generic|flaming|dragon|^fish$")


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return ships in several player colours, then trees and animals."""
    archive = _archive(root)
    names = [name for name in ZipSource(archive, LimitsConfig()).names() if name.endswith(".xml")]
    found = []
    for name in names:
        path = PurePosixPath(name.removeprefix(ACTORS))
        if not name.startswith(ACTORS):
            continue
        if path.parts[0] == "structures" and len(path.parts) == 3 and path.stem in _SHIPS:
            found += [_ship(archive, path, paint) for paint in PLAYER_COLOURS]
        elif path.parts[:2] == ("flora", "trees") and not _NO_TREE.search(path.stem):
            found.append(_living(archive, path, "tree"))
        elif path.parts[0] == "fauna" and len(path.parts) == 2 and not _NO_ANIMAL.search(path.stem):
            found.append(_living(archive, path, "animal"))
    return sorted(found, key=lambda entry: ("boat", "tree", "animal").index(entry.category))


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one actor with its props, bow or head to +z."""
    source = ZipSource(Path(str(arguments["archive"])), limits)
    actor = str(arguments["actor"])
    assembly = Assembly(source, limits, PLAYER_COLOURS[str(arguments["paint"])])
    scene = checked(Scene(assembly.parts(actor)), f"{source.label}/{actor}", limits)
    for part in scene.parts:  # the game's axes are left-handed, and its models look to -z
        part.vertices = part.vertices * np.array([1, 1, -1], dtype=np.float32)
    return scene


def _archive(root: Path) -> Path:
    for name in _ARCHIVES:
        if (root / name).is_file():
            return (root / name).resolve()
    raise RecipeError(f"{root}: no public.zip here", "Unpack the package 0ad-data there; see docs/data.md.")


def _ship(archive: Path, path: PurePosixPath, paint: str) -> CatalogueEntry:
    name, sort = _SHIPS[path.stem]
    people = _PEOPLES.get(path.parts[1], "")
    wooden = "a wooden boat" if "boat" in f"{name} {sort}" else "a wooden ship"
    captions = (with_article(f"{people} {name}"), with_article(f"{name}, {sort}"), with_article(sort), wooden, "a boat")
    return _entry(archive, path, paint, f"{people} {name}", "boat", captions)


def living_name(stem: str, category: str) -> str:
    """Return an animal's or a tree's name in words: `bear_black` is "black bear", `oak_aut` "autumn oak tree"."""
    words = [_LONG.get(word, word) for word in re.sub(r"\d+", "", stem).split("_") if word not in _NOISE]
    if len(words) > 1 and words[0] in _HEADS:
        words = words[1:] + words[:1]
    seasons = [word for word in words if word in _SEASONS]
    words = seasons + [word for word in words if word not in _SEASONS]
    if category == "tree":
        words = [word for word in words if word != "tree"] + ["tree"]
    return " ".join(dict.fromkeys(words)).strip() or category


def _living(archive: Path, path: PurePosixPath, category: str) -> CatalogueEntry:
    name = living_name(path.stem, category)
    kind = name.split()[-1] if category == "animal" else " ".join(name.split()[-2:])
    captions = (with_article(name), with_article(kind), with_article(category))
    return _entry(archive, path, "plain", name, category, captions)


@lru_cache(maxsize=4096)
def _mesh_of(archive: Path, actor: str) -> str:
    """Return the mesh of an actor: many actors are one mesh in another skin."""
    try:
        return Assembly(ZipSource(archive, LimitsConfig()), LimitsConfig(), PLAYER_COLOURS["plain"]).mesh_of(actor)
    except MeshError:  # it will be a rejection with this reason, when it is loaded
        return f"of {actor}"


def _entry(
    archive: Path, path: PurePosixPath, paint: str, name: str, category: str, captions: tuple[str, ...]
) -> CatalogueEntry:
    actor = path.as_posix()
    return CatalogueEntry(
        source_id=f"0ad/{path.with_suffix('').as_posix()}/{paint}",
        shape_id=shape_id("0ad", _mesh_of(archive, actor)),
        name=name,
        category=category,
        captions=phrasings(*captions),
        licence="CC-BY-SA-3.0",
        author="Wildfire Games",
        load=("0ad", {"archive": str(archive), "actor": actor, "paint": paint}),
    )
