"""What runs on a node of a Ray cluster: one guarded process that draws, and what the driver must know of the node."""

import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import ln3d
from ln3d.config.render import Renderer
from ln3d.data.backends.choice import check_renderer
from ln3d.data.collections.catalogue import CatalogueEntry, needs_renderer
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object
from ln3d.data.workers import GuardedPool
from ln3d.errors import LN3DError

_PACKAGES = ("numpy", "scipy", "pillow", "trimesh", "embreex")
_READERS = {"gobjaverse": "OpenEXR"}
"""Packages that only one kind of collection is read with."""


class Needs(NamedTuple):
    """What else than ln3d itself a node needs to have as the driver has it."""

    renderer: Renderer | None = None
    """None where no mesh is to be drawn."""
    readers: tuple[str, ...] = ()
    """Packages that files are read with."""


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

    def begin(self, environment: Mapping[str, str], needs: Needs) -> Node:
        """Take over the driver's variables, try the renderer, say what is here."""
        import ray

        os.environ.update(environment)
        vars(sys.modules["__main__"]).pop("__file__", None)  # else Ray's own program is run again in guarded processes
        here = ray.get_runtime_context().get_node_id()
        host = socket.gethostname()
        try:
            return Node(here, host, drawing_versions(needs))
        except LN3DError as error:
            return Node(here, host, {}, error.message, error.hint)

    def awake(self) -> None:
        """Do nothing: the answer says that the place is still there."""

    def draw(self, task: ObjectTask, source: str) -> Drawn:
        """Return how a task ended. `source` is the file or folder that it needs and the driver sees, or empty."""
        if source and not os.path.exists(source):
            return Drawn(None, unseen=True)
        (outcome,) = self._pool.run([task])
        return Drawn(outcome.result, outcome.reason)


def needs_of(entries: Iterable[CatalogueEntry], renderer: Renderer) -> Needs:
    """Return what a node needs to draw these objects."""
    kinds, drawn = set(), False
    for entry in entries:
        kinds.add(entry.load[0])
        drawn = drawn or needs_renderer(entry)
    readers = tuple(package for kind, package in _READERS.items() if kind in kinds)
    return Needs(renderer if drawn else None, readers)


def drawing_versions(needs: Needs) -> dict[str, str]:
    """Return the versions of what decides the bytes of a picture, `none` of packages that are not installed.

    Raises RecipeError where the renderer cannot work on this machine.
    """
    found = {"ln3d": ln3d.__version__}
    for package in (*_PACKAGES, *needs.readers):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found if needs.renderer is None else found | check_renderer(needs.renderer)
