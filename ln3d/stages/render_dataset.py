"""`render-dataset`: meshes in, multi-view shards out."""

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import DatasetConfig
from ln3d.data.backends.choice import check_renderer
from ln3d.data.collections.catalogue import is_rendered, list_objects, needs_renderer
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.drawing import DrawingOrder, ObjectTask
from ln3d.data.engines import Engine, engine
from ln3d.data.members import decode, depth_scale
from ln3d.data.renders.frames import places_of
from ln3d.data.splits import assign_splits, with_held_out, within_folder
from ln3d.data.subsets import selected, thinned
from ln3d.data.unfinished import WHOLE, Part, UnfinishedShards, all_sealed
from ln3d.errors import MeshError, RecipeError
from ln3d.geometry.cameras import camera_set
from ln3d.report.sheets import contact_sheet
from ln3d.stages.freshness import up_to_date
from ln3d.stages.part_locks import STAGE, drawing_alone, publishing
from ln3d.stages.shard_mark import shards_mark
from ln3d.talk import Talk

_BYTES_PER_VIEW, _BYTES_PER_PIXEL = 1800, 0.7  # of the three pictures of a view and their tar headers, measured
_SHEET_OBJECTS, _SHEET_VIEWS = 12, 4


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
    is drawn, also where the recipe's renderer cannot work on this machine; LN3DError where the cluster fails or what
    this machine needs to draw turns out to be missing: nothing is recorded for that, and the command can be run again.
    """
    entries = _entries(recipe, meshes, only, limit, talk)
    order = _order(recipe, entries)
    if dry_run:
        return _plan(recipe, workspace, entries, part)
    mark = shards_mark(recipe, entries)
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
    catalogue, split = list_objects(recipe.dataset, meshes), recipe.dataset.split
    if meshes is not None:
        split, others = within_folder(catalogue, split)
        if others:
            named = len(recipe.dataset.split.held_out)
            talk.say(f"dataset.split.held_out: {others} of {named} names are of collections that --meshes replaces")
    entries = with_held_out(catalogue, split)
    if only:
        entries = selected(entries, only)
    if limit is not None and limit < len(entries):
        talk.say(f"drawing {limit} of {len(entries)} objects: of every category its share, evenly spaced")
        entries = thinned(entries, limit)
    _check_ids(recipe.dataset, entries)
    return entries


def _check_ids(config: DatasetConfig, entries: Iterable[CatalogueEntry]) -> None:
    """Raise RecipeError where ids are asked for of pictures, which tell neither parts nor triangles."""
    pictures = next(filter(is_rendered, entries), None) if config.ids else None
    if pictures is not None:
        raise RecipeError(
            f"dataset.ids: {pictures.source_id} comes as pictures, which do not tell parts and triangles",
            "set dataset.ids: false, or leave out the collections of pictures",
        )


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
    folder, per_shard = workspace.partial("shards"), recipe.dataset.objects_per_shard
    begun = folder.exists()
    if not begun:  # before there is work in progress, which would bind to this recipe
        _check_renderer(recipe, (entry for place, entry in enumerate(entries) if part.owns(place // per_shard)))
    unfinished = UnfinishedShards(folder, mark, len(entries), per_shard, part)
    splits = assign_splits(entries, recipe.dataset.split)
    tasks = [ObjectTask(unfinished.key(i), entries[i], splits[i]) for i in unfinished.missing()]
    if begun:
        _check_renderer(recipe, (task.entry for task in tasks))
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


def _check_renderer(recipe: Recipe, entries: Iterable[CatalogueEntry]) -> None:
    """Raise RecipeError where a mesh is among what is to be drawn and the renderer cannot work on this machine."""
    if any(map(needs_renderer, entries)):
        check_renderer(recipe.dataset.renderer)


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
