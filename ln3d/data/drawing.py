"""What a render worker does with one line of the catalogue: load, draw, describe, pack."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ln3d.config.render import LimitsConfig, Renderer
from ln3d.data.backends.choice import painter
from ln3d.data.captions import Appearance, appearance, colour_words, coloured_captions, described_captions
from ln3d.data.collections.catalogue import CatalogueEntry, is_rendered, load_object, load_views
from ln3d.data.ids import identify
from ln3d.data.members import ObjectRecord, object_members
from ln3d.data.readers.scene import Scene, normalised
from ln3d.data.shard_files import tar_blocks
from ln3d.data.views import Views
from ln3d.errors import MeshError


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
    captions: str = "coloured"
    seed: int = 0
    renderer: Renderer = "embree"
    ids: bool = False


@dataclass(frozen=True)
class ObjectTask:
    """One object to draw: its name in the shards, its line of the catalogue, its split."""

    key: str
    entry: CatalogueEntry
    split: str


def draw_object(order: DrawingOrder, task: ObjectTask) -> bytes:
    """Return the tar entries of one object (see `ln3d.data.members`). Raises MeshError where it cannot be drawn."""
    entry = task.entry
    lacks: tuple[str, ...] = ()
    ids = None
    if is_rendered(entry):
        order, views, lacks = _imported(order, entry)
    else:
        scene = normalised(load_object(entry, order.limits))
        views = _drawn(order, scene)
        if order.ids:
            ids = identify(scene, order.camera_to_world, order.intrinsics, order.resolution, order.supersampling)
    if not views.colour[..., 3].any():
        raise MeshError("no camera sees anything of it", "Its texture may be all clear, or its triangles needles.")
    colours = () if "mask" in lacks else colour_words(views.colour, views.normal, order.lighting)
    record = ObjectRecord(
        index=-1,
        key=task.key,
        source_id=entry.source_id,
        shape_id=entry.shape_id,
        name=entry.name,
        category=entry.category,
        split=task.split,
        captions=_captions(order, entry, views, colours),
        licence=entry.licence,
        author=entry.author,
        colours=colours,
        lacks=lacks,
    )
    cameras = order.camera_to_world, order.intrinsics
    return tar_blocks(object_members(record, views, *cameras, order.depth_scale, ids))


def _drawn(order: DrawingOrder, scene: Scene) -> Views:
    draw = painter(order.renderer)
    return draw(scene, order.camera_to_world, order.intrinsics, order.resolution, order.supersampling, order.lighting)


def _imported(order: DrawingOrder, entry: CatalogueEntry) -> tuple[DrawingOrder, Views, tuple[str, ...]]:
    """Return the order with the object's own cameras, its pictures, and what they lack. Their light is unknown."""
    seen = load_views(entry, order.limits, len(order.camera_to_world), order.resolution)
    reach = float(np.float32(65535 * order.depth_scale))
    farthest = 0.0 if seen.depth is None else float(seen.depth.max())
    if farthest > reach:
        raise MeshError(
            f"{entry.source_id}: a depth of {farthest:.2f}, more than {reach:.2f}: raise dataset.cameras.radius",
            "Depths reach to dataset.cameras.radius and the far side of the scene box.",
        )
    own = replace(order, camera_to_world=seen.camera_to_world, intrinsics=seen.intrinsics, lighting="albedo")
    return own, seen.views(), seen.lacks


class Seen(NamedTuple):
    """What all cameras see of an object: colour on white, sRGB (v, h, w, 3), and depth (v, h, w), 0 for background."""

    colour: NDArray[np.uint8]
    depth: NDArray[np.float32]


def draw_on_white(order: DrawingOrder, task: ObjectTask) -> bytes:
    """Return the colours and then the depths of one object, as bytes for `seen_of`. Raises MeshError."""
    views = _drawn(order, normalised(load_object(task.entry, order.limits)))
    colour = views.colour.astype(np.float32)
    coverage = colour[..., 3:] / 255
    on_white = colour[..., :3] * coverage + 255 * (1 - coverage)
    return np.rint(on_white).astype(np.uint8).tobytes() + views.depth.astype(np.float32).tobytes()


def seen_of(order: DrawingOrder, data: bytes) -> Seen:
    """Return what `draw_on_white` packed."""
    shape = (len(order.camera_to_world), order.resolution, order.resolution)
    colours = 3 * shape[0] * shape[1] * shape[2]
    colour = np.frombuffer(data, np.uint8, count=colours).reshape(*shape, 3)
    return Seen(colour.copy(), np.frombuffer(data[colours:], np.float32).reshape(shape).copy())


def _captions(order: DrawingOrder, entry: CatalogueEntry, views: Views, colours: tuple[str, ...]) -> tuple[str, ...]:
    """Return the captions of an object as `dataset.captions` asks for them."""
    if order.captions == "coloured":
        return coloured_captions(entry.captions, colours)
    if entry.own_captions:
        return entry.captions
    seen = appearance(views.colour, views.normal, order.lighting) if colours else Appearance(())
    return described_captions(entry.captions, seen, order.seed, entry.source_id)
