"""Work in progress of a rendering: what is drawn already, in a folder that survives any kill."""

import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.shard_files import Index, index_name, index_of, read_index, replace_file, shard_name, write_shard
from ln3d.data.shards import CATALOGUE_NAME, Rejection
from ln3d.errors import ArtifactError

_STATE_NAME = "state.json"


class UnfinishedShards:
    """`<workspace>/shards.partial`: finished objects, finished shards, rejections.

    `objects/<key>.run` holds the tar entries of a drawn object, `rejected/<key>.json` the reason of one that
    could not be drawn, `result/` the shards whose range of the catalogue is complete. Every file appears whole
    or not at all.
    """

    def __init__(self, folder: Path, mark: str, count: int, per_shard: int) -> None:
        """Open or make the folder. Raises ArtifactError where it belongs to another recipe (another `mark`)."""
        self.folder, self.count, self.per_shard = folder, count, per_shard
        self.result = folder / "result"
        for inner in ("objects", "rejected", "result"):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        self._claim(mark)
        self._objects = {path.stem for path in (folder / "objects").glob("*.run") if _is_whole(path)}
        self._rejected = {path.stem for path in (folder / "rejected").glob("*.json")}
        self._shards = {n for n in range(-(-count // per_shard)) if (self.result / index_name(n)).is_file()}
        self._indices: dict[int, Index] = {}
        self._sweep()

    @property
    def rejections(self) -> int:
        """How many objects could not be drawn so far."""
        return len(self._rejected)

    def key(self, place: int) -> str:
        """Return the name in the shards of the object at a place of the catalogue."""
        return f"{place:05d}"

    def missing(self) -> list[int]:
        """Return the places of the catalogue that are neither drawn nor rejected."""
        return [
            place
            for place in range(self.count)
            if place // self.per_shard not in self._shards
            and self.key(place) not in self._objects
            and self.key(place) not in self._rejected
        ]

    def keep(self, key: str, run: bytes) -> None:
        """Keep the tar entries of a drawn object; seal its shard if it was the last one missing."""
        replace_file(self.folder / "objects" / f"{key}.run", run)
        self._objects.add(key)
        self._seal_if_complete(int(key) // self.per_shard)

    def reject(self, key: str, reason: str) -> None:
        """Record why an object could not be drawn."""
        replace_file(self.folder / "rejected" / f"{key}.json", json.dumps({"reason": reason}).encode())
        self._rejected.add(key)
        self._seal_if_complete(int(key) // self.per_shard)

    def seal_shards(self) -> None:
        """Write the shards that became complete just before an earlier run was killed."""
        for number in range(-(-self.count // self.per_shard)):
            self._seal_if_complete(number)

    def catalogue(self, entries: Sequence[CatalogueEntry], shared: dict[str, Any]) -> dict[str, Any]:
        """Return the document of catalogue.json: `shared` facts, records of drawn objects, rejections."""
        objects, rejected = [], []
        for place, entry in enumerate(entries):
            key = self.key(place)
            if key in self._rejected:
                reason = json.loads((self.folder / "rejected" / f"{key}.json").read_bytes())["reason"]
                rejected.append(asdict(Rejection(key, entry.source_id, entry.name, entry.category, reason)))
            else:
                objects.append(self._record(key))
        return {**shared, "objects_per_shard": self.per_shard, "objects": objects, "rejected": rejected}

    def member(self, key: str, name: str) -> bytes:
        """Return the bytes of a member of a drawn object, after all shards are sealed."""
        number = int(key) // self.per_shard
        offset, length, _ = self._index(number)[f"{key}.{name}"]
        with open(self.result / shard_name(number), "rb") as file:
            file.seek(offset)
            return file.read(length)

    def write_catalogue(self, catalogue: dict[str, Any]) -> None:
        """Write catalogue.json, one line per object."""
        head = {name: value for name, value in catalogue.items() if name not in ("objects", "rejected")}
        lines = [json.dumps(head)[:-1]]
        for name in ("objects", "rejected"):
            items = ",\n".join(json.dumps(item, ensure_ascii=False) for item in catalogue[name])
            lines.append(f'"{name}": [\n{items}\n]')
        replace_file(self.result / CATALOGUE_NAME, (",\n".join(lines) + "}\n").encode())

    def _claim(self, mark: str) -> None:
        state = self.folder / _STATE_NAME
        if not state.is_file():
            replace_file(state, json.dumps({"fingerprint": mark}).encode())
        elif json.loads(state.read_bytes()).get("fingerprint") != mark:
            raise ArtifactError(
                f"{self.folder} holds the unfinished shards of another recipe",
                f"choose another workspace (-w), or remove {self.folder} to begin anew",
            )

    def _index(self, number: int) -> Index:
        if number not in self._indices:
            self._indices[number] = read_index(self.result / index_name(number))
        return self._indices[number]

    def _sweep(self) -> None:
        """Remove from `result/` whatever a killed run left there beside whole shards."""
        whole = {name(number) for number in self._shards for name in (shard_name, index_name)}
        for path in self.result.iterdir():
            if path.name not in whole:
                path.unlink()

    def _seal_if_complete(self, number: int) -> None:
        if number in self._shards:
            return
        first = number * self.per_shard
        keys = [self.key(place) for place in range(first, min(first + self.per_shard, self.count))]
        if not all(key in self._objects or key in self._rejected for key in keys):
            return
        drawn = [self.folder / "objects" / f"{key}.run" for key in keys if key in self._objects]
        write_shard(self.result, number, (path.read_bytes() for path in drawn))
        self._shards.add(number)
        for path in drawn:
            path.unlink()

    def _record(self, key: str) -> dict[str, Any]:
        """Return the record of a drawn object, read back from its shard."""
        record: dict[str, Any] = json.loads(self.member(key, "json"))
        for shared in ("views", "resolution", "depth_scale"):
            del record[shared]
        return record


def _is_whole(path: Path) -> bool:
    """Return whether a drawn object, kept by an earlier run, can be read to its end."""
    try:
        return f"{path.stem}.json" in index_of(path.read_bytes())
    except tarfile.TarError:
        return False
