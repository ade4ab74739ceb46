"""Train, validation and test: divided by shape, so that no livery of a held-out shape is ever trained on."""

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

from ln3d.config.render import SplitConfig

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
