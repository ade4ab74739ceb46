"""A reference set from shards: features of some pictures, surfaces of some shapes, small enough to go with a model."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.images import ImageBackbone, plain_name
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ObjectRecord
from ln3d.errors import ArtifactError, RecipeError
from ln3d.seeding import numpy_generator
from ln3d.stages.evaluation_store import Store
from ln3d.stages.freshness import up_to_date
from ln3d.stages.real_pictures import RealPictures, to_uint8
from ln3d.stages.reference import Reference
from ln3d.stages.reference_set import CAMERAS, CLOUDS, FEATURES, OBJECTS, PORTRAITS, miniatures, quantised
from ln3d.stages.reference_share import Share
from ln3d.talk import Talk

ELSEWHERE = "choose another folder (-o)"
"""What to do where the folder of a packed model holds something else."""
_MINIATURE = 64  # pixels a side, at most


@dataclass(frozen=True)
class _Chosen:
    """Which views of which objects, which shapes, and how many there were."""

    views: dict[int, list[int]]
    """By the index of the object."""
    shapes: list[ObjectRecord]
    counts: dict[str, dict[str, int]]


def pack_reference(
    workspace: Workspace,
    target: Workspace,
    share: Share,
    network: ImageBackbone,
    talk: Talk,
    overrides: Sequence[str] = (),
) -> Artifact:
    """Publish a reference set of a workspace's shards in the folder `target` unless it is there, and return it.

    The protocol is the workspace's own, after `overrides` of `evaluation.*`. Pictures and features are kept in the
    workspace, as those of `eval`. Raises RecipeError for a category that does not exist or has fewer than two shapes,
    and ArtifactError where the shards are missing, `target` holds another set or features do not fit half precision.
    """
    shards, store = workspace.open("shards"), Store(workspace.root / "evaluation")
    reference = Reference(workspace, shards, overrides, store)
    categories = _categories(reference, share)
    records = [record for category in categories for record in reference.objects(category)]
    pictures = RealPictures(reference, sorted(records, key=lambda record: record.index), talk)
    chosen = _choose(reference, categories, share, len(pictures.cameras.camera_to_world))
    kept = sorted({*chosen.views, *(record.index for record in chosen.shapes)})
    numbers = {index: number for number, index in enumerate(kept)}
    recipe = _portable(reference.recipe, network).model_copy(update={"dataset": reference.dataset})
    backbone = {"name": network.name, "sha256": network.sha256, "width": network.width}
    mark = fingerprint("reference", shards.id, asdict(share), recipe.evaluation, recipe.seed, backbone)
    details = {"backbone": backbone, "categories": chosen.counts}
    if up_to_date(target, "reference", mark, elsewhere=ELSEWHERE) is not None:
        return target.open("reference", verify=True)
    with publish(
        target.path("reference"),
        "reference",
        recipe=recipe,
        inputs={"shards": shards},
        details=details,
        fingerprint=mark,
    ) as scratch:
        _write_pictures(scratch, pictures, chosen.views, numbers, network, talk)
        _write_shapes(scratch, reference, chosen.shapes, numbers)
        cameras = {"pictures": pictures.facts(), "shapes": reference.shape_cameras().facts()}
        _write_json(scratch / CAMERAS, cameras)
        _write_json(scratch / OBJECTS, [_told(reference.shards.objects[index]) for index in kept])
    return target.open("reference")


def views_in_turn(objects: int, views: int, count: int, seed: int, category: str) -> dict[int, list[int]]:
    """Return `count` different views, or all there are, by the place of their object.

    Objects take turns in an order that the seed decides, and so do the views of each: no object has two views more
    than another, and every picture is as likely to be among them as any other.
    """
    generator = numpy_generator(seed, "reference views", category)
    order = generator.permutation(objects)
    orders = generator.permuted(np.tile(np.arange(views), (objects, 1)), axis=1)
    chosen: dict[int, list[int]] = {}
    for turn in range(min(count, objects * views)):
        place = int(order[turn % objects])
        chosen.setdefault(place, []).append(int(orders[place, turn // objects]))
    return {place: sorted(chosen[place]) for place in sorted(chosen)}


def _portable(recipe: Recipe, network: ImageBackbone) -> Recipe:
    """Return the recipe without the places of this machine's files: a network is known by its name and its hash."""
    evaluation = recipe.evaluation
    named = {"backbone": network.name, "clip": plain_name(evaluation.clip)}
    return recipe.model_copy(update={"evaluation": evaluation.model_copy(update=named)})


def _categories(reference: Reference, share: Share) -> list[str]:
    for category in share.categories:
        reference.check_category(category)
    if share.categories:
        return list(dict.fromkeys(share.categories))
    found = [c for c in reference.categories() if len({r.shape_id for r in reference.objects(c)}) > 1]
    if not found:
        raise RecipeError("no category of the shards has two shapes", "render more objects")
    return found


def _choose(reference: Reference, categories: Sequence[str], share: Share, views: int) -> _Chosen:
    chosen = _Chosen({}, [], {})
    for category in categories:
        objects, seed = reference.objects(category), reference.recipe.seed
        for place, some in views_in_turn(len(objects), views, share.pictures, seed, category).items():
            chosen.views[objects[place].index] = some
        shapes = [record for record in reference.scanned(category) if "depth" not in record.lacks]
        order = numpy_generator(seed, "reference shapes", category).permutation(len(shapes))[: share.shapes]
        chosen.shapes.extend(shapes[place] for place in sorted(order))
        looked_at = [record for record in objects if record.index in chosen.views]
        chosen.counts[category] = {
            "pictures": sum(len(chosen.views[record.index]) for record in looked_at),
            "all_pictures": len(objects) * views,
            "objects": len(looked_at),
            "all_objects": len(objects),
            "shapes": len(order),
            "all_shapes": len(shapes),
        }
        if len(looked_at) < 2 or len(order) < 2:
            raise RecipeError(
                f"{share.pictures} pictures and {share.shapes} shapes of category {category} are too few", "take more"
            )
    return chosen


def _write_pictures(
    folder: Path,
    pictures: RealPictures,
    views: dict[int, list[int]],
    numbers: dict[int, int],
    network: ImageBackbone,
    talk: Talk,
) -> None:
    places = {place: views[r.index] for place, r in enumerate(pictures.records) if r.index in views}
    features = torch.from_numpy(np.concatenate(pictures.features(network, places, talk))).half()
    if not features.isfinite().all():
        raise ArtifactError(f"features of {network.name} do not fit half precision", "use another network")
    rows = [(numbers[pictures.records[place].index], view) for place, some in places.items() for view in some]
    objects, views_of = torch.tensor(rows, dtype=torch.int32).T
    save_tensors(folder / FEATURES, {"features": features, "object": objects, "view": views_of})
    looked_at = [pictures.portrait(pictures.records[place]) for place in places]
    (folder / PORTRAITS["pictures"]).write_bytes(_miniatures(looked_at))


def _write_shapes(folder: Path, reference: Reference, shapes: Sequence[ObjectRecord], numbers: dict[int, int]) -> None:
    shapes = sorted(shapes, key=lambda record: record.index)
    points = torch.from_numpy(np.stack([quantised(reference.cloud(record)) for record in shapes]))
    objects = torch.tensor([numbers[record.index] for record in shapes], dtype=torch.int32)
    save_tensors(folder / CLOUDS, {"points": points, "object": objects})
    portraits = [reference.portrait(record) for record in shapes]
    (folder / PORTRAITS["shapes"]).write_bytes(_miniatures(portraits))


def _miniatures(portraits: Sequence[Any]) -> bytes:
    pictures = [picture if picture.dtype == np.uint8 else to_uint8(picture) for picture in portraits]
    return miniatures(pictures, min(_MINIATURE, pictures[0].shape[0]))


def _told(record: ObjectRecord) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name != "index"}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n", "utf-8")
