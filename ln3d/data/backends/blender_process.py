"""Blender in a process of its own: a script that draws one job after the other, and dies with who started it.

Jobs and answers are lines of JSON through its standard input and output; arrays lie in a folder that both know. What
Blender prints goes into a file there, whose last line explains a crash.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ln3d.data.reasons import AGAIN
from ln3d.errors import MeshError, RecipeError

EXECUTABLE = "LN3D_BLENDER"
"""Environment variable: a Blender, or a Python that has `bpy`, in place of the Python that runs this."""
SCRIPT = Path(__file__).with_name("blender_script.py")

_START_S = 120.0
_PREFIX = "ln3d-blender-"
_FROM_OUTSIDE = (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9), -getattr(signal, "SIGHUP", 1))


class BlenderEnded(MeshError):
    """The process ended over a job; `from_outside` where someone else ended it, which says nothing about the job."""

    def __init__(self, message: str, from_outside: bool) -> None:
        super().__init__(message, "Draw the object with another dataset.renderer, or leave it out.")
        self.from_outside = from_outside


class BlenderNotStarted(RecipeError):
    """The process did not come to a job; `from_outside` where someone ended it, and it may be begun again."""

    def __init__(self, reason: str, from_outside: bool = False) -> None:
        super().__init__(f"Blender does not start: {reason}", _remedy(reason, from_outside))
        self.from_outside = from_outside


def command() -> list[str]:
    """Return what starts the script, without its argument; RecipeError where there is nothing that could."""
    named = os.environ.get(EXECUTABLE)
    if not named:
        if find_spec("bpy") is None:
            raise RecipeError(
                "dataset.renderer: blender needs the package bpy",
                f"Install it: pip install 'ln3d[blender]', or name a Blender in {EXECUTABLE}.",
            )
        return [sys.executable, str(SCRIPT)]
    executable = shutil.which(os.path.expanduser(named))
    if executable is None:
        raise RecipeError(
            f"{EXECUTABLE} names {named}, which is no program",
            "Name a Blender or a Python that has bpy, or unset it and: pip install 'ln3d[blender]'",
        )
    if _is_blender(executable):
        return [
            executable,
            "--background",
            "--factory-startup",
            "--python-exit-code",
            "1",
            "--python",
            str(SCRIPT),
            "--",
        ]
    return [executable, str(SCRIPT)]


def _is_blender(executable: str) -> bool:
    """Return whether a program is a Blender and not a Python: by its name, as both take scripts, but not alike."""
    return Path(executable).name.lower().startswith("blender")


def _remedy(reason: str, from_outside: bool) -> str:
    """Return what helps the program that was started: this Python, another one, a Blender, or what wraps one."""
    named = os.environ.get(EXECUTABLE)
    if from_outside:
        return f"something ended it, as the system does when memory runs out; {AGAIN}"
    if ".so" in reason:
        return (
            "Blender and bpy need libraries of a desktop: apt-get install libxrender1 libxkbcommon0 libsm6 libxi6 "
            "libxxf86vm1 libxfixes3 libgl1"
        )
    if not named:
        return f"see what this says: {sys.executable} -c 'import bpy'"
    if _is_blender(named):
        return f"see what this says: {named} --background --factory-startup --python-expr 'import bpy'"
    return (
        f"{EXECUTABLE} names {named}, which is run as a Python. If it is one, install bpy there; if it starts a "
        "Blender, give it a name that begins with blender."
    )


class BlenderProcess:
    """A process that draws; start it once and give it job after job. `version` is Blender's own."""

    def __init__(self) -> None:
        """Start and wait until it is ready; BlenderNotStarted where it does not come to that."""
        start = command()
        self.folder, self._lock = _scratch()
        self._log = self.folder / "log.txt"
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*start, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
        except OSError as error:
            self._remove_folder()
            raise BlenderNotStarted(f"{start[0]}: {error.strerror}") from error
        began = time.monotonic()
        patience = threading.Timer(_START_S, self._process.kill)
        patience.start()
        ready = self._answer()
        patience.cancel()
        if ready is None:
            said, late, code = self._last_words(), time.monotonic() - began >= _START_S, self._process.wait()
            self.close()
            raise BlenderNotStarted(
                f"{said} (after {_START_S:g} s)" if late else said, code in _FROM_OUTSIDE and not late
            )
        self.version = str(ready["version"])

    def draw(self, job: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return what the script sees of a job and its arrays (both as `blender.py` makes them).

        Raises:
            MeshError: with one line that says what went wrong. The process is not to be used again.
            BlenderEnded: the process ended meanwhile.
        """
        for old in self.folder.glob("*.npy"):
            old.unlink()
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", array, allow_pickle=False)
        self._ask(job)
        seen: NDArray[np.float32] = np.load(self.folder / "seen.npy", allow_pickle=False)
        return seen

    def _ask(self, job: dict[str, Any]) -> None:
        os.truncate(self._log, 0)
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: seen by the missing answer
            self._process.stdin.write(json.dumps({**job, "folder": str(self.folder), **_allowance()}).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._answer()
        if answer is None:
            code = self._process.wait()
            how = f" ({signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"
            raise BlenderEnded(f"Blender ended{how}: {self._last_words()}", code in _FROM_OUTSIDE)
        if answer["ln3d"] != "done":
            raise MeshError(f"Blender: {answer['reason']}", "Draw the object with another dataset.renderer.")

    def close(self) -> None:
        """End the process and remove its folder."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._remove_folder()

    def _remove_folder(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def _answer(self) -> dict[str, Any] | None:
        """Return the next line that is an answer (Blender may print others), None when the process has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"ln3d": '):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _scratch() -> tuple[Path, FileLock]:
    """Return a new folder and the lock that is held while it is in use; remove those whose process was killed.

    The lock is held before there is a folder, so a folder whose lock is free belongs to nobody any more.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{_PREFIX}*"):
        if left.is_dir():
            lock = _lock_of(left)
            with suppress(Timeout, OSError), lock.acquire(timeout=0):
                shutil.rmtree(left, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
    folder = place / f"{_PREFIX}{secrets.token_hex(8)}"
    lock = _lock_of(folder)
    lock.acquire()
    folder.mkdir(mode=0o700)
    return folder, lock


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _allowance() -> dict[str, float | int | None]:
    """Return how much processor time and address space this process may still take, None for any: so may the child."""
    if sys.platform != "linux":
        return {"seconds": None, "memory_bytes": None}
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    seconds, memory = (resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_CPU, resource.RLIMIT_AS))
    return {
        "seconds": None if seconds == resource.RLIM_INFINITY else seconds - usage.ru_utime - usage.ru_stime,
        "memory_bytes": None if memory == resource.RLIM_INFINITY else max(memory - size, 0),
    }
