"""How much processor time a process and those that it started have used, and whether one of them wants more."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_STATE, _USER, _CHILDREN = 0, 11, 13  # fields 3, 14 and 16 of proc(5); 15 and 17 are the system's time for the same


def processor_use(process: int | None) -> tuple[float, bool]:
    """Return the processor time, in seconds, of a process and all below it, and whether a thread of them is runnable.

    The time of children that have ended counts too. Where the system cannot tell (it is not Linux, or the process is
    gone), that is (infinity, False).
    """
    place = Path(f"/proc/{process}")
    try:
        ticks, runnable = _use(place)
    except OSError:
        return math.inf, False
    for child in _below(place):
        with suppress(OSError):  # it has ended meanwhile: its parent counts it from now on
            more, runs = _use(child)
            ticks, runnable = ticks + more, runnable or runs
    return ticks / os.sysconf("SC_CLK_TCK"), runnable


def _use(process: Path) -> tuple[int, bool]:
    """Return the ticks of a process and its ended children, and whether one of its threads runs or waits for a core."""
    fields = _fields(process)
    return sum(map(int, fields[_USER : _CHILDREN + 2])), any(map(_is_runnable, _threads(process)))


def _is_runnable(thread: Path) -> bool:
    with suppress(OSError):  # it has ended meanwhile
        return _fields(thread)[_STATE] == "R"
    return False


def _fields(place: Path) -> list[str]:
    return (place / "stat").read_text().rpartition(")")[2].split()  # the name before it may hold anything


def _threads(process: Path) -> list[Path]:
    return list((process / "task").iterdir())


def _below(process: Path) -> Iterator[Path]:
    """Yield what a process started and what that started, as far as they live and the kernel tells."""
    with suppress(OSError):
        for thread in _threads(process):
            for child in (thread / "children").read_text().split():
                yield Path(f"/proc/{child}")
                yield from _below(Path(f"/proc/{child}"))
