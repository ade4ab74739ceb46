"""ShapeNetCore.v2 as it is unpacked: a folder per category, named by its WordNet synset, and one per model in it.

The layout is the one that PyTorch3D's and TensorFlow Graphics' loaders read (`pytorch3d/datasets/shapenet`,
`tensorflow_graphics/datasets/shapenet`): `<synset>/<model>/models/model_normalized.obj`, names in `taxonomy.json`,
the official split in `all.csv`, whose columns are `id,synsetId,subSynsetId,modelId,split`. Version 2's models have
+y up and their front at -z (ShapeNetCore.v2's readme).
"""

import csv
import io
import json
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.collections.tables import contents, is_there
from ln3d.data.readers.mesh import read_scene
from ln3d.data.readers.scene import Scene
from ln3d.errors import RecipeError

MODEL = "models/model_normalized.obj"
SYNSETS = {  # in words that the other collections use too; the taxonomy has the others
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
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_HALF_TURN = np.array([-1, 1, -1], dtype=np.float32)


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return the models of the wanted categories by synset and model id, with the official split where it is there.

    Raises:
        RecipeError: there are no synset folders, `taxonomy.json` or `all.csv` is damaged, or a category is unknown.
    """
    root = root.resolve()
    synsets = sorted(path.name for path in root.iterdir() if path.is_dir() and _is_synset(path.name))
    if not synsets:
        raise RecipeError(
            f"{root}: no folders named by a synset, such as 02958343", "Name the unpacked folder ShapeNetCore.v2."
        )
    lemmas, official = _taxonomy(root / "taxonomy.json"), _official(root / "all.csv")
    wanted = _wanted(config.categories, synsets, lemmas)
    return [
        _entry(root, synset, model, lemmas, official.get((synset, model), ("", "")))
        for synset in wanted
        for model in sorted(path.name for path in (root / synset).iterdir() if path.is_dir())
    ]


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one model, its front turned from -z to +z; textures are read from the model's own folder alone."""
    folder = Path(str(arguments["root"])) / str(arguments["model"])
    scene = read_scene(folder / MODEL, limits, root=folder)
    return Scene([replace(part, vertices=part.vertices * _HALF_TURN) for part in scene.parts])


def category_word(synset: str, lemmas: dict[str, list[str]]) -> str:
    """Return the word for a synset: the other collections' own, else the taxonomy's first, else its number."""
    return SYNSETS.get(synset) or lemmas.get(synset, [synset])[0]


def _wanted(categories: tuple[str, ...], synsets: list[str], lemmas: dict[str, list[str]]) -> list[str]:
    """Return the synsets that `categories` name by number, by word or by any lemma of the taxonomy; all if none."""
    names: dict[str, str] = {}
    for synset in synsets:
        for name in (synset, category_word(synset, lemmas), *lemmas.get(synset, [])):
            names.setdefault(name.lower(), synset)
    unknown = [category for category in categories if category.lower() not in names]
    if unknown:
        near = get_close_matches(unknown[0].lower(), names, n=1)
        known = ", ".join(category_word(synset, lemmas) for synset in synsets)
        raise RecipeError(
            f"shapenet: no category {unknown[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"This folder has: {known}",
        )
    return sorted({names[category.lower()] for category in categories}) or synsets


def _is_synset(name: str) -> bool:
    return len(name) == 8 and name.isdigit()


def _taxonomy(path: Path) -> dict[str, list[str]]:
    """Return the lemmas of every synset in taxonomy.json; none where the file is missing."""
    if not is_there(path):
        return {}
    try:
        items: list[dict[str, Any]] = json.loads(contents(path, path.parent))
        named = {
            str(item["synsetId"]).zfill(8): [name.strip().lower() for name in str(item["name"]).split(",")]
            for item in items
        }
        return {synset: words for synset, names in named.items() if (words := [name for name in names if name])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecipeError(f"{path}: not ShapeNet's taxonomy ({error})", "Fetch the file again.") from None


def _official(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (split, sub-synset) by (synset, model) from all.csv; nothing where the file is missing."""
    if not is_there(path):
        return {}
    try:
        rows = csv.DictReader(io.StringIO(contents(path, path.parent).decode("utf-8-sig"), newline=""))
        return {
            (row["synsetId"].zfill(8), row["modelId"]): (_SPLITS[row["split"]], row["subSynsetId"].zfill(8))
            for row in rows
        }
    except (csv.Error, KeyError, AttributeError, ValueError) as error:
        raise RecipeError(
            f"{path}: not ShapeNet's split ({type(error).__name__}: {error})",
            "Its first line is: id,synsetId,subSynsetId,modelId,split",
        ) from None


def _entry(
    root: Path, synset: str, model: str, lemmas: dict[str, list[str]], official: tuple[str, str]
) -> CatalogueEntry:
    split, finer = official
    category = category_word(synset, lemmas)
    name = lemmas[finer][0] if finer in lemmas and finer != synset else category
    both = f"{with_article(name)}, {with_article(category)}" if name != category else ""
    return CatalogueEntry(
        source_id=f"shapenet/{synset}/{model}",
        shape_id=shape_id("shapenet", synset, model),
        name=name,
        category=category,
        captions=phrasings(with_article(name), with_article(category), both),
        licence="ShapeNet's terms of use",
        author="unknown",
        load=("shapenet", {"root": str(root), "model": f"{synset}/{model}"}),
        official_split=split,
        stamp=(split,) if split else (),
    )
