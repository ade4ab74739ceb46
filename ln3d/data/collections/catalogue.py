"""The catalogue: every object of every collection of a recipe, in one fixed order."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ln3d.cache import packages_folder
from ln3d.config.render import CollectionConfig, CollectionKind, DatasetConfig, LimitsConfig
from ln3d.data.collections import (
    flightgear,
    folder,
    kicad,
    objaverse,
    parametric,
    shapenet,
    sweethome3d,
    torcs,
    trigger_rally,
    zero_ad,
)
from ln3d.data.collections.entries import UNREADABLE, Arguments, CatalogueEntry, tidied
from ln3d.data.readers.scene import Scene
from ln3d.data.reasons import one_line
from ln3d.data.renders import eg3d, gobjaverse, nerf, srn
from ln3d.data.renders.frames import Rendered
from ln3d.errors import LN3DError, MeshError, RecipeError

__all__ = ["CatalogueEntry", "is_rendered", "list_objects", "load_object", "load_views", "needs_renderer"]

Lister = Callable[[CollectionConfig, Path], list[CatalogueEntry]]
Loader = Callable[[Arguments, LimitsConfig], Scene]
Importer = Callable[[Arguments, LimitsConfig, int, int], Rendered]

COLLECTIONS: dict[CollectionKind, tuple[Lister, Loader]] = {
    "parametric": (parametric.entries, parametric.load),
    "folder": (folder.entries, folder.load),
    "sweethome3d": (sweethome3d.entries, sweethome3d.load),
    "torcs": (torcs.entries, torcs.load),
    "flightgear": (flightgear.entries, flightgear.load),
    "0ad": (zero_ad.entries, zero_ad.load),
    "trigger-rally": (trigger_rally.entries, trigger_rally.load),
    "kicad": (kicad.entries, kicad.load),
    "shapenet": (shapenet.entries, shapenet.load),
    "objaverse": (objaverse.entries, objaverse.load),
}
"""Where meshes come from."""

RENDERS: dict[CollectionKind, tuple[Lister, Importer]] = {
    "nerf": (nerf.entries, nerf.load),
    "srn": (srn.entries, srn.load),
    "eg3d": (eg3d.entries, eg3d.load),
    "gobjaverse": (gobjaverse.entries, gobjaverse.load),
}
"""Where pictures come from that were rendered elsewhere."""


def list_objects(config: DatasetConfig, meshes: Path | None = None) -> list[CatalogueEntry]:
    """Return the catalogue of a recipe: its collections in order, each in its own fixed order.

    Args:
        config: the recipe's dataset section.
        meshes: a folder that replaces the recipe's collections by one of kind `folder`.

    Raises:
        RecipeError: a path is missing, cannot be listed or holds no objects, or two objects have the same id.
    """
    collections = config.collections
    if meshes is not None:
        collections = (CollectionConfig(kind="folder", path=str(meshes)),)
    found = [entry for collection in collections for entry in _listed(collection)]
    twice = [name for name, count in Counter(entry.source_id for entry in found).items() if count > 1]
    if twice:
        raise RecipeError(
            f"dataset.collections: {twice[0]} is listed twice ({len(twice)} such objects)",
            "Name every folder or package once.",
        )
    return found


def load_object(entry: CatalogueEntry, limits: LimitsConfig) -> Scene:
    """Return the object of one line of the catalogue, in the units of its file, +y up and +z front.

    Raises:
        MeshError: the object cannot be read or is refused (see `ln3d.data.readers.mesh.read_scene`), or it comes as
            pictures.
    """
    kind, arguments = entry.load
    for known, (_, load) in COLLECTIONS.items():
        if known == kind:
            return _finite(load(arguments, limits), entry.source_id)
    if kind == UNREADABLE:
        raise MeshError(str(arguments["reason"]), "Fetch the package again.")
    if is_rendered(entry):
        raise MeshError(f"{entry.source_id} comes as pictures, not as a mesh", "Name a collection of meshes.")
    raise RecipeError(f"unknown collection kind {kind!r}", f"Known: {', '.join(COLLECTIONS)}")


def is_rendered(entry: CatalogueEntry) -> bool:
    """Return whether an object comes as pictures, which `load_views` reads, and not as a mesh."""
    return entry.load[0] in RENDERS


def needs_renderer(entry: CatalogueEntry) -> bool:
    """Return whether an object comes as a mesh, which a renderer has to draw."""
    return entry.load[0] in COLLECTIONS


def load_views(entry: CatalogueEntry, limits: LimitsConfig, views: int, resolution: int) -> Rendered:
    """Return `views` pictures of one line of the catalogue that comes as pictures, in our conventions.

    Raises:
        MeshError: there are fewer or smaller ones, or a file is missing, damaged or refused.
    """
    kind, arguments = entry.load
    for known, (_, load) in RENDERS.items():
        if known == kind:
            return load(arguments, limits, views, resolution)
    raise RecipeError(f"{kind!r} is no kind of pictures", f"Known: {', '.join(RENDERS)}")


def _listed(collection: CollectionConfig) -> list[CatalogueEntry]:
    found = [tidied(entry) for entry in _attempt(collection, _path(collection))]
    if not found:
        raise RecipeError(f"{collection.path}: no objects of kind {collection.kind}", _LAYOUT)
    if collection.categories and collection.kind != "shapenet":  # which also knows them by synset and lemma
        found = _of_categories(found, collection)
    if collection.per_shape is not None:
        found = _few_of_each(found, collection.per_shape)
    return found[: collection.limit]


def _of_categories(found: list[CatalogueEntry], collection: CollectionConfig) -> list[CatalogueEntry]:
    """Return the objects of the collection's categories, and what cannot be read: it may be of any, and is reported."""
    unread = {entry.source_id for entry in found if entry.load[0] == UNREADABLE}
    known = sorted({entry.category for entry in found if entry.source_id not in unread})
    unknown = [category for category in collection.categories if category not in known]
    if unknown and not unread:
        raise RecipeError(f"{collection.kind}: no category {unknown[0]!r}", f"This collection has: {', '.join(known)}")
    return [entry for entry in found if entry.category in collection.categories or entry.source_id in unread]


def _attempt(collection: CollectionConfig, path: Path) -> list[CatalogueEntry]:
    """Return what the lister finds; whatever a hostile file makes it do is one line, not a traceback."""
    try:
        found = {**COLLECTIONS, **RENDERS}[collection.kind][0](collection, path)
        for entry in found:
            entry.source_id.encode()
    except LN3DError:
        raise
    except UnicodeEncodeError as error:
        raise RecipeError(f"{path}: the name {error.object!r} is not UTF-8", "Rename the file or its folder.") from None
    except Exception as error:
        reason = one_line(f"{type(error).__name__}: {error}")
        raise RecipeError(f"{path}: cannot be listed as {collection.kind} ({reason})", _LAYOUT) from error
    return found


def _finite(scene: Scene, source_id: str) -> Scene:
    """Return the scene if it is finite: sound meshes are moved by numbers from other files."""
    for part in scene.parts:
        if not (np.isfinite(part.vertices).all() or np.isfinite(part.vertices[part.faces]).all()):
            raise MeshError(f"{source_id}: put together with numbers that are not finite", "Fetch the package again.")
    return scene


_LAYOUT = "See docs/data.md for the layout."


def _few_of_each(entries: list[CatalogueEntry], most: int) -> list[CatalogueEntry]:
    seen: Counter[str] = Counter()
    kept = []
    for entry in entries:
        seen[entry.shape_id] += 1
        if seen[entry.shape_id] <= most:
            kept.append(entry)
    return kept


def _path(collection: CollectionConfig) -> Path:
    if collection.kind == "parametric":
        return Path()
    if collection.path is None:
        raise RecipeError(f"dataset.collections: kind {collection.kind!r} needs a path", "See docs/data.md.")
    known = re.sub(r"\$LN3D_PACKAGES\b|\$\{LN3D_PACKAGES\}", lambda _: str(packages_folder()), collection.path)
    text = os.path.expandvars(os.path.expanduser(known))
    if "$" in text:
        variable = text[text.index("$") :].split("/")[0].strip("${}")
        raise RecipeError(
            f"{collection.path}: the environment variable {variable} is not set",
            "Set it to the folder of the unpacked packages; docs/data.md says how they are fetched.",
        )
    path = Path(text)
    if not path.is_dir():
        fetch = f"Run `ln3d fetch {collection.kind}`; " if "LN3D_PACKAGES" in collection.path else ""
        raise RecipeError(f"{text}: no such folder", f"{fetch}docs/data.md says how each collection is fetched.")
    return path
