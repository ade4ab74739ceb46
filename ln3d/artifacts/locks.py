"""One writer at a time: a file lock that knows who holds it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ln3d.errors import ArtifactError


@contextmanager
def hold(lock: Path, what: str) -> Iterator[None]:
    """Hold the lock file `lock`, or raise ArtifactError at once: "`what` is being written by process N".

    The system frees the lock when a process dies, however it dies, so no lock is ever stale.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = lock.with_name(f"{lock.name}.pid")
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ArtifactError(
            f"{what} is being written by process {_read(holder)}", "wait for it to end, or stop it, then run again"
        ) from None
    except OSError as error:
        raise ArtifactError(f"cannot write beside {what}: {error.strerror or error}", "choose another place") from error
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)  # while it is held: a lock taken on an unlinked file does not count
        held.release()


def _read(holder: Path) -> str:
    try:
        return holder.read_text().strip() or "?"
    except OSError:
        return "?"
