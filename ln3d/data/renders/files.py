"""Reading the small files of rendered sets, with errors that name the file."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ln3d.data.readers.sources import FolderSource
from ln3d.data.readers.textures import decode
from ln3d.errors import MeshError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def read_picture(source: FolderSource, name: str) -> UInt8[np.ndarray, "h w 4"]:
    """Return the RGBA pixels of a picture; MeshError where it is missing, damaged or too large."""
    return decode(source.read(name), source.limits, f"{source.label}/{name}").copy()


def read_json(source: FolderSource, name: str) -> dict[str, Any]:
    """Return the object in a JSON file; MeshError where it is missing, damaged or something else."""
    try:
        document = json.loads(source.read(name))
    except (ValueError, RecursionError) as error:
        raise MeshError(f"{source.label}/{name}: not JSON ({error})", "Export the file again.") from None
    if not isinstance(document, dict):
        raise MeshError(f"{source.label}/{name}: not a JSON object", "Export the file again.")
    return document


def numbers(value: Any, shape: tuple[int, ...], label: str) -> Float[np.ndarray, "..."]:
    """Return nested lists of numbers as an array of that shape; MeshError where they are something else."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.size != np.prod(shape) or not np.isfinite(array).all():
        raise MeshError(f"{label}: not {' x '.join(map(str, shape))} finite numbers", "Export the file again.")
    return array.reshape(shape)


def words_to_numbers(text: str, label: str) -> list[float]:
    """Return the numbers of a text; MeshError where a word is none."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise MeshError(f"{label}: a word that is not a number", "Export the file again.") from None


def on_white_mask(colour: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 4"]:
    """Return a picture with the coverage it has or, where all of it is opaque, with white taken for background."""
    if (colour[..., 3] < 255).any():
        return colour
    masked = colour.copy()
    masked[..., 3] = np.where((colour[..., :3] == 255).all(axis=-1), 0, 255)
    return masked


def sizes_digest(folder: Path) -> str:
    """Return a hash of the names and sizes of all files below `folder`: contents of terabytes are not read for it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()[:16]
