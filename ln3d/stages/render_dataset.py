"""`render-dataset`: meshes in, multi-view shards out."""

import shutil
from collections import Counter
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
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.contents import folder_digest
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object
from ln3d.data.members import decode, depth_scale
from ln3d.data.splits import assign_splits
from ln3d.data.subsets import thinned
from ln3d.data.unfinished import UnfinishedShards
from ln3d.data.workers import GuardedPool
from ln3d.errors import MeshError
from ln3d.geometry.cameras import camera_set
from ln3d.report.sheets import contact_sheet
from ln3d.runtime import available_cores
from ln3d.stages.freshness import up_to_date
from ln3d.talk import Talk

_DRAWING_VERSION = 1  # raise it when the same meshes give other pictures
_BYTES_PER_VIEW, _BYTES_PER_PIXEL = 1800, 0.7  # of the three pictures of a view and their tar headers, measured
_SHEET_OBJECTS, _SHEET_VIEWS = 12, 4


def run(
    recipe: Recipe,
    workspace: Workspace,
    talk: Talk,
    *,
    meshes: Path | None = None,
    workers: int | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Draw every object of the recipe's collections and publish `shards`; return what was published.

    `meshes` is a folder that replaces the collections, `workers` the number of processes (default: the cores),
    `limit` keeps that many objects, of every category its share. A killed run is taken up where it stopped. With
    `dry_run` nothing is written and the plan is returned. An object that cannot be drawn is recorded with its
    reason; MeshError if that is all of them. Raises RecipeError, ArtifactError.
    """
    entries = list_objects(recipe.dataset, meshes)
    if limit is not None and limit < len(entries):
        talk.say(f"drawing {limit} of {len(entries)} objects: of every category its share, evenly spaced")
        entries = thinned(entries, limit)
    order = _order(recipe)
    if dry_run:
        return _plan(recipe, workspace, entries)
    with workspace.lock("render-dataset"):
        mark = _mark(recipe, entries)
        done = up_to_date(workspace, "shards", mark)
        if done is not None:
            shutil.rmtree(workspace.partial("shards"), ignore_errors=True)
            talk.say(f"{done.path} is up to date")
            return _summary(done)
        unfinished = UnfinishedShards(workspace.partial("shards"), mark, len(entries), recipe.dataset.objects_per_shard)
        _draw_missing(order, entries, recipe, unfinished, workers or available_cores(), talk)
        artifact = _publish(recipe, workspace, entries, unfinished, order, mark)
    talk.say(f"published {artifact.path}")
    return _summary(artifact)


def _order(recipe: Recipe) -> DrawingOrder:
    config = recipe.dataset
    camera_to_world, intrinsics = camera_set(config.cameras)
    farthest = float(np.linalg.norm(camera_to_world[:, :3, 3], axis=1).max())
    return DrawingOrder(
        camera_to_world,
        intrinsics,
        config.resolution,
        config.supersampling,
        config.lighting,
        depth_scale(farthest),
        config.limits,
    )


def _mark(recipe: Recipe, entries: list[CatalogueEntry]) -> str:
    """Return the fingerprint: what is drawn and how, but not where it lies on this machine.

    The packages of the other collections never change, a folder of one's own does: its files are hashed.
    """
    how = recipe.dataset.model_dump(mode="json", exclude={"collections"})
    what = [[e.source_id, e.shape_id, e.name, e.category, e.captions, e.licence, e.author] for e in entries]
    folders = sorted({str(e.load[1]["root"]) for e in entries if e.load[0] == "folder"})
    return fingerprint("shards", _DRAWING_VERSION, how, what, [folder_digest(Path(folder)) for folder in folders])


def _draw_missing(
    order: DrawingOrder,
    entries: list[CatalogueEntry],
    recipe: Recipe,
    unfinished: UnfinishedShards,
    workers: int,
    talk: Talk,
) -> None:
    splits = assign_splits(entries, recipe.dataset.split)
    missing = unfinished.missing()
    tasks = [ObjectTask(unfinished.key(i), entries[i], splits[i]) for i in missing]
    done = len(entries) - len(tasks)
    if done:
        talk.say(f"{done} of {len(entries)} objects were drawn before")
    limits = recipe.dataset.limits
    with (
        talk.progress("render-dataset", len(entries), done) as progress,
        GuardedPool(partial(draw_object, order), workers, limits.seconds, limits.memory_bytes) as pool,
    ):
        for outcome in pool.run(tasks):
            task: ObjectTask = outcome.task
            if outcome.result is None:
                talk.detail(f"rejected {task.entry.source_id}: {outcome.reason}")
                unfinished.reject(task.key, outcome.reason)
            else:
                unfinished.keep(task.key, outcome.result)
            progress.advance(rejected=str(unfinished.rejections))
    unfinished.seal_shards()


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


def _plan(recipe: Recipe, workspace: Workspace, entries: list[CatalogueEntry]) -> dict[str, Any]:
    config = recipe.dataset
    pictures = len(entries) * config.cameras.views
    return {
        "stage": "render-dataset",
        "writes": str(workspace.path("shards")),
        "objects": len(entries),
        "collections": dict(Counter(entry.load[0] for entry in entries)),
        "categories": dict(Counter(entry.category for entry in entries)),
        "splits": dict(Counter(assign_splits(entries, config.split))),
        "views": config.cameras.views,
        "resolution": config.resolution,
        "pictures": pictures,
        "shards": -(-len(entries) // config.objects_per_shard),
        "estimated_bytes": round(pictures * (_BYTES_PER_VIEW + _BYTES_PER_PIXEL * config.resolution**2)),
    }


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
