"""What runs on a node of a Ray cluster: one guarded process that draws, and what the driver must know of the node."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import ln3d
from ln3d.config.render import Renderer
from ln3d.data.backends.choice import check_renderer
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object
from ln3d.data.workers import GuardedPool
from ln3d.errors import LN3DError

_PACKAGES = ("numpy", "scipy", "pillow", "trimesh", "embreex")


class Drawn(NamedTuple):
    """What became of a task: the fields of `ln3d.data.workers.Outcome`, or `unseen` where the node lacks its file."""

    result: bytes | None
    reason: str = ""
    unseen: bool = False


@dataclass(frozen=True)
class Node:
    """What a node says of itself: its id in the cluster, its host, what its pictures depend on, why it cannot draw."""

    id: str
    host: str
    versions: Mapping[str, str]
    problem: str = ""
    hint: str = ""


class Seat:
    """A guarded process on a node, which draws one object at a time. Ray makes it an actor."""

    def __init__(self, order: DrawingOrder) -> None:
        """Prepare; the process starts with the first task and ends with this one."""
        limits = order.limits
        self._pool = GuardedPool(partial(draw_object, order), 1, limits.seconds, limits.memory_bytes)

    def begin(self, environment: Mapping[str, str], renderer: Renderer | None) -> Node:
        """Take over the driver's variables, try the renderer (None: no mesh is to be drawn), say what is here."""
        import ray

        os.environ.update(environment)
        vars(sys.modules["__main__"]).pop("__file__", None)  # else Ray's own program is run again in guarded processes
        here = ray.get_runtime_context().get_node_id()
        return Node(here, socket.gethostname(), drawing_versions(), *_lacking(renderer))

    def draw(self, task: ObjectTask, source: str) -> Drawn:
        """Return how a task ended. `source` is the file or folder that it needs and the driver sees, or empty."""
        if source and not os.path.exists(source):
            return Drawn(None, unseen=True)
        (outcome,) = self._pool.run([task])
        return Drawn(outcome.result, outcome.reason)


def _lacking(renderer: Renderer | None) -> tuple[str, str]:
    """Return what the renderer lacks on this node, and the remedy; empty where it can work."""
    if renderer is not None:
        try:
            check_renderer(renderer)
        except LN3DError as error:
            return error.message, error.hint
    return "", ""


def drawing_versions() -> dict[str, str]:
    """Return the versions of what decides the bytes of a picture."""
    found = {"ln3d": ln3d.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found
