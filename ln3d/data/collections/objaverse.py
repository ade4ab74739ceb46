"""Objaverse 1.0: GLB files by uid, as the `objaverse` package leaves them, with captions and categories beside them.

The layout is `<anything>/<uid>.glb`, a uid being 32 hexadecimal digits (the package writes `glbs/000-023/<uid>.glb`).
Captions are Cap3D's (`Cap3D_automated_Objaverse_full.csv`, no header: uid, caption), categories the LVIS annotations
(`lvis-annotations.json.gz`, {category: [uid, ...]}): both are found in the folder, or named by the recipe.
"""

import re
from pathlib import Path

from ln3d.config.render import CollectionConfig, LimitsConfig
from ln3d.data.collections.annotations import captions_by_uid, categories_by_uid, told_or_beside
from ln3d.data.collections.entries import Arguments, CatalogueEntry, phrasings, shape_id, with_article
from ln3d.data.readers.mesh import read_scene
from ln3d.data.readers.scene import Scene

_UID = re.compile(r"[0-9a-f]{32}")


def entries(config: CollectionConfig, root: Path) -> list[CatalogueEntry]:
    """Return every GLB with a uid for its name, by uid.

    Raises:
        RecipeError: the file of captions or categories is damaged, or a link that leads out of the folder.
    """
    root = root.resolve()
    files = {path.stem: path for path in sorted(root.rglob("*.glb")) if _UID.fullmatch(path.stem)}
    spoken = told_or_beside(config.captions, root, "*Cap3D*.csv", "*cap3d*.csv", "*cap3d*.json")
    sorted_in = told_or_beside(config.annotations, root, "lvis-annotations.json*")
    captions = captions_by_uid(spoken, files.keys()) if spoken else {}
    categories = categories_by_uid(sorted_in) if sorted_in else {}
    return [
        _entry(root, uid, path.relative_to(root).as_posix(), categories.get(uid, ""), captions.get(uid, []))
        for uid, path in sorted(files.items())
    ]


def load(arguments: Arguments, limits: LimitsConfig) -> Scene:
    """Return one object; a GLB holds all of it, so that nothing else is read."""
    path = Path(str(arguments["root"])) / str(arguments["path"])
    return read_scene(path, limits, root=path.parent)


def _entry(root: Path, uid: str, path: str, category: str, captions: list[str]) -> CatalogueEntry:
    said = phrasings(*(caption.rstrip(". ") for caption in captions))
    return CatalogueEntry(
        source_id=f"objaverse/{uid}",
        shape_id=shape_id("objaverse", uid),
        name=category or "object",
        category=category or "object",
        captions=said or phrasings(with_article(category or "object")),
        licence="ODC-By 1.0 as a whole; each object its own",
        author="unknown",
        load=("objaverse", {"root": str(root), "path": path}),
        own_captions=bool(said),
    )
