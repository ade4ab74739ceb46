"""Opening the tables that describe a whole collection: captions, categories, splits, names."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ln3d.errors import RecipeError

LARGEST = 1_000_000_000  # bytes; the captions of ten million objects are smaller
MOST_CAPTIONS = 1000
"""Captions of one object; a table that has more of them is not one of captions."""


def check_inside(path: Path, root: Path) -> None:
    """Raise RecipeError where a file that was found in the folder `root` is a link that leads out of it."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise RecipeError(f"{path}: leads out of the folder", "Replace the link by the file itself.")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a table for reading.

    Raises:
        RecipeError: there is no such file, it is a pipe or device, which might never end, or it is too large.
    """
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecipeError(f"{path}: not a regular file", "Replace the folder, pipe or device by a file.")
            if status.st_size > LARGEST:
                raise RecipeError(f"{path}: {status.st_size} bytes, more than {LARGEST}", "Remove or shorten the file.")
            yield file
    except OSError as error:
        raise RecipeError(
            f"{path}: cannot be read: {error.strerror or error}", "Change its permissions or remove it."
        ) from None


def contents(path: Path, root: Path) -> bytes:
    """Return the bytes of a table in the folder `root`; RecipeError as `check_inside` and `opened` say."""
    check_inside(path, root)
    with opened(path) as file:
        return file.read()


def is_there(path: Path) -> bool:
    """Return whether a folder has an entry of that name, be it one that `opened` refuses."""
    return os.path.lexists(path)
