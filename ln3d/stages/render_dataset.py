"""`render-dataset`: meshes in, multi-view shards out."""

import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import DatasetConfig
from ln3d.data.backends.choice import check_renderer
from ln3d.data.collections.catalogue import is_rendered, list_objects
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.contents import folder_digest
from ln3d.data.drawing import DrawingOrder, ObjectTask
from ln3d.data.engines import Engine, engine
from ln3d.data.members import decode, depth_scale
from ln3d.data.renders.frames import places_of
from ln3d.data.splits import assign_splits, with_held_out
from ln3d.data.subsets import selected, thinned
from ln3d.data.unfinished import WHOLE, Part, UnfinishedShards, all_sealed
from ln3d.errors import MeshError
from ln3d.geometry.cameras import camera_set
from ln3d.report.sheets import contact_sheet
from ln3d.stages.freshness import up_to_date
from ln3d.stages.part_locks import STAGE, drawing_alone, publishing
from ln3d.talk import Talk

_DRAWING_VERSION = 1  # raise it when the same meshes give other pictures
_BYTES_PER_VIEW, _BYTES_PER_PIXEL = 1800, 0.7  # of the three pictures of a view and their tar headers, measured
_SHEET_OBJECTS, _SHEET_VIEWS = 12, 4
_FIRST_KEYS = frozenset(
    "cameras.layout cameras.views cameras.radius cameras.field_of_view cameras.elevation resolution supersampling "
    "lighting objects_per_shard limits.seconds limits.faces limits.texture_pixels limits.file_bytes "
    "limits.memory_bytes split.validation split.test".split()
)
"""The keys of the dataset section that always count in a fingerprint; later ones do where they are not the default."""


def run(
    recipe: Recipe,
    workspace: Workspace,
    talk: Talk,
    *,
    meshes: Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    limit: int | None = None,
    only: Sequence[str] = (),
    part: Part = WHOLE,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Draw every object of the recipe's collections and publish `shards`; return what was published.

    `meshes` is a folder that replaces the collections, `workers` the number of processes (default: the cores), `ray`
    the address of a Ray cluster (`auto`, `local`, host:port) that draws instead of this machine, `only` ids of objects
    or patterns of them, `limit` keeps that many objects, of every category its share. A killed run is taken up where it
    stopped. A `part` draws its shards alone; the one that finds all shards drawn publishes them, the others return what
    they drew. With `dry_run` nothing is written and the plan is returned. An object that cannot be drawn is recorded
    with its reason; MeshError if that is all of them. Raises ArtifactError and RecipeError; the latter, before anything
    is drawn, also where the recipe's renderer cannot work on this machine; LN3DError where the cluster fails.
    """
    entries = _entries(recipe, meshes, only, limit, talk)
    order = _order(recipe, entries)
    if dry_run:
        return _plan(recipe, workspace, entries, part)
    mark = _mark(recipe, entries)
    drawing = engine(order, workers, ray, talk)
    if part != WHOLE:
        all_drawn = partial(_all_drawn, workspace, entries, recipe.dataset.objects_per_shard)
        with drawing_alone(workspace, part, all_drawn):
            if not all_drawn():
                unfinished = _draw(recipe, workspace, entries, drawing, mark, part, talk)
                if unfinished.unsealed() and not workspace.has("shards"):
                    return _part_summary(unfinished, talk)
    with publishing(workspace, part):
        done = up_to_date(workspace, "shards", mark)
        if done is not None:
            shutil.rmtree(workspace.partial("shards"), ignore_errors=True)
            talk.say(f"{done.path} is up to date")
            return _summary(done)
        unfinished = _draw(recipe, workspace, entries, drawing, mark, WHOLE, talk)
        artifact = _publish(recipe, workspace, entries, unfinished, order, mark)
    talk.say(f"published {artifact.path}")
    return _summary(artifact)


def _entries(
    recipe: Recipe, meshes: Path | None, only: Sequence[str], limit: int | None, talk: Talk
) -> list[CatalogueEntry]:
    """Return the part of the catalogue that is asked for."""
    entries = with_held_out(list_objects(recipe.dataset, meshes), recipe.dataset.split)
    if only:
        entries = selected(entries, only)
    if limit is not None and limit < len(entries):
        talk.say(f"drawing {limit} of {len(entries)} objects: of every category its share, evenly spaced")
        entries = thinned(entries, limit)
    return entries


def _all_drawn(workspace: Workspace, entries: list[CatalogueEntry], per_shard: int) -> bool:
    """Return whether nothing is left to draw: all shards are whole, or published (in this order, as one follows)."""
    return all_sealed(workspace.partial("shards"), len(entries), per_shard) or workspace.has("shards")


def _order(recipe: Recipe, entries: list[CatalogueEntry]) -> DrawingOrder:
    config = recipe.dataset
    brought = bool(entries) and all(map(is_rendered, entries))
    camera_to_world, intrinsics = places_of(config.cameras) if brought else camera_set(config.cameras)
    farthest = float(np.linalg.norm(camera_to_world[:, :3, 3], axis=1).max())
    return DrawingOrder(
        camera_to_world,
        intrinsics,
        config.resolution,
        config.supersampling,
        config.lighting,
        depth_scale(farthest),
        config.limits,
        config.captions,
        recipe.seed,
        config.renderer,
        config.ids,
    )


def _mark(recipe: Recipe, entries: list[CatalogueEntry]) -> str:
    """Return the fingerprint: what is drawn and how, but not where it lies on this machine.

    The packages of the other collections never change, a folder of one's own does: its files are hashed.
    """
    how = _how(recipe.dataset)
    if recipe.dataset.captions != "coloured":
        how["seed"] = recipe.seed
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


def _draw(
    recipe: Recipe,
    workspace: Workspace,
    entries: list[CatalogueEntry],
    drawing: Engine,
    mark: str,
    part: Part,
    talk: Talk,
) -> UnfinishedShards:
    """Draw what the part lacks still; return the work in progress, all shards of the part whole."""
    if not all(map(is_rendered, entries)):
        check_renderer(recipe.dataset.renderer)
    per_shard = recipe.dataset.objects_per_shard
    unfinished = UnfinishedShards(workspace.partial("shards"), mark, len(entries), per_shard, part)
    splits = assign_splits(entries, recipe.dataset.split)
    tasks = [ObjectTask(unfinished.key(i), entries[i], splits[i]) for i in unfinished.missing()]
    whole = len(unfinished.places())
    done = whole - len(tasks)
    if done and tasks:
        talk.say(f"{done} of {whole} objects were drawn before")
    title = STAGE if part == WHOLE else f"{STAGE} {part}"
    with talk.progress(title, whole, done) as progress, drawing:
        for outcome in drawing.run(tasks):
            task: ObjectTask = outcome.task
            if outcome.result is None:
                talk.detail(f"rejected {task.entry.source_id}: {outcome.reason}")
                unfinished.reject(task.key, outcome.reason)
            else:
                unfinished.keep(task.key, outcome.result)
            progress.advance(rejected=str(unfinished.rejections))
    unfinished.seal_shards()
    return unfinished


def _part_summary(unfinished: UnfinishedShards, talk: Talk) -> dict[str, Any]:
    """Return what a part drew while others are still to come."""
    own, missing = len(unfinished.numbers), unfinished.unsealed()
    talk.say(f"part {unfinished.part} is drawn; {missing} shards of other parts are not")
    return {
        "part": str(unfinished.part),
        "shards": own,
        "objects": len(unfinished.places()) - unfinished.rejections,
        "rejected": unfinished.rejections,
        "shards_missing": missing,
    }


def _publish(
    recipe: Recipe,
    workspace: Workspace,
    entries: list[CatalogueEntry],
    unfinished: UnfinishedShards,
    order: DrawingOrder,
    mark: str,
) -> Artifact:
    shared = {"views": len(order.camera_to_world), "resolution": order.resolution, "depth_scale": order.depth_scale}
    catalogue = unfinished.catalogue(entries, shared)
    if not catalogue["objects"]:
        first = catalogue["rejected"][0]
        raise MeshError(
            f"none of {len(entries)} objects could be drawn; the first, {first['source_id']}: {first['reason']}",
            f"mend the meshes, then remove {workspace.partial('shards')} and run again",
        )
    details = {
        "objects": len(catalogue["objects"]),
        "rejected": len(catalogue["rejected"]),
        "views": len(order.camera_to_world),
        "resolution": order.resolution,
        "categories": dict(Counter(record["category"] for record in catalogue["objects"])),
        "splits": dict(Counter(record["split"] for record in catalogue["objects"])),
    }
    lacks = sorted({name for record in catalogue["objects"] for name in record.get("lacks", ())})
    if lacks:
        details["lacks"] = lacks
    path = workspace.path("shards")
    with publish(path, "shards", recipe=recipe, details=details, fingerprint=mark, keep=unfinished.result) as folder:
        unfinished.write_catalogue(catalogue)
        _sheet(catalogue, unfinished, recipe.seed, folder / "contact.png")
    shutil.rmtree(workspace.partial("shards"), ignore_errors=True)
    return workspace.open("shards")


def _sheet(catalogue: dict[str, Any], unfinished: UnfinishedShards, seed: int, path: Path) -> None:
    """Draw a few views of objects chosen at random, categories taking turns."""
    shuffled = np.random.default_rng(seed).permutation(len(catalogue["objects"]))
    turns: Counter[str] = Counter()
    ranked = []
    for place in shuffled:
        category = catalogue["objects"][place]["category"]
        ranked.append((turns[category], place))
        turns[category] += 1
    chosen = [catalogue["objects"][place] for _, place in sorted(ranked, key=lambda item: item[0])[:_SHEET_OBJECTS]]
    views = [v * catalogue["views"] // _SHEET_VIEWS for v in range(min(_SHEET_VIEWS, catalogue["views"]))]
    rows = []
    for record in chosen:
        pictures = [decode(unfinished.member(record["key"], f"{v:03d}.colour.png")) for v in views]
        rows.append([_on_white(picture) for picture in pictures])
    labels = [f"{record['category']}: {record['captions'][0]}" for record in chosen]
    contact_sheet(rows, labels, path, title=f"{len(catalogue['objects'])} objects")


def _on_white(colour: NDArray[np.uint8]) -> NDArray[np.float32]:
    rgba = colour.astype(np.float32) / np.float32(255)
    return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])


def _plan(recipe: Recipe, workspace: Workspace, entries: list[CatalogueEntry], part: Part) -> dict[str, Any]:
    config = recipe.dataset
    pictures = len(entries) * config.cameras.views
    shards = -(-len(entries) // config.objects_per_shard)
    share = {"part": str(part), "part_shards": sum(map(part.owns, range(shards)))} if part != WHOLE else {}
    return {
        "stage": "render-dataset",
        "writes": str(workspace.path("shards")),
        "objects": len(entries),
        "collections": dict(Counter(entry.load[0] for entry in entries)),
        "categories": dict(Counter(entry.category for entry in entries)),
        "splits": dict(Counter(assign_splits(entries, config.split))),
        "views": config.cameras.views,
        "resolution": config.resolution,
        "renderer": config.renderer,
        "pictures": pictures,
        "shards": shards,
        **share,
        "estimated_bytes": round(pictures * (_BYTES_PER_VIEW + _BYTES_PER_PIXEL * config.resolution**2)),
    }


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
