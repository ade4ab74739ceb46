"""Pictures of real objects and of other meshes, drawn as those of the reference were."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ln3d.artifacts.manifest import fingerprint
from ln3d.backbones.images import ImageBackbone
from ln3d.data.backends.choice import check_renderer
from ln3d.data.collections.catalogue import CatalogueEntry, is_rendered, list_objects
from ln3d.data.drawing import DrawingOrder, ObjectTask, Seen, draw_on_white, seen_of
from ln3d.data.pictures import Pictures as ShardPictures
from ln3d.data.shards import ObjectRecord
from ln3d.data.workers import GuardedPool
from ln3d.errors import LN3DError, MeshError
from ln3d.geometry.cameras import orbit
from ln3d.runtime import own_cores
from ln3d.stages.evaluation_store import Pictures, features_of
from ln3d.stages.looks import Looks
from ln3d.stages.reference import Cameras, Picture, RealObjects, Reference
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, Ranks

Features = Float[np.ndarray, "k d"]


class RealPictures:
    """Pictures of real objects, from the evaluation orbit where the meshes are at hand, else the shards' own views."""

    def __init__(self, reference: Reference, records: Sequence[ObjectRecord], talk: Talk) -> None:
        """Decide between the two, and say so."""
        self.reference, self.records = reference, list(records)
        self._entries, self.why_not = _entries(reference, records)
        self.cameras = self._orbit() if self._entries else reference.shape_cameras()
        self.order = drawing_order(reference, self.cameras, reference.dataset.lighting)
        if not self._entries:
            talk.say(f"comparing on the shards' own views: {self.why_not}")

    def facts(self) -> dict[str, Any]:
        """Return what the protocol says of the cameras and of how real objects were drawn."""
        dataset, evaluation = self.reference.dataset, self.reference.recipe.evaluation
        if not self._entries:
            return {"reference_cameras": f"the views of the shards ({self.why_not})", **self.cameras.facts()}
        return {
            "reference_cameras": "closed orbit above the equator; real objects drawn from their meshes",
            "elevation": evaluation.elevation,
            "radius": dataset.cameras.radius,
            "field_of_view": dataset.cameras.field_of_view,
            "supersampling": dataset.supersampling,
            "lighting": dataset.lighting,
            **({} if dataset.renderer == "embree" else {"renderer": dataset.renderer}),
            **self.cameras.facts(),
        }

    @property
    def count(self) -> int:
        """Return the number of pictures."""
        return len(self.records) * len(self.cameras.camera_to_world)

    def described(self) -> str:
        """Return which real objects there are pictures of, in words."""
        return "all real objects of the category, whatever their split; held_out: those of the test split"

    def looks(self, backbone: ImageBackbone, talk: Talk, ranks: Ranks = ALONE) -> Looks:
        """Return what `backbone` makes of every view of every object, drawn where need be, each process a share."""
        every = range(len(self.cameras.camera_to_world))
        with ranks.together():
            found = self.features(backbone, dict.fromkeys(ranks.share(len(self.records)), every), talk)
        return Looks.whole(np.stack(ranks.gathered(found)))

    def features(self, backbone: ImageBackbone, views: Mapping[int, Sequence[int]], talk: Talk) -> list[Features]:
        """Return the features (k, d) of some `views` of some objects, named by their places among the records.

        Pictures and features are kept, so that nothing is drawn or looked at twice.
        """
        self.draw(talk, [self.records[place] for place in views])
        found = []
        with talk.progress("look at references", len(views)) as progress:
            for place, chosen in views.items():
                pictures = self.views(self.records[place])[list(chosen)]
                store, compute = self.reference.store, backbone.features
                found.append(features_of(pictures, backbone.name, backbone.sha256, store, compute))
                progress.advance()
        return found

    def portrait(self, record: ObjectRecord) -> Picture:
        """Return the first view of an object."""
        picture: Picture = self.views(record)[0]
        return picture

    def draw(self, talk: Talk, records: Sequence[ObjectRecord] | None = None) -> None:
        """Draw what was not drawn before, of all objects or of `records`; it is kept, so that nothing is drawn twice.

        Raises MeshError where a mesh that was drawn for the shards cannot be drawn any more.
        """
        if not self._entries:
            return
        store, wanted = self.reference.store, self.records if records is None else records
        missing = [record for record in wanted if store.kept_pictures(self._key(record)) is None]
        entries = [self._entries[record.source_id] for record in missing]
        for place, seen in draw_each(self.order, entries, talk, "draw references"):
            if isinstance(seen, str):
                raise MeshError(f"{entries[place].source_id}: {seen}", "raise dataset.limits, or render the data again")
            store.keep_pictures(self._key(missing[place]), seen.colour)

    def views(self, record: ObjectRecord) -> Pictures:
        """Return the pictures of an object, after `draw`."""
        if self._entries:
            return self.reference.store.pictures(self._key(record))
        shards = self.reference.shards
        colour, _, _ = ShardPictures(shards).stack(record.index, range(shards.views))
        return to_uint8(colour)

    def _key(self, record: ObjectRecord) -> str:
        return drawing_key(self.order, [self.reference.artifact.id, record.source_id])

    def _orbit(self) -> Cameras:
        evaluation, cameras = self.reference.recipe.evaluation, self.reference.dataset.cameras
        poses, lenses = orbit(evaluation.views, cameras.radius, evaluation.elevation, cameras.field_of_view)
        return Cameras(poses, lenses, evaluation.image_resolution)


def _entries(reference: Reference, records: Sequence[ObjectRecord]) -> tuple[dict[str, CatalogueEntry], str]:
    """Return the catalogue's lines of all records, or none and the reason."""
    try:
        listed = {entry.source_id: entry for entry in list_objects(reference.dataset)}
    except LN3DError as error:
        return {}, error.message
    for record in records:
        if record.source_id not in listed:
            return {}, f"{record.source_id} is in none of the recipe's collections"
        if is_rendered(listed[record.source_id]):
            return {}, f"{record.source_id} comes as pictures, not as a mesh"
    return listed, ""


def drawing_order(reference: RealObjects, cameras: Cameras, lighting: str) -> DrawingOrder:
    """Return the order to draw meshes from `cameras` as those of the reference were."""
    dataset = reference.dataset
    return DrawingOrder(
        cameras.camera_to_world,
        cameras.intrinsics,
        cameras.size,
        dataset.supersampling,
        lighting,
        1.0,
        dataset.limits,
        renderer=dataset.renderer,
    )


def drawing_key(order: DrawingOrder, identity: object) -> str:
    """Return what the pictures of one object depend on."""
    cameras = [order.camera_to_world.tolist(), order.intrinsics.tolist(), order.resolution]
    renderer = () if order.renderer == "embree" else (order.renderer,)  # so that older pictures keep their names
    return fingerprint("drawn", identity, cameras, order.supersampling, order.lighting, *renderer)


def draw_each(
    order: DrawingOrder, entries: Sequence[CatalogueEntry], talk: Talk, title: str
) -> Iterator[tuple[int, Seen | str]]:
    """Yield the place of every entry with what the cameras see of it, or the reason why not, as they are ready.

    Raises RecipeError, before the first, where the order's renderer cannot work on this machine, and LN3DError where
    it turns out later that the machine cannot draw.
    """
    tasks = [ObjectTask(str(place), entry, "") for place, entry in enumerate(entries)]
    if not tasks:
        return
    check_renderer(order.renderer)
    limits = order.limits
    with (
        talk.progress(title, len(tasks)) as progress,
        GuardedPool(partial(draw_on_white, order), own_cores(), limits.seconds, limits.memory_bytes) as pool,
    ):
        for outcome in pool.run(tasks):
            progress.advance()
            yield int(outcome.task.key), outcome.reason if outcome.result is None else seen_of(order, outcome.result)


def to_uint8(images: Float[np.ndarray, "v h w 3"] | Float[torch.Tensor, "v h w 3"]) -> UInt8[np.ndarray, "v h w 3"]:
    """Return pictures in [0, 1] as bytes."""
    return np.rint(np.nan_to_num(np.clip(np.asarray(images), 0, 1)) * 255).astype(np.uint8)
