"""Work in progress of a rendering: what is drawn already, in a folder that survives any kill."""

import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.shard_files import Index, index_name, index_of, read_index, replace_file, shard_name, write_shard
from ln3d.data.shards import CATALOGUE_NAME, Rejection
from ln3d.errors import ArtifactError, RecipeError

_STATE_NAME = "state.json"
_SHARD_FILE = re.compile(r"\.?shard-(\d+)\.")


@dataclass(frozen=True)
class Part:
    """One of `count` shares of a rendering, counted from 1: every `count`-th shard.

    Parts share no shard, so processes that draw different ones need not know of each other.
    """

    index: int
    count: int

    def owns(self, shard: int) -> bool:
        """Return whether the shard of this number belongs to the part."""
        return shard % self.count == self.index - 1

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.index}/{self.count}"


WHOLE = Part(1, 1)


def parse_part(text: str) -> Part:
    """Return the part that `i/n` names. Raises RecipeError where it is not two whole numbers, 1 <= i <= n."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    part = Part(int(found[1]), int(found[2])) if found else Part(0, 0)
    if not 1 <= part.index <= part.count:
        raise RecipeError(f"--part {text}: not a part", "write i/n, such as 1/8, 2/8, ... 8/8")
    return part


def all_sealed(folder: Path, count: int, per_shard: int) -> bool:
    """Return whether the shards of all parts are whole in a folder of work in progress, which is not touched."""
    return all((folder / "result" / index_name(number)).is_file() for number in range(-(-count // per_shard)))


class UnfinishedShards:
    """`<workspace>/shards.partial`: finished objects, finished shards, rejections.

    `objects/<key>.run` holds the tar entries of a drawn object, `rejected/<key>.json` the reason of one that
    could not be drawn, `result/` the shards whose range of the catalogue is complete. Every file appears whole
    or not at all. Several processes may share the folder if each has a `part` of its own, and then see and touch
    only what belongs to their shards.
    """

    def __init__(self, folder: Path, mark: str, count: int, per_shard: int, part: Part = WHOLE) -> None:
        """Open or make the folder. Raises ArtifactError where it belongs to another recipe (another `mark`)."""
        self.folder, self.count, self.per_shard, self.part = folder, count, per_shard, part
        self.result = folder / "result"
        self.numbers = [number for number in range(-(-count // per_shard)) if part.owns(number)]
        for inner in ("objects", "rejected", "result"):
            (folder / inner).mkdir(parents=True, exist_ok=True)
        self._claim(mark)
        drawn = [path for path in (folder / "objects").glob("*.run") if self._owns(path.stem)]
        self._objects = {path.stem for path in drawn if _is_whole(path)}
        self._rejected = {path.stem for path in (folder / "rejected").glob("*.json") if self._owns(path.stem)}
        self._shards = {number for number in self.numbers if self._is_sealed(number)}
        self._indices: dict[int, Index] = {}
        self._sweep()

    @property
    def rejections(self) -> int:
        """How many objects could not be drawn so far."""
        return len(self._rejected)

    def key(self, place: int) -> str:
        """Return the name in the shards of the object at a place of the catalogue."""
        return f"{place:05d}"

    def places(self) -> list[int]:
        """Return the places of the catalogue that belong to the part."""
        return [place for number in self.numbers for place in self._range(number)]

    def missing(self) -> list[int]:
        """Return those of them that are neither drawn nor rejected."""
        return [
            place
            for place in self.places()
            if place // self.per_shard not in self._shards
            and self.key(place) not in self._objects
            and self.key(place) not in self._rejected
        ]

    def unsealed(self) -> int:
        """Return how many shards, of this part and of all others, are not whole yet: 0 means ready to publish."""
        return sum(not self._is_sealed(number) for number in range(-(-self.count // self.per_shard)))

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
        for number in self.numbers:
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
            shard = _SHARD_FILE.match(path.name)
            ours = self.part.owns(int(shard[1])) if shard else self.part == WHOLE
            if ours and path.name not in whole:
                path.unlink()

    def _owns(self, key: str) -> bool:
        return self.part.owns(int(key) // self.per_shard)

    def _range(self, number: int) -> range:
        first = number * self.per_shard
        return range(first, min(first + self.per_shard, self.count))

    def _is_sealed(self, number: int) -> bool:
        return (self.result / index_name(number)).is_file()

    def _seal_if_complete(self, number: int) -> None:
        if number in self._shards:
            return
        keys = [self.key(place) for place in self._range(number)]
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
