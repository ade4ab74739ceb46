"""What a render worker does with one line of the catalogue: load, draw, describe, pack."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ln3d.config.render import LimitsConfig
from ln3d.data.captions import colour_words, coloured_captions
from ln3d.data.collections.catalogue import CatalogueEntry, load_object
from ln3d.data.members import ObjectRecord, object_members
from ln3d.data.readers.scene import normalised
from ln3d.data.shard_files import tar_blocks
from ln3d.data.views import draw


@dataclass(frozen=True)
class DrawingOrder:
    """What is the same for all objects of a data set."""

    camera_to_world: NDArray[np.float32]
    intrinsics: NDArray[np.float32]
    resolution: int
    supersampling: int
    lighting: str
    depth_scale: float
    limits: LimitsConfig


@dataclass(frozen=True)
class ObjectTask:
    """One object to draw: its name in the shards, its line of the catalogue, its split."""

    key: str
    entry: CatalogueEntry
    split: str


def draw_object(order: DrawingOrder, task: ObjectTask) -> bytes:
    """Return the tar entries of one object (see `ln3d.data.members`). Raises MeshError where it cannot be drawn."""
    entry = task.entry
    scene = normalised(load_object(entry, order.limits))
    views = draw(scene, order.camera_to_world, order.intrinsics, order.resolution, order.supersampling, order.lighting)
    colours = colour_words(views.colour, views.normal, order.lighting)
    record = ObjectRecord(
        index=-1,
        key=task.key,
        source_id=entry.source_id,
        shape_id=entry.shape_id,
        name=entry.name,
        category=entry.category,
        split=task.split,
        captions=coloured_captions(entry.captions, colours),
        licence=entry.licence,
        author=entry.author,
        colours=colours,
    )
    return tar_blocks(object_members(record, views, order.camera_to_world, order.intrinsics, order.depth_scale))
