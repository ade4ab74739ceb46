"""Shards at fsspec addresses: the same numbers as from a folder, piece by piece, in any process."""

import multiprocessing
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from ln3d.artifacts.remote import open_at
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data import fetched_objects
from ln3d.data.batches import VaeBatches
from ln3d.data.loader import batches
from ln3d.data.shard_files import index_name, parsed_index, shard_name
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError

RecipeOf = Callable[..., Recipe]


@dataclass
class Traffic:
    """What was read at an address: file, first byte and how many; None and all where it was read whole."""

    asked: list[tuple[str, int | None, int]] = field(default_factory=list)

    def of(self, name: str) -> list[tuple[int | None, int]]:
        return [(start, size) for path, start, size in self.asked if path == name]


@pytest.fixture
def address(tiny_run: Workspace) -> Iterator[str]:
    """Return the address of a copy of the tiny recipe's shards in this process' memory."""
    files = fsspec.filesystem("memory")
    for path in tiny_run.path("shards").iterdir():
        files.pipe_file(f"/remote/shards/{path.name}", path.read_bytes())
    yield "memory://remote/shards"
    files.rm("/remote", recursive=True)


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    traffic, cat_file = Traffic(), MemoryFileSystem.cat_file

    def counted(self: MemoryFileSystem, path: str, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = cat_file(self, path, start, end)
        traffic.asked.append((path.rpartition("/")[2], start, len(data)))
        return data

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    return traffic


def _opened(place: str | Path) -> ShardSet:
    return ShardSet(open_at(place, "shards"))


def _everything(shards: ShardSet) -> list[np.ndarray]:
    """Return all cameras and pictures, object by object."""
    found: list[np.ndarray] = []
    for i in range(len(shards)):
        found += [shards.camera_to_world(i), shards.intrinsics(i)]
        for v in range(shards.views):
            found += [shards.colour(i, v), shards.depth(i, v), shards.normal(i, v)]
    return found


def test_everything_is_the_same_and_an_object_is_one_request(
    tiny_shards: ShardSet, address: str, traffic: Traffic
) -> None:
    shards = _opened(address)
    assert shards.artifact.id == tiny_shards.artifact.id
    assert (shards.objects, shards.rejected) == (tiny_shards.objects, tiny_shards.rejected)
    assert (shards.views, shards.resolution) == (tiny_shards.views, tiny_shards.resolution)
    assert traffic.asked == [(name, None, size) for name, _, size in traffic.asked]  # whole, as they are hashed
    assert [name for name, _, _ in traffic.asked] == ["manifest.json", "catalogue.json"]
    for mine, theirs in zip(_everything(shards), _everything(tiny_shards), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for number in range(3):
        index = parsed_index(tiny_shards.artifact.verified(index_name(number)))
        assert len(traffic.of(index_name(number))) == 1
        pieces = traffic.of(shard_name(number))
        assert len(pieces) == len({name.partition(".")[0] for name in index})
        assert sum(size for _, size in pieces) < tiny_shards.artifact.manifest.files[shard_name(number)].bytes
        for name, (offset, length, _) in index.items():
            assert sum(start <= offset and offset + length <= start + size for start, size in pieces) == 1, name


def test_one_view_of_one_object_brings_no_other_object(address: str, traffic: Traffic) -> None:
    shards = _opened(address)
    shards.colour(5, 2)
    assert [name for name, _, _ in traffic.asked[2:]] == [index_name(1), shard_name(1)]
    ((_, size),) = traffic.of(shard_name(1))
    assert size < shards.artifact.manifest.files[shard_name(1)].bytes / 3
    before = len(traffic.asked)
    shards.depth(5, 0), shards.normal(5, 5), shards.camera_to_world(5)
    assert len(traffic.asked) == before
    shards.close()
    shards.depth(5, 0)
    assert len(traffic.asked) == before + 1


def test_of_a_large_object_only_the_members_that_are_needed_come(
    tiny_shards: ShardSet, address: str, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetched_objects, "_LARGEST_RUN", 1000)
    shards = _opened(address)
    np.testing.assert_array_equal(shards.normal(1, 3), tiny_shards.normal(1, 3))
    index = parsed_index(shards.artifact.verified(index_name(0)))
    offset, length, _ = index["00001.003.normal.png"]
    assert traffic.of(shard_name(0)) == [(offset, length)]


def test_memory_stays_bounded(address: str, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched_objects, "_KEPT", 2)
    shards = _opened(address)
    for i in (0, 1, 2, 1, 2, 0, 2):  # 0 was dropped when 2 came, and 1 when 0 came back
        shards.colour(i, 0)
    assert len(traffic.of(shard_name(0))) == 4


@pytest.mark.parametrize("member", ["00002.001.depth.png", "00002.cameras.json"])
def test_a_flipped_byte_is_a_named_error(address: str, tiny_shards: ShardSet, member: str) -> None:
    shards, files = _opened(address), fsspec.filesystem("memory")
    offset, length, _ = parsed_index(shards.artifact.verified(index_name(0)))[member]
    data = bytearray(files.cat_file(f"/remote/shards/{shard_name(0)}"))
    data[offset + length // 2] ^= 4
    files.pipe_file(f"/remote/shards/{shard_name(0)}", bytes(data))
    with pytest.raises(ArtifactError, match=rf"^{address}/shard-00000\.tar: {member} is damaged$") as caught:
        shards.depth(2, 1), shards.camera_to_world(2)
    assert "copy the whole folder there again" in caught.value.hint
    np.testing.assert_array_equal(shards.normal(2, 1), tiny_shards.normal(2, 1))


@pytest.mark.parametrize("name", ["catalogue.json", index_name(0)])
def test_a_changed_catalogue_and_a_changed_index_are_named_errors(address: str, name: str) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file(f"/remote/shards/{name}", files.cat_file(f"/remote/shards/{name}").replace(b"0", b"1", 1))
    with pytest.raises(ArtifactError, match=f"^{address}/{name} is damaged"):
        _opened(address).colour(0, 0)


def test_a_shard_that_goes_missing_is_a_named_error(address: str) -> None:
    shards = _opened(address)
    fsspec.filesystem("memory").rm_file(f"/remote/shards/{shard_name(0)}")
    with pytest.raises(ArtifactError, match=f"^{address}/{shard_name(0)} is missing"):
        shards.colour(0, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_folder(
    tiny_run: Workspace, address: str, tiny_recipe: RecipeOf, workers: int
) -> None:
    config, folder = tiny_recipe().vae, tiny_run.path("shards")
    remote = f"file://{folder}" if workers else address  # memory is this process' alone
    mine, theirs = (
        batches(VaeBatches(_opened(place), range(9), config, 3), range(4), 0, range(2), count)
        for place, count in ((remote, workers), (folder, 0))
    )
    for one, other in zip(mine, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, values in other.items():
            torch.testing.assert_close(one[name], values, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("kind", ["file", "zip"])
def test_it_travels_to_other_processes(
    tiny_run: Workspace, tiny_shards: ShardSet, tmp_path: Path, kind: str, method: str
) -> None:
    """With a connection open here: a process that comes after must not share it."""
    folder = tiny_run.path("shards")
    place = f"file://{folder}"
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"shards/{path.name}")
        place = f"zip://shards::file://{tmp_path}/a.zip"
    shards = _opened(place)
    shards.colour(0, 0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        for colour in pool.starmap(ShardSet.colour, [(shards, 1, view) for view in (0, 1, 1, 1)], chunksize=1)[1:]:
            np.testing.assert_array_equal(colour, tiny_shards.colour(1, 1))
