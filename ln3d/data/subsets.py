"""Fewer objects: those that are named, by hand or in a file, or so many that every category keeps its share."""

import difflib
import json
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ln3d.errors import RecipeError


class Categorised(Protocol):
    """Anything with a category."""

    @property
    def category(self) -> str:
        """One word."""


class Identified(Protocol):
    """Anything with an id."""

    @property
    def source_id(self) -> str:
        """Unique name: collection, then the object's own name there."""


Item = TypeVar("Item", bound=Categorised)
Named = TypeVar("Named", bound=Identified)
Groups = dict[str, tuple[str, ...]]

LISTED_SPLITS = ("train", "test")
_LIST_LAYOUT = 'a list of objects is JSON such as {"train": {"chair": ["sweethome3d/...", ...]}, "test": {...}}'


def spread(items: Sequence[Any], count: int) -> Sequence[Any]:
    """Return at most `count` of the items, from all over the list."""
    return items[:: max(1, len(items) // count)][:count]


def selected(items: Sequence[Named], patterns: Sequence[str]) -> list[Named]:
    """Return, in their order, the items whose id is one of `patterns` or matches one (`*` and `?`, also across `/`).

    Raises RecipeError where a pattern fits none.
    """
    chosen: set[str] = set()
    names = [item.source_id for item in items]
    for pattern in patterns:
        found = {pattern} & set(names) or {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3) or names[:1]
            raise RecipeError(f"no object is called {pattern}", f"did you mean {near[0]}?" if near else "")
        chosen |= found
    return [item for item in items if item.source_id in chosen]


def thinned(items: Sequence[Item], count: int) -> list[Item]:
    """Return at most `count` items in their order: of every category an even share, evenly spaced, at least one.

    With fewer places than categories, the largest categories have one each (ties: the first met).
    """
    if count >= len(items):
        return list(items)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.category, []).append(place)
    share = dict.fromkeys(sorted(places, key=lambda name: -len(places[name]))[:count], 1)
    while sum(share.values()) < count:
        # The next place goes to the category whose share is farthest behind (D'Hondt's method).
        open_to = [name for name in share if share[name] < len(places[name])]
        behind = max(open_to, key=lambda name: len(places[name]) / (share[name] + 1))
        share[behind] += 1
    kept = [places[name][i * len(places[name]) // number] for name, number in share.items() for i in range(number)]
    return [items[place] for place in sorted(kept)]


def read_object_list(path: Path) -> dict[str, Groups]:
    """Return the source ids in a list of objects: {split: {group: ids}}, in the order of the file.

    The file is JSON: {"train": ..., "test": ...}, each a list of ids or groups of them, {"furniture": [...], ...};
    ids without groups are the group "". What else it says, such as the rule of the choice under "rule", is not read.
    Raises RecipeError where it cannot be read, names no object, or names one twice.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} is no list of objects ({type(error).__name__})", _LIST_LAYOUT) from error
    if not isinstance(found, dict):
        raise RecipeError(f"{path} is no list of objects", _LIST_LAYOUT)
    lists = {split: _groups(found[split], path) for split in LISTED_SPLITS if split in found}
    names = [name for groups in lists.values() for ids in groups.values() for name in ids]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names or twice:
        raise RecipeError(f"{path} names {f'{twice[0]} twice' if twice else 'no object'}", _LIST_LAYOUT)
    return lists


def _groups(value: object, path: Path) -> Groups:
    groups: dict[str, Any] = value if isinstance(value, dict) else {"": value}
    for ids in groups.values():
        if not (isinstance(ids, list) and all(isinstance(name, str) for name in ids)):
            raise RecipeError(f"{path}: source ids stand in lists of text", _LIST_LAYOUT)
    return {group: tuple(ids) for group, ids in groups.items()}
