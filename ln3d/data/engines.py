"""Who draws objects: guarded processes of this machine, or of the nodes of a Ray cluster."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Protocol, Self

from ln3d.data.cluster import RayPool
from ln3d.data.drawing import DrawingOrder, ObjectTask, draw_object
from ln3d.data.workers import GuardedPool, Outcome
from ln3d.runtime import available_cores
from ln3d.talk import Talk


class Engine(Protocol):
    """Draws objects in any order and returns the same bytes as any other engine. No process outlives its block."""

    def __enter__(self) -> Self:
        """Return the engine."""

    def __exit__(self, *_: object) -> None:
        """Stop whatever is still drawn."""

    def run(self, tasks: Iterable[ObjectTask]) -> Iterator[Outcome]:
        """Yield the outcome of every task, in the order in which they end."""


def engine(order: DrawingOrder, workers: int | None, ray: str | None, talk: Talk) -> Engine:
    """Return who draws: `workers` processes of this machine, or on the Ray cluster at the address `ray`.

    By default it is a process per core. Raises RecipeError where Ray is asked for and not installed.
    """
    if ray is not None:
        return RayPool(order, workers, ray, talk)
    limits = order.limits
    return GuardedPool(partial(draw_object, order), workers or available_cores(), limits.seconds, limits.memory_bytes)
