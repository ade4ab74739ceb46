"""A small built-in collection: chairs, tables, cars, planes and boats in several paints.

It needs no download, so that the whole chain can be tried and tested anywhere.
"""

from pathlib import Path

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.parametric_shapes import MAKERS, Colour
from ln3d.data.readers.scene import Scene

PAINTS: dict[str, tuple[Colour, Colour]] = {  # body, trim
    "red": ((0.80, 0.10, 0.10), (0.90, 0.90, 0.88)),
    "blue": ((0.12, 0.25, 0.75), (0.95, 0.80, 0.15)),
    "green": ((0.12, 0.55, 0.20), (0.45, 0.28, 0.12)),
    "yellow": ((0.95, 0.80, 0.15), (0.20, 0.20, 0.22)),
    "white": ((0.92, 0.92, 0.90), (0.75, 0.12, 0.12)),
    "brown": ((0.48, 0.29, 0.13), (0.15, 0.45, 0.30)),
}


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every style in every paint, the categories taking turns; nothing is read."""
    return [
        _entry(category, styles[turn], paint)
        for turn in range(3)
        for paint in PAINTS
        for category, (_, styles) in MAKERS.items()
    ]


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return the object as a scene."""
    maker, _ = MAKERS[str(arguments["category"])]
    body, trim = PAINTS[str(arguments["paint"])]
    return Scene(maker(str(arguments["style"]), body, trim))


def _entry(category: str, style: str, paint: str) -> CatalogueEntry:
    name = style if style in ("armchair", "van", "airliner", "biplane") or category in style else f"{style} {category}"
    return CatalogueEntry(
        source_id=f"parametric/{category}/{style.replace(' ', '-')}/{paint}",
        shape_id=shape_id("parametric", category, style),
        name=name,
        category=category,
        captions=phrasings(with_article(name), with_article(category), f"a simple {category}"),
        licence="CC0-1.0",
        author="ln3d",
        load=("parametric", {"category": category, "style": style, "paint": paint}),
    )
