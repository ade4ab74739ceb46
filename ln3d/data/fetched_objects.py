"""Members of shards that lie elsewhere: those of an object come with one request."""

from typing import Any

from ln3d.artifacts.remote import RemoteArtifact
from ln3d.data.shard_files import Index

_LARGEST_RUN = 8_000_000  # bytes of an object that one request brings; of a larger object every member is requested
_KEPT = 16  # objects, the latest


class FetchedObjects:
    """Reads members of a remote `shards` artifact; those of an object lie together, and mostly several are needed.

    What it keeps is at most 16 objects of 8 MB each.
    """

    def __init__(self, artifact: RemoteArtifact) -> None:
        self._artifact = artifact
        self._runs: dict[tuple[str, str], tuple[int, bytes]] = {}

    def member(self, shard: str, key: str, index: Index, name: str) -> bytes:
        """Return the bytes, unchecked, of the member `name` of object `key` in a shard with this index.

        Raises ArtifactError where they cannot be read.
        """
        offset, length, _ = index[name]
        run = self._runs.get((shard, key))
        if run is None:
            start, stop = _extent(key, index)
            if stop - start > _LARGEST_RUN:
                return self._artifact.read(shard, offset, offset + length)
            run = start, self._artifact.read(shard, start, stop)
            while len(self._runs) >= _KEPT:
                del self._runs[next(iter(self._runs))]
            self._runs[shard, key] = run
        start, data = run
        return data[offset - start : offset - start + length]

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was fetched behind when sent to another process."""
        return {**self.__dict__, "_runs": {}}

    def forget(self) -> None:
        """Forget what was fetched."""
        self._runs = {}


def _extent(key: str, index: Index) -> tuple[int, int]:
    """Return where in its shard the first member of an object begins, and where its last one ends."""
    places = [(offset, offset + length) for name, (offset, length, _) in index.items() if name.startswith(f"{key}.")]
    return min(start for start, _ in places), max(stop for _, stop in places)
