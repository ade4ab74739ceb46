"""A folder of one's own meshes: sub-folders are categories, and captions.csv or .jsonl may describe them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.shapenet import SYNSETS
from ln3d.data.own_captions import COLUMNS, read_own_captions
from ln3d.data.readers.mesh import READERS, read_scene
from ln3d.data.readers.scene import Scene
from ln3d.errors import RecipeError

_GENERIC = frozenset(("model", "model_normalized", "mesh", "scene", "models", "object"))


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every mesh under `root` in the order of their paths.

    Raises:
        RecipeError: a file name is no text, or a line of captions.csv or captions.jsonl is malformed or names a mesh
            that is not there.
    """
    root = root.resolve()
    meshes = sorted(_meshes(root))
    _check_names(root, meshes)
    told = read_own_captions(root, frozenset(meshes))
    return [_entry(root, name, told.get(name, [])) for name in meshes]


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one mesh of the folder; nothing outside the folder is read."""
    root = Path(str(arguments["root"]))
    return read_scene(root / str(arguments["path"]), limits, root=root)


def _meshes(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.suffix.lower() in READERS and path.is_file() and not any(part[0] == "." for part in name.split("/")):
            yield name


def _check_names(root: Path, meshes: Sequence[str]) -> None:
    for name in meshes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise RecipeError(f"{root}: the name {name!r} is not UTF-8", "Rename the file or its folder.") from None


def _entry(root: Path, name: str, rows: list[dict[str, str]]) -> CatalogueEntry:
    path = PurePosixPath(name)
    told = {key: next((row[key] for row in rows if row[key]), "") for key in COLUMNS}
    folder = path.parts[0] if len(path.parts) > 1 else "object"
    category = told["category"] or SYNSETS.get(folder, _words(folder))
    title = _title(path)
    name_words = title if re.search(r"[a-z]{3}", title) and not re.search(r"[0-9a-f]{12}", title) else category
    plain = phrasings(with_article(name_words), with_article(category))
    own = phrasings(*(row["caption"] for row in rows))
    return CatalogueEntry(
        source_id=f"folder/{root.name}/{name}",
        shape_id=shape_id("folder", root.name, name),
        name=name_words,
        category=category,
        captions=own or plain,
        licence=told["licence"] or "unknown",
        author=told["author"] or "unknown",
        load=("folder", {"root": str(root), "path": name}),
        own_captions=bool(own),
    )


def _title(path: PurePosixPath) -> str:
    """Return the words of the file name, or of the nearest folder with a telling name."""
    for part in (path.stem, *reversed(path.parent.parts)):
        if part.lower() not in _GENERIC:
            return _words(part)
    return _words(path.stem)


def _words(text: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[-_.\s]+", " ", text)
    return re.sub(r"\s+\d+$", "", " ".join(spaced.split())).lower()
