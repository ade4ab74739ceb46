"""FlightGear's AI aircraft (package `flightgear-data-ai`) and ships (package `flightgear-data-models`)."""

import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.flightgear_names import AIRCRAFT, SHIPS
from ln3d.data.readers import ac3d
from ln3d.data.readers.markup import parse_xml
from ln3d.data.readers.scene import Scene, checked
from ln3d.data.readers.sources import FolderSource, Source, folder_of, located
from ln3d.errors import MeshError, RecipeError

_LICENCE = "GPL-2.0-or-later"
_AUTHOR = "the FlightGear project"
_SKIP = re.compile(
    r"light(?!ning)|beacon|strobe|shadow|flame|contrail|disc|disk|smoke|glow|flare|halo|exhaust|wake|chute|refuel"
    r"|prop\w*?[._ ]*(fast|blur|spin)",
    re.IGNORECASE,
)
_SKIP_TEXTURE = re.compile(r"wake|shadow|[-_]lights?\b|^L_.*Light", re.IGNORECASE)
_LEAST_SURFACES = 150  # lamps, banners and other bits have fewer
_DEEPEST = 5
_PLAIN = frozenset(("default", "main", "set", "fallback", "nowinglets", "winglets", "base", "low", "lowpoly"))


@dataclass(frozen=True)
class _Model:
    """One way to paint one geometry; names are relative to the game's folder."""

    definition: str
    mesh: str
    textures: str
    """Folder looked in before the mesh's own; empty for none."""
    turns: int = 1
    """Quarter turns that bring the nose to +z."""


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return the aircraft in all their liveries, and the ships, whichever of them is under `root`."""
    game = _game_folder(root)
    found: list[CatalogueEntry] = []
    if (game / "AI/Aircraft").is_dir():
        source = FolderSource(game, LimitsConfig())
        for folder in sorted(AIRCRAFT):
            models = _liveries(source, game / "AI/Aircraft" / folder) or _bare(game, game / "AI/Aircraft" / folder)
            found += [_aircraft(game, folder, model) for model in models]
    found += [_ship(game, name) for name in sorted(SHIPS) if (game / "Models" / f"{name}.ac").is_file()]
    return found


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one aircraft or ship, nose or bow to +z."""
    source = FolderSource(Path(str(arguments["root"])), limits)
    mesh, textures = str(arguments["mesh"]), str(arguments["textures"])

    def texture(text: str) -> str | None:
        painted = located(source, textures, PurePosixPath(text).name, lenient=True) if textures else None
        return painted or located(source, folder_of(mesh), text, lenient=True)

    options = ac3d.Options(find_texture=texture, skip=_SKIP, skip_texture=_SKIP_TEXTURE)
    scene = checked(ac3d.read(source, mesh, limits, options), mesh, limits)
    turns = int(str(arguments["turns"]))
    return Scene([replace(part, vertices=_turned(part.vertices, turns)) for part in scene.parts])


def livery_words(text: str) -> str:
    """Return a livery's file name part in words: `AirBerlin` is "air berlin", `KLM-BXA` "klm bxa"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])|[-_.]+", " ", text)
    return " ".join(word.lower() for word in spaced.split() if word.lower() not in _PLAIN)


def _turned(points: np.ndarray, turns: int) -> np.ndarray:
    """Return points turned about y by quarter turns, each of which brings -x to +z.

    One turn fits the usual axes of these files: x backward, y up, z left. Some ships were drawn otherwise.
    """
    for _ in range(turns):
        points = np.stack([points[:, 2], points[:, 1], -points[:, 0]], axis=1)
    return points


def _game_folder(root: Path) -> Path:
    for folder in (root, root / "usr/share/games/flightgear"):
        if (folder / "AI/Aircraft").is_dir() or (folder / "Models/Maritime").is_dir():
            return folder.resolve()
    raise RecipeError(
        f"{root}: neither AI/Aircraft nor Models/Maritime here",
        "Unpack flightgear-data-ai or flightgear-data-models there; see docs/data.md.",
    )


def _liveries(source: FolderSource, folder: Path) -> list[_Model]:
    """Return the models that the XML files of one aircraft's folder define, undecorated ones only where alone."""
    found = []
    for path in sorted(folder.glob("*.xml")):
        name = f"AI/Aircraft/{folder.name}/{path.name}"
        try:
            mesh, textures = _resolve(source, name, 0)
        except MeshError:
            continue  # a definition of something else, or one whose model is not in the package
        if mesh and _is_body(source.root, mesh):
            found.append(_Model(name, mesh, textures))
    painted = {model.mesh for model in found if model.textures}
    kept = [model for model in found if model.textures or model.mesh not in painted]
    return list({(model.mesh, model.textures): model for model in reversed(kept)}.values())[::-1]


def _resolve(source: Source, name: str, depth: int) -> tuple[str, str]:
    """Return the mesh and the texture folder that one definition leads to, empty where it has none."""
    if depth > _DEEPEST:
        raise MeshError(f"{source.label}/{name}: includes itself", "Fetch the package again.")
    folder = folder_of(name)
    tree = parse_xml(source.read(name), name)
    mesh, textures = "", ""
    included = tree.get("include")
    if included:
        mesh, textures = _resolve(source, os.path.normpath(f"{folder}/{included}"), depth + 1)
    own = tree.findtext("texture-path")
    if own:
        textures = os.path.normpath(f"{folder}/{own.strip()}")
    path = (tree.findtext("path") or "").strip()
    if path:
        found = located(source, folder, path, lenient=True) or located(source, "", path, lenient=True) or ""
        if found.endswith(".xml"):
            mesh, inner = _resolve(source, found, depth + 1)
            textures = textures or inner
        else:
            mesh = found
    return mesh, textures


def _bare(game: Path, folder: Path) -> list[_Model]:
    """Return the largest mesh of a folder that defines no liveries."""
    meshes = [path for path in sorted(folder.rglob("*.ac")) if path.is_file() and not _SKIP.search(path.name)]
    if not meshes:
        return []
    mesh = max(meshes, key=lambda path: path.stat().st_size).relative_to(game).as_posix()
    return [_Model(mesh, mesh, "")] if _is_body(game, mesh) else []


def _is_body(game: Path, mesh: str) -> bool:
    return mesh.endswith(".ac") and _fingerprint(game, mesh)[1] >= _LEAST_SURFACES


@lru_cache(maxsize=4096)
def _fingerprint(game: Path, mesh: str) -> tuple[str, int]:
    """Return the id of a geometry, equal for equal files, and its number of surfaces."""
    try:
        data = FolderSource(game, LimitsConfig()).read(mesh)
    except MeshError:  # it will be a rejection with this reason, when it is loaded
        return shape_id("flightgear", mesh), _LEAST_SURFACES
    return shape_id("flightgear", data), data.count(b"SURF ")


def _aircraft(game: Path, folder: str, model: _Model) -> CatalogueEntry:
    name, sort = AIRCRAFT[folder]
    stem = PurePosixPath(model.definition).stem
    livery = livery_words(stem.removeprefix(folder).partition("-")[2] if model.textures else "")
    painted = f" in {livery} livery" if livery else ""
    return _entry(
        game,
        model,
        f"flightgear/{folder}/{stem}",
        name,
        "plane",
        phrasings(
            f"{with_article(name)}{painted}",
            f"{with_article(f'{name} {sort}')}{painted}",
            with_article(sort),
            "a plane" if "plane" in sort else f"{with_article(sort)}, a plane",
        ),
    )


def _ship(game: Path, path: str) -> CatalogueEntry:
    name, sort, turns = SHIPS[path]
    model = _Model(path, f"Models/{path}.ac", "", turns)
    captions = phrasings(with_article(name), with_article(sort), "a boat")
    return _entry(game, model, f"flightgear/{path}", name, "boat", captions)


def _entry(
    game: Path, model: _Model, source_id: str, name: str, category: str, captions: tuple[str, ...]
) -> CatalogueEntry:
    return CatalogueEntry(
        source_id=source_id,
        shape_id=_fingerprint(game, model.mesh)[0],
        name=name,
        category=category,
        captions=captions,
        licence=_LICENCE,
        author=_AUTHOR,
        load=(
            "flightgear",
            {"root": str(game), "mesh": model.mesh, "textures": model.textures, "turns": str(model.turns)},
        ),
    )
