"""Tar shards with an index: written so that equal content gives equal bytes, read at any place, checked by crc32."""

import io
import json
import os
import tarfile
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 512
Index = dict[str, tuple[int, int, int]]
"""Member name -> (offset of its bytes in the archive, length, crc32)."""


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.tar"


def index_name(number: int) -> str:
    """Return the file name of a shard's index."""
    return f"shard-{number:05d}.index.json"


def tar_blocks(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return members as a run of tar entries without the end mark, so that runs can be joined.

    Times, owners and modes are fixed: the bytes depend on names and contents alone.
    """
    out = bytearray()
    for name, data in members:
        header = tarfile.TarInfo(name)
        header.size, header.mode = len(data), 0o644
        out += header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)
    return bytes(out)


def index_of(blocks: bytes, start: int = 0) -> Index:
    """Return the index of a run of tar entries that begins `start` bytes into the shard.

    Raises tarfile.TarError where it is not one.
    """
    index: Index = {}
    with tarfile.open(fileobj=io.BytesIO(blocks + bytes(2 * _BLOCK)), mode="r:") as archive:
        for member in archive:
            data = blocks[member.offset_data : member.offset_data + member.size]
            index[member.name] = (start + member.offset_data, member.size, zlib.crc32(data))
    return index


def write_shard(folder: Path, number: int, runs: Iterable[bytes]) -> None:
    """Write a shard from the runs of its objects; the index is written last and tells that the shard is whole."""
    index: Index = {}
    path = folder / shard_name(number)
    with open(path, "wb") as file:
        for run in runs:
            index.update(index_of(run, file.tell()))
            file.write(run)
        file.write(bytes(2 * _BLOCK))
        file.flush()
        os.fsync(file.fileno())
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in index.items()]
    replace_file(folder / index_name(number), ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_index(path: Path) -> Index:
    """Return the index in the file `path`; ValueError where it is damaged."""
    return parsed_index(path.read_bytes())


def parsed_index(data: bytes) -> Index:
    """Return the index in the bytes of its file; ValueError where they are damaged."""
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("not an index")
    return {name: (int(offset), int(length), int(crc)) for name, (offset, length, crc) in document.items()}


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place whole or not at all, even when the machine stops.

    Processes on several machines may do so at once, where the last one wins: their scratch files never meet.
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(scratch, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
