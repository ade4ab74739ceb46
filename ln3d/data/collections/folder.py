"""A folder of one's own meshes: sub-folders are categories, and captions.csv, where there is one, describes them."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.mesh import READERS, read_scene
from ln3d.data.readers.scene import Scene
from ln3d.errors import RecipeError

CAPTIONS = "captions.csv"
_COLUMNS = ("path", "caption", "category", "licence", "author")
_GENERIC = frozenset(("model", "model_normalized", "mesh", "scene", "models", "object"))
_SYNSETS = {  # ShapeNet names its category folders by number
    "02691156": "plane",
    "02747177": "bin",
    "02818832": "bed",
    "02828884": "bench",
    "02876657": "bottle",
    "02924116": "bus",
    "02933112": "cabinet",
    "02942699": "camera",
    "02958343": "car",
    "03001627": "chair",
    "03211117": "display",
    "03467517": "guitar",
    "03636649": "lamp",
    "03691459": "loudspeaker",
    "03790512": "motorbike",
    "03797390": "mug",
    "03991062": "pot",
    "04090263": "rifle",
    "04256520": "sofa",
    "04379243": "table",
    "04401088": "telephone",
    "04530566": "boat",
}


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every mesh under `root` in the order of their paths.

    Raises:
        RecipeError: captions.csv lacks a column or names a mesh that is not there.
    """
    root = root.resolve()
    meshes = sorted(_meshes(root))
    told = _captions(root / CAPTIONS, frozenset(meshes)) if (root / CAPTIONS).is_file() else {}
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


def _captions(path: Path, meshes: frozenset[str]) -> dict[str, list[dict[str, str]]]:
    """Return the rows of captions.csv by mesh."""
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            columns = reader.fieldnames or ()
            missing = [column for column in _COLUMNS[:2] if column not in columns]
            if missing:
                raise RecipeError(f"{path}: no column {missing[0]!r}", "The first line should be: path,caption")
            for row in reader:
                name = PurePosixPath((row["path"] or "").strip()).as_posix()
                if name not in meshes:
                    raise RecipeError(
                        f"{path}:{reader.line_num}: no mesh {name!r}",
                        "Paths are relative to the folder of captions.csv.",
                    )
                rows.setdefault(name, []).append({key: (row.get(key) or "").strip() for key in _COLUMNS})
        except (csv.Error, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: not a readable CSV file ({error})", "Save it as UTF-8 CSV.") from None
    return rows


def _entry(root: Path, name: str, rows: list[dict[str, str]]) -> CatalogueEntry:
    path = PurePosixPath(name)
    told = {key: next((row[key] for row in rows if row[key]), "") for key in _COLUMNS}
    folder = path.parts[0] if len(path.parts) > 1 else "object"
    category = told["category"] or _SYNSETS.get(folder, _words(folder))
    title = _title(path)
    name_words = title if re.search(r"[a-z]{3}", title) and not re.search(r"[0-9a-f]{12}", title) else category
    plain = phrasings(with_article(name_words), with_article(category))
    return CatalogueEntry(
        source_id=f"folder/{root.name}/{name}",
        shape_id=shape_id("folder", root.name, name),
        name=name_words,
        category=category,
        captions=phrasings(*(row["caption"] for row in rows)) or plain,
        licence=told["licence"] or "unknown",
        author=told["author"] or "unknown",
        load=("folder", {"root": str(root), "path": name}),
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
