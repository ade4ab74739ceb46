"""How this process becomes a driver of a Ray cluster, and what Ray says in one line."""

import logging
import os
from typing import Any

from ln3d.data.reasons import one_line
from ln3d.errors import RecipeError
from ln3d.runtime import available_cores

LOCAL = "local"


def connect(address: str, cores: int | None) -> tuple[Any, bool]:
    """Return the module `ray`, connected, and whether it was connected here; what another program connected is kept.

    `address` is `auto`, `local` or host:port; a local cluster has as many `cores`, by default those of this process.
    Raises RecipeError where there is no cluster.
    """
    import ray

    if ray.is_initialized():
        return ray, False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a local cluster of ours reports to nobody
    own = {"num_cpus": cores or available_cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,  # it would go to stdout
            **(own if address == LOCAL else {}),
        )
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise RecipeError(
            f"--ray {address}: {reason_of(error)}",
            f"start a cluster with `ray start --head` and name its address, or use --ray {LOCAL}",
        ) from error
    return ray, True


def reason_of(error: Exception) -> str:
    """Return what Ray says in many lines as one that is not too long, the end of it: a traceback stands before that."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__)
