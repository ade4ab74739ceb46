"""A smaller catalogue in which every category keeps its share."""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Categorised(Protocol):
    """Anything with a category."""

    @property
    def category(self) -> str:
        """One word."""


Item = TypeVar("Item", bound=Categorised)


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
