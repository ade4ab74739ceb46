"""Which objects a fixed list names, once it is known what they were used for."""

from collections.abc import Mapping, Sequence

from ln3d.data.shards import ObjectRecord
from ln3d.data.subsets import Groups
from ln3d.errors import RecipeError

Chosen = dict[str, dict[str, list[ObjectRecord]]]
"""Records by split, then by group."""


def listed_objects(
    objects: Sequence[ObjectRecord], lists: Mapping[str, Groups], category: str | None, count: int | None = None
) -> Chosen:
    """Return the records of listed source ids, {split: {group: records}}: of every split at most `count`.

    Where there are more, groups take turns. Raises RecipeError for an object that the shards do not have, and for one
    that is listed for another split than it was in: an object that was trained on is never scored as held out.
    """
    known = {record.source_id: record for record in objects}
    found: Chosen = {}
    for split, groups in lists.items():
        for name in (name for ids in groups.values() for name in ids):
            if name not in known:
                raise RecipeError(f"the shards have no object {name}", "evaluate with the recipe that the list is for")
            if known[name].split != split:
                raise RecipeError(
                    f"{name} is listed as a {split} object, and its split is {known[name].split}",
                    "hold it out before rendering: dataset.split.held_out",
                )
        records = {group: [known[name] for name in ids] for group, ids in groups.items()}
        chosen = {group: [r for r in rs if category in (None, r.category)] for group, rs in records.items()}
        turns = sorted((place, order) for order, rs in enumerate(chosen.values()) for place in range(len(rs)))
        kept = set(turns[:count])
        found[split] = {
            group: [record for place, record in enumerate(rs) if (place, order) in kept]
            for order, (group, rs) in enumerate(chosen.items())
        }
    return found
