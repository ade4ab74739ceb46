"""Moving a finished folder into place, and putting right what a killed process left half moved.

Names beside an artifact `x`: `.x.scratch-*` is one being written, `.x.previous` the one being replaced, `.x.lock`
the writer's lock.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

from ln3d.artifacts.locks import hold
from ln3d.errors import ArtifactError

_PATIENCE_S = 2.0


def lock_of(path: Path) -> Path:
    """Return the lock file of the artifact `path`."""
    return path.with_name(f".{path.name}.lock")


def new_scratch(path: Path) -> Path:
    """Return a new empty folder beside `path`."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.scratch-", dir=path.parent))
    mask = os.umask(0)
    os.umask(mask)
    scratch.chmod(0o777 & ~mask)  # mkdtemp's own mode would lock out the reader's group
    return scratch


def swap_in(scratch: Path, path: Path) -> None:
    """Rename `scratch` to `path`; at every moment either the old or the new artifact can be found."""
    previous = _previous(path)
    if path.exists():
        os.rename(path, previous)
    try:
        os.rename(scratch, path)
    except OSError:
        if previous.exists():
            os.rename(previous, path)
        raise
    flush_folder(path.parent)
    if previous.exists():
        shutil.rmtree(previous)


def put_right(path: Path) -> None:
    """Finish or undo what a killed process left beside `path`. The caller holds the lock: nobody is at work."""
    previous = _previous(path)
    if previous.exists():
        if path.exists():
            shutil.rmtree(previous)
        else:
            os.rename(previous, path)
    for neighbour in path.parent.iterdir():
        if neighbour.name.startswith(f".{path.name}.scratch-"):
            shutil.rmtree(neighbour, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back what a process killed while replacing `path` had moved aside; do nothing where `path` exists."""
    patience = time.monotonic() + _PATIENCE_S
    while not path.exists() and _previous(path).exists():
        try:
            with hold(lock_of(path), str(path)):
                put_right(path)
        except ArtifactError:  # a living process is between its two renames
            if time.monotonic() > patience:
                return
            time.sleep(0.05)


def flush_folder(folder: Path) -> None:
    """Make renames in `folder` and its list of names survive a power cut."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _previous(path: Path) -> Path:
    return path.with_name(f".{path.name}.previous")
