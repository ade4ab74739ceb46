"""Sweet Home 3D's furniture: the Debian package `sweethome3d-furniture`, read from its archives in place."""

import re
from pathlib import Path

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import (
    Arguments,
    CatalogueEntry,
    joined_words,
    phrasings,
    shape_id,
    unreadable,
    with_article,
)
from ln3d.data.readers import general
from ln3d.data.readers.scene import Scene, checked
from ln3d.data.readers.sources import FolderSource, ZipSource
from ln3d.errors import MeshError

_PROPERTIES = "PluginFurnitureCatalog.properties"
_LARGEST_CATALOGUE = 4_000_000  # bytes: ten thousand objects
_NUMBER = re.compile(r"[0-9]{1,9}")
_LICENCES = {"BlendSwap-CC-0": "CC0-1.0"}  # the other four catalogues are CC-BY-3.0

# The first pattern found in the English name decides; what none fits keeps the catalogue's own group.
_CATEGORIES: tuple[tuple[str, str], ...] = (
    ("plane", r"\bbiplane\b"),
    ("boat", r"\browboat\b"),
    ("car", r"\bcar model\b|^smart car$|\bsuv\b|\bvan\b|\btruck\b|\bbus\b"),
    ("car", r"sedan|beetle|peugeot|renault|ford|seat leon|chevrolet"),
    ("bicycle", r"\bbike$|bicycle|tricycle|motorbike|scooter|yamaha"),
    ("lamp", r"lamp\b|\blights?\b|lamppost|lantern|chandelier|spotlight|candle|fluorescent"),
    ("clock", r"\bclock\b"),
    ("plant", r"plant\b|tree\b|pine|bamboo|bonsai|cactus|ficus|flowers|orchids|tulips|yucca|lily|spathiphyllum|bush\b"),
    ("plant", r"acacia|hedge|cypress|copper beech|maple|poplar|blossom"),
    ("bed", r"\bbed\b|\bcrib\b|futon$|air mattress"),
    ("sofa", r"sofa|couch|\bday bed\b"),
    ("bench", r"\bbench\b|\bbank\b"),
    ("chair", r"\b(arm|wheel)?chair|stool|\bseat\b|puff\b|pool lounge|armchair"),
    ("table", r"\bdesk\b|\b(work)?table$|table (on|with)|workbench|^(coffee|round|glass|oak) table|changing table"),
    ("cabinet", r"cabinet|wardrobe|cupboard|shelves|bookcase|dresser|chest$|locker|vanity|tv stand"),
    ("person", r"\b(fe)?male\b|\bboy\b|\bgirl\b"),
    ("animal", r"bulldog|\bcat\b|\bdog$|rabbit|chicken$|^horse$|deer"),
)
_NOT = re.compile(r"roasted chicken|sink cabinet|bedside|table (fan|tennis)|(football|pool) table")


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return the objects of every `.sh3f` archive under the package's folder; a damaged archive is a rejection."""
    found = []
    for archive in sorted(root.rglob("*.sh3f")):
        try:
            objects = enumerate_objects(_properties(root, archive))
        except MeshError as error:
            found.append(unreadable(f"sweethome3d/{archive.stem}", error.message))
            continue
        found += [_entry(archive, number, fields) for number, fields in objects]
    return found


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one piece of furniture, turned so that its front faces +z."""
    source = ZipSource(Path(str(arguments["archive"])), limits)
    model = str(arguments["model"])
    # lenient: some files name textures on their author's disk
    scene = checked(general.read(source, model, limits, lenient=True), f"{source.label}/{model}", limits)
    rotation = _rotation(arguments["rotation"], f"{source.label}/{model}")
    for part in scene.parts:
        part.vertices = part.vertices @ rotation.T
    return scene


def enumerate_objects(properties: dict[str, str]) -> list[tuple[int, dict[str, str]]]:
    """Return (number, {field: value}) of every object, from keys such as `name#12`."""
    grouped: dict[int, dict[str, str]] = {}
    for key, value in properties.items():
        field, mark, number = key.partition("#")
        if mark and _NUMBER.fullmatch(number):
            grouped.setdefault(int(number), {})[field] = value
    return sorted(item for item in grouped.items() if "model" in item[1] and "name" in item[1])


def parse_properties(text: str) -> dict[str, str]:
    """Return the pairs of a Java properties file, backslash-u escapes decoded."""
    pairs = {}
    for line in text.splitlines():
        key, mark, value = line.partition("=")
        if mark and not line.lstrip().startswith(("#", "!")):
            pairs[key.strip()] = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value).strip()
    return pairs


def category_of(name: str, group: str) -> str:
    """Return the category word of an object called `name` in the catalogue group `group`."""
    words = name.lower()
    if not _NOT.search(words):
        for category, pattern in _CATEGORIES:
            if re.search(pattern, words):
                return category
    return {"Doors and windows": "door", "Characters": "figure", "Living room": "household"}.get(group, group.lower())


def _rotation(words: str | list[str], label: str) -> np.ndarray:
    try:
        return np.array([float(word) for word in words], dtype=np.float32).reshape(3, 3)
    except ValueError:
        raise MeshError(f"{label}: modelRotation is not made of nine numbers", "Fetch the package again.") from None


def _properties(root: Path, archive: Path) -> dict[str, str]:
    """Return the pairs of an archive's catalogue. Raises MeshError where it is damaged or leads out of the folder."""
    FolderSource(root, LimitsConfig()).name_of(archive)
    if not archive.is_file():
        raise MeshError(f"{archive.name}: not a regular file", "Fetch the package again.")
    source = ZipSource(archive, LimitsConfig(file_bytes=_LARGEST_CATALOGUE))
    return parse_properties(source.read(_PROPERTIES).decode("latin-1"))


def _entry(archive: Path, number: int, fields: dict[str, str]) -> CatalogueEntry:
    name, group = fields["name"].lower(), fields.get("category", "Miscellaneous")
    category = category_of(name, group)
    tags = [tag.strip() for tag in fields.get("tags", "").lower().split(",") if tag.strip() not in ("", "blend swap")]
    model = fields["model"].lstrip("/")
    rotation = fields.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()
    described = joined_words([*tags[:1], name]) if tags and tags[0] not in name else name
    return CatalogueEntry(
        source_id=f"sweethome3d/{archive.stem}/{number:03d}",
        shape_id=shape_id("sweethome3d", archive.stem, model),
        name=name,
        category=category,
        captions=phrasings(
            with_article(name),
            with_article(described),
            with_article(category) if category in _SINGULAR else "",
            f"{with_article(name)}, {', '.join(tags)}" if tags else f"{with_article(name)}, {group}",
        ),
        licence=_LICENCES.get(archive.stem, "CC-BY-3.0"),
        author=fields.get("creator", archive.stem),
        load=("sweethome3d", {"archive": str(archive.absolute()), "model": model, "rotation": rotation}),
    )


_SINGULAR = frozenset(category for category, _ in _CATEGORIES)
