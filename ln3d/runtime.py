"""The process we run in: device, threads, and the C allocator."""

import ctypes
import os
import platform
from typing import TYPE_CHECKING

from ln3d.errors import RecipeError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's mallopt parameters


def tune_allocator() -> bool:
    """Keep freed memory in the process; return whether that was done (Linux with glibc only).

    By default glibc maps every large activation afresh and returns it at once, so that a training
    step on a CPU spends most of its time in page faults. Call it before the first large tensor.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    done = [
        libc.mallopt(_M_MMAP_MAX, 0),
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
        libc.mallopt(_M_TOP_PAD, 256 << 20),
    ]
    return all(done)


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """Return this process's share of the cores, where several processes of one run are on this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def choose_device(name: str = "auto") -> "torch.device":
    """Return the torch device called `name`; `auto` is CUDA where there is one, else the CPU.

    Raises RecipeError for a name that torch does not know, and for a CUDA device that is not there.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise RecipeError(f"there is no device called {name!r}", "use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"torch sees {torch.cuda.device_count()} CUDA devices, not {name}", "use --device auto")
    return device
