"""One drawn object as the members of a shard: names and bytes."""

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ln3d.data.ids import Ids
from ln3d.data.views import Views

_PNG_EFFORT = 4


@dataclass(frozen=True)
class ObjectRecord:
    """What is known of one rendered object, pictures aside."""

    index: int
    """Position among the rendered objects: the `i` of a ShardSet."""
    key: str
    """Name of its sample in the shards: the position in the catalogue, rejected objects included."""
    source_id: str
    shape_id: str
    name: str
    category: str
    split: str
    """train, validation or test."""
    captions: tuple[str, ...]
    licence: str
    author: str
    colours: tuple[str, ...]
    """Dominant colour words measured on the renders, the strongest first."""
    lacks: tuple[str, ...] = ()
    """What imported pictures do not tell: `depth` and `normal` have no members then, without `mask` alpha is 255."""


def depth_scale(camera_distance: float) -> float:
    """Return the world units per step of a stored depth: 16 bits reach to the far side of the scene box."""
    return (camera_distance + 3**0.5) / 65535


def object_members(
    record: ObjectRecord,
    views: Views,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    scale: float,
    ids: Ids | None = None,
) -> list[tuple[str, bytes]]:
    """Return (name, bytes) of every member of an object, in the order of the archive.

    `<key>.json` is the record, with the depth scale; `<key>.cameras.json` holds the matrices; every view has
    `.colour.png` (RGBA, not premultiplied), `.depth.png` (16 bit, times the scale; 0 is background) and
    `.normal.png` (RGB, (n + 1) / 2), but for what the record lacks; with `ids` also `.part.png` (16 bit) and
    `.face.png` (RGB, the red byte first), both one more than the number, 0 is background.
    """
    described = {name: value for name, value in asdict(record).items() if name != "index"}
    if not record.lacks:
        del described["lacks"]
    described |= {"views": len(views.colour), "resolution": views.colour.shape[1], "depth_scale": scale}
    cameras = {"camera_to_world": camera_to_world.tolist(), "intrinsics": intrinsics.tolist()}
    members = [(f"{record.key}.json", _json(described)), (f"{record.key}.cameras.json", _json(cameras))]
    for number, (colour, depth, normal) in enumerate(zip(views.colour, views.depth, views.normal, strict=True)):
        stem = f"{record.key}.{number:03d}"
        members.append((f"{stem}.colour.png", _png(colour)))
        if "depth" not in record.lacks:
            members.append((f"{stem}.depth.png", _png(pack_depth(depth, scale))))
        if "normal" not in record.lacks:
            members.append((f"{stem}.normal.png", _png(pack_normal(normal))))
        if ids is not None:
            members.append((f"{stem}.part.png", _png((ids.part[number] + 1).astype(np.uint16))))
            members.append((f"{stem}.face.png", _png(pack_number(ids.face[number]))))
    return members


def pack_depth(depth: NDArray[np.float32], scale: float) -> NDArray[np.uint16]:
    """Return depth in steps of `scale`; a surface is never 0."""
    steps = np.clip(np.rint(depth / scale), 1, 65535)
    return np.where(depth > 0, steps, 0).astype(np.uint16)


def pack_normal(normal: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return normals as bytes; background is 0."""
    there = np.abs(normal).max(axis=-1, keepdims=True) > 0
    return np.where(there, np.rint((normal + 1) * 127.5), 0).astype(np.uint8)


def unpack_normal(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return unit normals from bytes; 0 for background."""
    normal = pixels.astype(np.float32) / 127.5 - 1
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return np.where(pixels.any(axis=-1, keepdims=True), normal, 0).astype(np.float32)


def pack_number(number: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return numbers from -1 to 2^24 - 2 as three bytes of one more, the lowest first."""
    return ((number[..., None] + 1) >> np.array([0, 8, 16])).astype(np.uint8)


def unpack_number(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the numbers that `pack_number` packed."""
    return (pixels.astype(np.int32) << np.array([0, 8, 16], np.int32)).sum(axis=-1, dtype=np.int32) - 1


def decode(data: bytes) -> NDArray[Any]:
    """Return the pixels of a stored picture: uint8 (h, w, 3 or 4) or, for depth, uint16 (h, w)."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(picture)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _png(pixels: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_PNG_EFFORT)
    return buffer.getvalue()
