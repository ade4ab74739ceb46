"""Train, validation and test: divided by shape, so that no livery of a held-out shape is ever trained on."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

from ln3d.config.render import SplitConfig
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.errors import RecipeError

Split = Literal["train", "validation", "test"]
_ENOUGH_SHAPES = 5
_OFFICIAL: dict[str, Split] = {"train": "train", "validation": "validation", "test": "test"}


class Shaped(Protocol):
    """Anything with a shape and a category: a catalogue entry, say."""

    @property
    def shape_id(self) -> str:
        """The same for all liveries of one geometry."""

    @property
    def category(self) -> str:
        """One word."""


def within_folder(catalogue: Sequence[CatalogueEntry], config: SplitConfig) -> tuple[SplitConfig, int]:
    """Return the split of a `catalogue` that lists one folder in place of a recipe's collections.

    Of `config.held_out` only names of objects in that folder are kept, whether there are such objects or not; the
    number of the others, which are of the collections that are not listed, is returned too.
    """
    own = catalogue[0].source_id.split("/")[:2]
    kept = tuple(name for name in config.held_out if name.split("/")[:2] == own)
    return config.model_copy(update={"held_out": kept}), len(config.held_out) - len(kept)


def with_held_out(catalogue: Sequence[CatalogueEntry], config: SplitConfig) -> list[CatalogueEntry]:
    """Return the whole catalogue, every livery of the shapes that `config.held_out` names marked as a test object.

    It wins over what a collection's authors say, and it holds for any part of the catalogue that is drawn: a livery
    is held out also where the object that was named is not drawn. Raises RecipeError for an id that does not exist.
    """
    shapes = {entry.source_id: entry.shape_id for entry in catalogue}
    unknown = [name for name in config.held_out if name not in shapes]
    if unknown:
        near = difflib.get_close_matches(unknown[0], shapes, n=1, cutoff=0.3)
        raise RecipeError(
            f"dataset.split.held_out: no object is called {unknown[0]} ({len(unknown)} such names)",
            f"did you mean {near[0]}?" if near else "name objects of the collections by their source ids",
        )
    held = {shapes[name] for name in config.held_out}
    return [replace(entry, official_split="test") if entry.shape_id in held else entry for entry in catalogue]


def assign_splits(objects: Sequence[Shaped], config: SplitConfig) -> list[Split]:
    """Return the split of every object: the `official_split` of those that have one.

    Otherwise a shape's place is a hash of its id, so it keeps its split when other objects come and go. A category with
    five or more shapes has at least one test shape: where chance gives none, the one nearest to it is taken
    (unless `config.test` is 0). A shape in several categories counts in the one where it is met first.
    """
    place = {item.shape_id: _place(item.shape_id) for item in objects}
    chosen: dict[str, Split] = {shape: _split(value, config) for shape, value in place.items()}
    shapes_of: dict[str, set[str]] = {}
    met: set[str] = set()
    for item in objects:
        if item.shape_id not in met:
            shapes_of.setdefault(item.category, set()).add(item.shape_id)
            met.add(item.shape_id)
    for shapes in shapes_of.values():
        without_test = all(chosen[shape] != "test" for shape in shapes)
        if config.test > 0 and len(shapes) >= _ENOUGH_SHAPES and without_test:
            chosen[min(shapes, key=lambda shape: (place[shape], shape))] = "test"
    return [_official(item) or chosen[item.shape_id] for item in objects]


def _official(item: Shaped) -> Split | None:
    return _OFFICIAL.get(getattr(item, "official_split", ""))


def _place(shape_id: str) -> float:
    digest = hashlib.sha256(shape_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _split(place: float, config: SplitConfig) -> Split:
    if place < config.test:
        return "test"
    return "validation" if place < config.test + config.validation else "train"
