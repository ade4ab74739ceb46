"""What a worker process does: one task after the other, within its limits, offline, and dead with its parent."""

import ctypes
import logging
import math
import os
import platform
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ln3d.data.reasons import fault_of_machine, one_line, out_of_memory
from ln3d.errors import LN3DError, MeshError

_OUT_OF_MEMORY = "needs more memory than dataset.limits.memory_bytes"

Make = Callable[[Any], bytes]
Answer = tuple[bytes | None, str, LN3DError | None]
"""The result; or the reason why a task has none; or what is wrong with the machine."""


def serve(pipe: Connection, make: Make, seconds: float, memory_bytes: int) -> None:
    """Be a worker: say that it is ready, then answer every task, until the pipe closes."""
    _behave()
    pipe.send((None, "ready", None))
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        _limit(seconds, memory_bytes)
        pipe.send(_attempt(make, task))


def _attempt(make: Make, task: Any) -> Answer:
    try:
        return make(task), "", None
    except MeshError as error:
        return None, one_line(error.message), None
    except Exception as error:  # whatever a broken file makes a reader do, the other objects go on
        if out_of_memory(error):
            return None, _OUT_OF_MEMORY, None
        fault = fault_of_machine(error)
        return None, "" if fault else one_line(f"{type(error).__name__}: {error}"), fault


def _behave() -> None:
    """Leave Ctrl-C to the parent, die with it and, where memory runs out, before it; keep its stdout clean."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        die_with_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    os.dup2(2, 1)
    sys.addaudithook(_stay_offline)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def _stay_offline(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what would fetch something; an audit hook (PEP 578) of this process, which cannot be taken off again."""
    away = event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
    if event == "socket.connect":
        away = arguments[0].family in (socket.AF_INET, socket.AF_INET6)
    if away:
        raise MeshError("reaches for the network", "Nothing is ever fetched; put the files beside the mesh.")


def _limit(seconds: float, growth: int) -> None:
    """Set the limits of one task, where the system can tell and enforce them.

    From here the address space may grow by `growth` bytes, and the processor may work for `seconds` on every core:
    the pool sees to the time, this is for when it is held up itself.
    """
    if platform.system() != "Linux":
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    cores = os.cpu_count() or 1
    _lower(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime + seconds * cores) + 1)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, size + growth)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(limit: int, value: int) -> None:
    """Set a limit of this process, as far as the one above it allows."""
    import resource

    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
