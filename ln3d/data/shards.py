"""Reading published shards: any view of any object, at random, every byte checked."""

import json
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ln3d.artifacts.opening import Artifact, Sealed
from ln3d.artifacts.remote import RemoteArtifact
from ln3d.data.fetched_objects import FetchedObjects
from ln3d.data.members import ObjectRecord, decode, unpack_normal, unpack_number
from ln3d.data.shard_files import Index, index_name, parsed_index, shard_name
from ln3d.errors import ArtifactError
from ln3d.geometry.vectors import unit

__all__ = ["CATALOGUE_NAME", "ObjectRecord", "Rejection", "ShardSet"]

CATALOGUE_NAME = "catalogue.json"
_AT_HAND = 64  # shards whose files and indices stay open: systems allow a process some thousand, memory not many more

_Key = TypeVar("_Key")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Rejection:
    """An object that could not be rendered, and why."""

    key: str
    source_id: str
    name: str
    category: str
    reason: str


class ShardSet:
    """The rendered objects of a `shards` artifact; `i` counts them, `v` counts the views of each.

    `objects` and `rejected` are the two halves of the catalogue, `views` and `resolution` are the same for all
    objects. It can be sent to worker processes and used after a fork: files are opened where they are read. Of
    shards that lie elsewhere the bytes of an object are fetched when the first of them is needed.
    """

    def __init__(self, artifact: Sealed) -> None:
        """Read the catalogue of a `shards` artifact. Raises ArtifactError where it is damaged."""
        catalogue = _catalogue(artifact)
        self.artifact = artifact
        self.views: int = catalogue["views"]
        self.resolution: int = catalogue["resolution"]
        self._scale: float = catalogue["depth_scale"]
        self._per_shard: int = catalogue["objects_per_shard"]
        self.objects = [
            ObjectRecord(
                **{
                    **record,
                    "captions": tuple(record["captions"]),
                    "colours": tuple(record["colours"]),
                    "lacks": tuple(record.get("lacks", ())),
                    "index": i,
                }
            )
            for i, record in enumerate(catalogue["objects"])
        ]
        self.rejected = [Rejection(**record) for record in catalogue["rejected"]]
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._indices: OrderedDict[int, Index] = OrderedDict()
        self._fetched = FetchedObjects(artifact) if isinstance(artifact, RemoteArtifact) else None

    @property
    def lacks(self) -> tuple[str, ...]:
        """What at least one object lacks: `depth`, `normal`, `mask`."""
        return tuple(sorted({name for record in self.objects for name in record.lacks}))

    def __len__(self) -> int:
        """Return the number of rendered objects."""
        return len(self.objects)

    def camera_to_world(self, i: int) -> NDArray[np.float32]:
        """Return (v, 4, 4)."""
        return self._cameras(i)["camera_to_world"].copy()

    def eyes(self, i: int) -> NDArray[np.float32]:
        """Return unit vectors (v, 3) from the middle of the scene to where the cameras stand."""
        return unit(self._cameras(i)["camera_to_world"][:, :3, 3])

    def intrinsics(self, i: int) -> NDArray[np.float32]:
        """Return (v, 3, 3), in image sizes."""
        return self._cameras(i)["intrinsics"].copy()

    def colour(self, i: int, v: int) -> NDArray[np.uint8]:
        """Return RGBA (h, w, 4), sRGB, not premultiplied: to blend on white is the caller's job."""
        return self._picture(i, f"{v:03d}.colour.png")

    def depth(self, i: int, v: int) -> NDArray[np.float32]:
        """Return the distance along the ray of every pixel's centre (h, w), world units; 0 is background.

        Raises ArtifactError where the object came as pictures without depth.
        """
        self.require(i, "depth")
        return self._picture(i, f"{v:03d}.depth.png").astype(np.float32) * np.float32(self._scale)

    def normal(self, i: int, v: int) -> NDArray[np.float32]:
        """Return unit normals (h, w, 3), world axes, turned to the camera; 0 is background.

        Raises ArtifactError where the object came as pictures without normals.
        """
        self.require(i, "normal")
        return unpack_normal(self._picture(i, f"{v:03d}.normal.png"))

    def ids(self, i: int, v: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the part and the triangle that every pixel shows (h, w) each, -1 for background, as in `data.ids`.

        Raises ArtifactError where the object was drawn without them.
        """
        if f"{self.objects[i].key}.{v:03d}.face.png" not in self._index(int(self.objects[i].key) // self._per_shard):
            raise ArtifactError(
                f"{self.artifact.address}: {self.objects[i].source_id} was drawn without ids", "set dataset.ids: true"
            )
        part = self._picture(i, f"{v:03d}.part.png").astype(np.int32) - 1
        return part, unpack_number(self._picture(i, f"{v:03d}.face.png"))

    def require(self, i: int, what: str) -> None:
        """Raise ArtifactError where object `i` lacks `what`: `depth`, `normal` or `mask`."""
        record = self.objects[i]
        if what in record.lacks:
            raise ArtifactError(
                f"{self.artifact.address}: {record.source_id} has no {what}; it came as pictures without",
                f"use a recipe and a metric that need no {what}, or data that has it",
            )

    def member(self, i: int, name: str) -> bytes:
        """Return the bytes of the member `<key>.<name>` of object `i`.

        Raises ArtifactError, naming shard and member, where they are not the bytes that were written.
        """
        key = self.objects[i].key
        number = int(key) // self._per_shard
        full_name, index = f"{key}.{name}", self._index(number)
        if full_name not in index:
            raise self._damaged(number, full_name, "is missing")
        data = self._stored(number, key, full_name)
        if len(data) != index[full_name][1] or zlib.crc32(data) != index[full_name][2]:
            raise self._damaged(number, full_name, "is damaged")
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files behind when sent to another process."""
        return {**self.__dict__, "_open": OrderedDict()}

    def close(self) -> None:
        """Close the files that this process has opened, forget what it has fetched; both come again when needed."""
        for (process, _), descriptor in self._open.items():
            if process == os.getpid():
                os.close(descriptor)
        self._open.clear()
        if self._fetched is not None:
            self._fetched.forget()

    def _picture(self, i: int, name: str) -> NDArray[Any]:
        return decode(self.member(i, name))

    def _cameras(self, i: int) -> dict[str, NDArray[np.float32]]:
        return _parsed_cameras(self.member(i, "cameras.json"))

    def _index(self, number: int) -> Index:
        return _recent(self._indices, number, lambda: parsed_index(self.artifact.verified(index_name(number))))

    def _stored(self, number: int, key: str, name: str) -> bytes:
        """Return the bytes of the member `name` of the object `key`, unchecked, from the shard of this number."""
        if self._fetched is not None:
            return self._fetched.member(shard_name(number), key, self._index(number), name)
        offset, length, _ = self._index(number)[name]
        try:
            return os.pread(self._file(number), length, offset)
        except OSError as error:
            raise self._damaged(number, name, f"cannot be read: {error.strerror}") from error

    def _file(self, number: int) -> int:
        artifact, place = self.artifact, (os.getpid(), number)
        assert isinstance(artifact, Artifact)
        return _recent(self._open, place, lambda: os.open(artifact.file(shard_name(number)), os.O_RDONLY), os.close)

    def _damaged(self, number: int, member: str, what: str) -> ArtifactError:
        return ArtifactError(f"{self.artifact.place(shard_name(number))}: {member} {what}", self.artifact.remedy)


def _recent(
    kept: OrderedDict[_Key, _Made], key: _Key, make: Callable[[], _Made], drop: Callable[[_Made], None] | None = None
) -> _Made:
    """Return what is kept under `key`, made if need be; too many are kept no longer, those used longest ago first."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > _AT_HAND:
            _, oldest = kept.popitem(last=False)
            if drop is not None:
                drop(oldest)
    kept.move_to_end(key)
    return kept[key]


@lru_cache(maxsize=8)
def _parsed_cameras(data: bytes) -> dict[str, NDArray[np.float32]]:
    # All objects of a set usually share their cameras, hence the small cache.
    return {name: np.array(value, np.float32) for name, value in json.loads(data).items()}


def _catalogue(artifact: Sealed) -> dict[str, Any]:
    document = json.loads(artifact.verified(CATALOGUE_NAME))
    if not isinstance(document, dict):
        raise ArtifactError(f"{artifact.place(CATALOGUE_NAME)} is no catalogue", "make it with: ln3d render-dataset")
    return document
