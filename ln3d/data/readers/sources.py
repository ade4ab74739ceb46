"""Where mesh files come from: a folder or a zip archive, neither of which can be left."""

import lzma
import os
import posixpath
import stat
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_size
from ln3d.errors import MeshError


class Source(Protocol):
    """Reads files by name; names are relative to the source, with forward slashes."""

    label: str

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name."""
        ...

    def read(self, name: str) -> bytes:
        """Return a file's bytes; MeshError when it is missing, outside, or too large."""
        ...


def joined(base: str, reference: str, label: str) -> str:
    """Return the name that `reference`, written in a file of the folder `base`, stands for.

    Raises:
        MeshError: the reference is a URL, an absolute path, or climbs out of the source.
    """
    text = unquote(reference).replace("\\", "/").strip()
    scheme, colon, _ = text.partition(":")
    if colon and scheme.replace("+", "").isalnum() and "/" not in scheme:
        raise MeshError(f"{label}: refers to {reference!r}", "Nothing outside the mesh's folder is ever read.")
    name = posixpath.normpath(posixpath.join(base, text))
    if text.startswith("/") or name.startswith("..") or "\0" in name:
        raise MeshError(
            f"{label}: refers to {reference!r}, outside the mesh's folder",
            "Put the material and texture files beside the mesh.",
        )
    return name


def located(source: Source, folder: str, reference: str, *, lenient: bool) -> str | None:
    """Return the name of the file meant by `reference`, written in a file of `folder`; None when there is none.

    Args:
        source: where the file must be.
        folder: folder of the file that holds the reference.
        reference: as written there.
        lenient: look for a file of the same base name beside the mesh instead of refusing a reference that
            leads outside; for packages whose authors left paths of their own machines in their files.

    Raises:
        MeshError: the reference leads outside, and `lenient` is not set.
    """
    label = f"{source.label}/{folder}"
    try:
        name = joined(folder, reference, label)
    except MeshError:
        if not lenient:
            raise
        name = joined(folder, reference.replace("\\", "/").rsplit("/", 1)[-1], label)
    return name if source.has(name) else None


class FolderSource:
    """The files under one folder; links that lead out of it are refused."""

    def __init__(self, root: Path, limits: LimitsConfig) -> None:
        self.root = root.resolve()
        self.label = root.name
        self.limits = limits

    def name_of(self, path: Path) -> str:
        """Return the name of a file of this folder."""
        try:
            return path.resolve().relative_to(self.root).as_posix()
        except ValueError:
            raise MeshError(f"{path}: outside {self.root}", "Name a file inside the folder of the meshes.") from None

    def has(self, name: str) -> bool:
        """Return whether there is a file of that name, be it one that `read` refuses."""
        try:
            return not stat.S_ISDIR((self.root / name).stat().st_mode)
        except (OSError, ValueError):
            return False

    def read(self, name: str) -> bytes:
        """Return a file's bytes; MeshError when it is missing, outside, or too large."""
        path = (self.root / joined("", name, self.label)).resolve()
        if not path.is_relative_to(self.root):
            raise MeshError(f"{self.label}/{name}: leads outside the folder", "Replace the link by the file itself.")
        try:
            return _contents(path, self.limits.file_bytes, f"{self.label}/{name}")
        except (OSError, ValueError) as error:
            reason = ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()
            raise MeshError(f"{self.label}/{name}: cannot be read ({reason})", "Check the path.") from None


def _contents(path: Path, largest: int, label: str) -> bytes:
    """Return the bytes of a regular file; pipes and devices, which may never end, are not waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MeshError(f"{label}: not a regular file", "Replace the folder, pipe or device by the file itself.")
        check_size(status.st_size, largest, label)
        return file.read()


class ZipSource:
    """The members of a zip archive, read in place; one for each object, as it counts what was unpacked."""

    def __init__(self, path: Path, limits: LimitsConfig) -> None:
        self.path = path
        self.label = path.name
        self.limits = limits
        self.unpacked = 0

    def has(self, name: str) -> bool:
        """Return whether there is a member of that name."""
        return name in _members(self.path, os.getpid())[1]

    def names(self) -> list[str]:
        """Return every member's name, in sorted order."""
        return sorted(_members(self.path, os.getpid())[1])

    def read(self, name: str) -> bytes:
        """Return a member's bytes; MeshError when it is missing, damaged or too large."""
        archive, members = _members(self.path, os.getpid())
        info = members.get(joined("", name, self.label))
        if info is None:
            raise MeshError(f"{self.label}/{name}: no such member", "The archive is not the expected one.")
        check_size(info.file_size, self.limits.file_bytes, f"{self.label}/{name}")
        self.unpacked += info.file_size
        if self.unpacked > self.limits.archive_bytes:
            raise MeshError(
                f"{self.label}/{name}: with it {self.unpacked} bytes are unpacked for one object, "
                f"more than {self.limits.archive_bytes}",
                "Raise dataset.limits.archive_bytes to allow it.",
            )
        try:
            with archive.open(info) as member:  # read() of a size: what inflates to more than it says is not inflated
                return member.read(info.file_size)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
            raise MeshError(f"{self.label}/{name}: damaged ({error})", "Fetch the archive again.") from None


# One open archive per process: forked workers would share, and so move, each other's file position.
@lru_cache(maxsize=8)
def _members(path: Path, process: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise MeshError(f"{path}: not a readable zip archive ({error})", "Fetch the package again.") from None
    return archive, {info.filename: info for info in archive.infolist() if not info.is_dir()}


def folder_of(name: str) -> str:
    """Return the folder part of a name, empty at the top."""
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent
