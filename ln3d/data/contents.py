"""What is in a folder, as one hash: for telling whether meshes changed since they were drawn."""

import hashlib
from pathlib import Path

from ln3d.errors import MeshError


def folder_digest(folder: Path) -> str:
    """Return a hash of the names and bytes of all files below `folder`, hidden ones left out.

    Links that lead out of the folder are not followed. Raises MeshError where a file cannot be read.
    """
    digest, root = hashlib.sha256(), folder.resolve()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            continue
        if path.is_file() and path.resolve().is_relative_to(root):
            digest.update(f"{name}\0".encode() + _file_digest(path))
    return digest.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise MeshError(f"{path}: cannot be read: {error.strerror}", "change its permissions or remove it") from error
