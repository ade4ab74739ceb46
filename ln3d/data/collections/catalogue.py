"""The catalogue: every object of every collection of a recipe, in one fixed order."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ln3d.config.render import CollectionConfig, CollectionKind, DatasetConfig, LimitsConfig
from ln3d.data.collections import flightgear, folder, parametric, sweethome3d, torcs, zero_ad
from ln3d.data.collections.entries import Arguments, CatalogueEntry
from ln3d.data.readers.scene import Scene
from ln3d.errors import RecipeError

__all__ = ["CatalogueEntry", "list_objects", "load_object"]

Lister = Callable[[CollectionConfig, Path], list[CatalogueEntry]]
Loader = Callable[[Arguments, LimitsConfig], Scene]

COLLECTIONS: dict[CollectionKind, tuple[Lister, Loader]] = {
    "parametric": (parametric.entries, parametric.load),
    "folder": (folder.entries, folder.load),
    "sweethome3d": (sweethome3d.entries, sweethome3d.load),
    "torcs": (torcs.entries, torcs.load),
    "flightgear": (flightgear.entries, flightgear.load),
    "0ad": (zero_ad.entries, zero_ad.load),
}


def list_objects(config: DatasetConfig, meshes: Path | None = None) -> list[CatalogueEntry]:
    """Return the catalogue of a recipe: its collections in order, each in its own fixed order.

    Args:
        config: the recipe's dataset section.
        meshes: a folder that replaces the recipe's collections by one of kind `folder`.

    Raises:
        RecipeError: a path is missing or holds no objects, or two objects have the same id.
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
        MeshError: the object cannot be read or is refused; see `ln3d.data.readers.mesh.read_scene`.
    """
    kind, arguments = entry.load
    for known, (_, load) in COLLECTIONS.items():
        if known == kind:
            return load(arguments, limits)
    raise RecipeError(f"unknown collection kind {kind!r}", f"Known: {', '.join(COLLECTIONS)}")


def _listed(collection: CollectionConfig) -> list[CatalogueEntry]:
    found = COLLECTIONS[collection.kind][0](collection, _path(collection))
    if not found:
        raise RecipeError(
            f"{collection.path}: no objects of kind {collection.kind}", "See docs/data.md for the layout."
        )
    if collection.categories:
        known = sorted({entry.category for entry in found})
        for category in collection.categories:
            if category not in known:
                raise RecipeError(
                    f"{collection.kind}: no category {category!r}", f"This collection has: {', '.join(known)}"
                )
        found = [entry for entry in found if entry.category in collection.categories]
    if collection.per_shape is not None:
        found = _few_of_each(found, collection.per_shape)
    return found[: collection.limit]


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
    text = os.path.expandvars(os.path.expanduser(collection.path))
    if "$" in text:
        variable = text[text.index("$") :].split("/")[0].strip("${}")
        raise RecipeError(
            f"{collection.path}: the environment variable {variable} is not set",
            "Set it to the folder of the unpacked packages; docs/data.md says how they are fetched.",
        )
    path = Path(text)
    if not path.is_dir():
        raise RecipeError(f"{text}: no such folder", "docs/data.md says how each collection is fetched.")
    return path
