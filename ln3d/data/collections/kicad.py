"""KiCad's electronic parts (Debian package `kicad-packages3d`): VRML files in a folder per kind of part."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.mesh import read_scene
from ln3d.data.readers.scene import Scene
from ln3d.errors import RecipeError

_ROOTS = (".", "usr/share/kicad/3dmodels", "usr/share/kicad/modules/packages3d")
_KINDS = {  # by the first word of the folder's name
    "Button": "switch",
    "Buzzer": "buzzer",
    "Connector": "connector",
    "Converter": "converter",
    "Crystal": "crystal",
    "Diode": "diode",
    "Display": "display",
    "LED": "led",
    "MountingHole": "mounting hole",
    "Package": "chip",
    "RF": "radio module",
    "TO": "chip",
    "TerminalBlock": "terminal block",
}
_MOUNTS = {"THT": "through-hole", "SMD": "surface-mount"}


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every part by folder and name.

    Raises:
        RecipeError: there are no `*.3dshapes` folders.
    """
    for place in _ROOTS:
        base = (root / place).resolve()
        folders = sorted(base.glob("*.3dshapes"))
        if folders:
            return [_entry(base, path) for folder in folders for path in sorted(folder.glob("*.wrl"))]
    raise RecipeError(
        f"{root}: no folders such as LED_THT.3dshapes", "Unpack the package kicad-packages3d there; see docs/data.md."
    )


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one part, standing on its board as +y up; the file's axes are x right, y back, z up."""
    path = Path(str(arguments["root"])) / str(arguments["path"])
    scene = read_scene(path, limits, root=path.parent)
    return Scene([replace(part, vertices=_turned(part.vertices)) for part in scene.parts])


def part_words(folder: str, stem: str) -> tuple[str, str]:
    """Return the kind of a part and its name: `LED_THT`, `LED_D5.0mm` is "led", "through-hole led d5.0mm"."""
    words = re.split(r"[_-]", folder)
    kind = _KINDS.get(words[0], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words[0]).lower()) or "part"
    mount = next((_MOUNTS[word] for word in words if word in _MOUNTS), "")
    own = [word.lower() for word in stem.split("_") if word]
    plain = [word for word in own if word not in kind.split()]
    return kind, " ".join(word for word in (mount, kind, *plain) if word)


def _turned(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def _entry(base: Path, path: Path) -> CatalogueEntry:
    folder, stem = path.parent.name.removesuffix(".3dshapes"), path.stem
    kind, name = part_words(folder, stem)
    mounted = name.split(kind)[0].strip()
    return CatalogueEntry(
        source_id=f"kicad/{folder}/{stem}",
        shape_id=shape_id("kicad", folder, stem),
        name=name,
        category=kind,
        captions=phrasings(with_article(name), with_article(f"{mounted} {kind}".strip()), with_article(kind)),
        licence="CC-BY-SA-4.0 with exception",
        author="the KiCad libraries' authors",
        load=("kicad", {"root": str(base), "path": path.relative_to(base).as_posix()}),
    )
