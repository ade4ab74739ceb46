"""The fingerprint of shards: whether those that are there are those that a recipe asks for."""

from pathlib import Path
from typing import Any

from ln3d.artifacts.manifest import fingerprint
from ln3d.config.recipe import Recipe
from ln3d.config.render import DatasetConfig
from ln3d.data.captions import RULE
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.contents import folder_digest

_DRAWING_VERSION = 1  # raise it when the same meshes give other pictures; for other captions there is captions.RULE
_FIRST_RULE = 1  # of captions: it is in no fingerprint
_FIRST_KEYS = frozenset(
    "cameras.layout cameras.views cameras.radius cameras.field_of_view cameras.elevation resolution supersampling "
    "lighting objects_per_shard limits.seconds limits.faces limits.texture_pixels limits.file_bytes "
    "limits.memory_bytes split.validation split.test".split()
)
"""The keys of the dataset section that always count in a fingerprint; later ones do where they are not the default."""


def shards_mark(recipe: Recipe, entries: list[CatalogueEntry]) -> str:
    """Return the fingerprint: what is drawn and how, but not where it lies on this machine.

    The packages of the other collections never change, a folder of one's own does: its files are hashed. Another rule
    of the captions makes other shards.
    """
    how = _how(recipe.dataset)
    if recipe.dataset.captions != "coloured":
        how["seed"] = recipe.seed
    if RULE != _FIRST_RULE:
        how["caption_rule"] = RULE
    what = [[e.source_id, e.shape_id, e.name, e.category, e.captions, e.licence, e.author, *e.stamp] for e in entries]
    folders = sorted({str(e.load[1]["root"]) for e in entries if e.load[0] == "folder"})
    return fingerprint("shards", _DRAWING_VERSION, how, what, [folder_digest(Path(folder)) for folder in folders])


def _how(config: DatasetConfig) -> dict[str, Any]:
    """Return the section without the collections, and without keys that it did not always have where they say nothing.

    So shards that were drawn before a key existed are still those of the recipe.
    """
    values, plain = (c.model_dump(mode="json", exclude={"collections"}) for c in (config, DatasetConfig()))

    def counts(name: str, value: Any, default: Any) -> bool:
        return name in _FIRST_KEYS or value != default

    kept: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            inner = {k: v for k, v in value.items() if counts(f"{name}.{k}", v, plain[name][k])}
            if inner:
                kept[name] = inner
        elif counts(name, value, plain[name]):
            kept[name] = value
    return kept
