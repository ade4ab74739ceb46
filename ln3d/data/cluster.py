"""Drawing on a Ray cluster: a guarded process per core of any node; the results come to this process alone."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Self

from ln3d.data.cluster_connection import connect, reason_of
from ln3d.data.cluster_seat import Needs, Node, Seat, drawing_versions, needs_of
from ln3d.data.collections.entries import source_path
from ln3d.data.drawing import DrawingOrder, ObjectTask
from ln3d.data.reasons import AGAIN, one_line, plain
from ln3d.data.workers import Outcome
from ln3d.errors import LN3DError, RecipeError
from ln3d.talk import Talk

_MOST_LOSSES = 3
"""How often an object is begun whose node is lost each time: it may be what the nodes are lost to."""
_FAILED_STARTS = 3  # one after the other, without one between them that succeeds
_PATIENCE_S = 600.0  # for the first free core: some clusters start machines on demand


@dataclass
class _Place:
    """A `Seat` on some node, seen from here."""

    seat: Any
    failed_starts: int
    """How many starts had failed when this one was begun."""
    node: Node | None = None
    """None until it has begun."""
    task: ObjectTask | None = None
    losses: int = 0
    """How often the task was lost before."""


class RayPool:
    """As `ln3d.data.workers.GuardedPool`, on the nodes of a Ray cluster.

    Every place is an actor that owns a core and a guarded process, and has one object at a time, so that at most one
    result a place is under way and memory stays flat. An object whose node or actor is lost is begun again elsewhere;
    that is never a rejection, so the bytes are those that one machine gives. A node that would give others (it lacks
    the files, the renderer, or has another version of what draws) ends the run with an error.
    """

    def __init__(self, order: DrawingOrder, workers: int | None, address: str, talk: Talk) -> None:
        """Prepare; nothing is connected yet. `workers` is the number of places, by default the cluster's cores.

        `address` is `auto`, `local` or what `ray start --head` says. Raises RecipeError where Ray is not installed.
        """
        if find_spec("ray") is None:
            raise RecipeError("--ray needs the package ray", "Install it: pip install 'ln3d[ray]'")
        self._order, self._workers, self._address, self._talk = order, workers, address, talk
        self._ray: Any = None
        self._ours = False
        self._actor: Any = None
        self._needs = Needs()
        self._versions: dict[str, str] = {}
        self._waiting: deque[tuple[ObjectTask, int]] = deque()
        self._busy: dict[Any, _Place] = {}
        self._idle: list[_Place] = []
        self._failed_starts = 0
        self.drawn: Counter[str] = Counter()
        """How many outcomes came from each node, by its id."""

    def __enter__(self) -> Self:
        """Return the pool; it connects with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all places at once and leave the cluster."""
        for place in (*self._busy.values(), *self._idle):
            self._stop(place)
        self._busy, self._idle = {}, []
        if self._ours:
            self._ours = False
            self._ray.shutdown()

    def run(self, tasks: Iterable[ObjectTask]) -> Iterator[Outcome]:
        """Yield the outcome of every task, in the order in which they end.

        Raises:
            RecipeError: there is no cluster at the address, or the renderer cannot work here or on a node.
            LN3DError: a node does not see the meshes, cannot draw or would draw otherwise, none has a core to spare, an
                object was lost with its node too often, or the cluster fails.
        """
        self._waiting = deque((task, 0) for task in tasks)
        if not self._waiting:
            return
        self._needs = needs_of((task.entry for task, _ in self._waiting), self._order.renderer)
        self._versions = drawing_versions(self._needs)
        self._connect()
        try:
            for _ in range(min(self._count(), len(self._waiting))):
                self._open_place()
            while self._waiting or any(place.task is not None for place in self._busy.values()):
                outcome = self._hear(self._next())
                if outcome is not None:
                    yield outcome
        except self._ray.exceptions.RayError as error:
            raise LN3DError(f"the Ray cluster failed: {reason_of(error)}", AGAIN) from error

    def _connect(self) -> None:
        self._ray, self._ours = connect(self._address, self._workers)
        self._actor = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")(Seat)

    def _count(self) -> int:
        cores = int(self._ray.cluster_resources().get("CPU", 0))
        count = self._workers or max(1, cores)
        self._talk.say(f"drawing with {count} processes on a Ray cluster that has {cores} cores")
        return count

    def _open_place(self) -> None:
        place = _Place(self._actor.remote(self._order), self._failed_starts)
        settings = {name: value for name, value in os.environ.items() if name.startswith("LN3D_")}
        self._busy[place.seat.begin.remote(settings, self._needs)] = place

    def _next(self) -> Any:
        """Return the reference of what has ended next; the wait for a first place is limited."""
        while True:
            ended, _ = self._ray.wait(list(self._busy), timeout=_PATIENCE_S)
            if ended:
                return ended[0]
            if all(place.node is None for place in self._busy.values()):
                raise LN3DError(
                    f"no node of the Ray cluster had a core to spare for {_PATIENCE_S:g} s",
                    "`ray status` says what keeps them; " + AGAIN,
                )

    def _hear(self, reference: Any) -> Outcome | None:
        """Return the outcome of a task that has ended; None where something else has."""
        place = self._busy.pop(reference)
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # the node is well, the program on it is not
            raise _failure(place, error.cause) from error
        except self._ray.exceptions.RayError as error:
            self._lost(place, reason_of(error))
            return None
        if place.node is None:
            self._welcome(place, answer)
            return None
        task, place.task = place.task, None
        if task is None:  # it was idle and is still there
            self._occupy(place)
            return None
        if answer.unseen:
            raise LN3DError(
                f"{place.node.host} does not see {source_path(task.entry)}",
                "meshes must lie at the same path on every node, on a shared disk for instance",
            )
        self._occupy(place)  # before the caller sees the result, so that no place waits for it
        self.drawn[place.node.id] += 1
        return Outcome(task, answer.result, answer.reason)

    def _welcome(self, place: _Place, node: Node) -> None:
        if node.problem:
            raise RecipeError(f"{node.host}: {node.problem}", node.hint)
        other = _differences(self._versions, node.versions)
        if other:
            raise LN3DError(
                f"{node.host} would draw other bytes: it has {other}", "install the same versions on every node"
            )
        self._talk.detail(f"{node.host} is ready ({node.id[:8]})")
        self._failed_starts, place.node = 0, node
        self._occupy(place)

    def _occupy(self, place: _Place) -> None:
        """Give a place the next task, or let it wait: a task may come back."""
        if not self._waiting:
            self._idle.append(place)
            return
        place.task, place.losses = self._waiting.popleft()
        source = source_path(place.task.entry)
        seen = str(source) if source is not None and source.exists() else ""
        self._busy[place.seat.draw.remote(place.task, seen)] = place

    def _lost(self, place: _Place, reason: str) -> None:
        """Begin again elsewhere what was done at a lost place. Raises LN3DError where that happens too often."""
        self._stop(place)
        if place.node is None:
            self._count_failed_start(place, reason)
        elif place.task is not None:
            name, losses = place.task.entry.source_id, place.losses + 1
            if losses >= _MOST_LOSSES:
                raise LN3DError(
                    f"{name} was lost with its node {losses} times, the last time on {_host(place)}: {reason}",
                    f"see the logs of Ray on that node, lower dataset.limits.memory_bytes if memory ran out; {AGAIN}",
                )
            self._talk.detail(f"{name} is begun again, {_host(place)} was lost: {reason}")
            self._waiting.appendleft((place.task, losses))
        if self._waiting and self._idle:
            self._wake(self._idle.pop())
        elif self._waiting:
            self._open_place()

    def _count_failed_start(self, place: _Place, reason: str) -> None:
        """Count it, but not again those that were begun with it: one node may take many with it."""
        if place.failed_starts == self._failed_starts:
            self._failed_starts += 1
        if self._failed_starts >= _FAILED_STARTS:
            raise LN3DError(
                f"the render workers do not start on the Ray cluster: {reason}",
                "every node needs the same ln3d in the Python that Ray runs with",
            )

    def _wake(self, place: _Place) -> None:
        """Ask an idle place whether it is still there: its node may be gone, and no task is to be lost for that."""
        self._busy[place.seat.awake.remote()] = place

    def _stop(self, place: _Place) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(place.seat)


def _host(place: _Place) -> str:
    return "a node" if place.node is None else place.node.host


def _failure(place: _Place, cause: Exception) -> LN3DError:
    """Return the error that ends the run where the program on a node failed with `cause`."""
    where = f"drawing on {_host(place)} failed: "
    if isinstance(cause, LN3DError):
        return plain(cause, where)
    return LN3DError(f"{where}{one_line(str(cause))}", AGAIN)


def _differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Return the packages of another version, as `numpy 1.26.0 (here 2.4.0)`."""
    return ", ".join(
        f"{name} {theirs.get(name, 'none')} (here {own})" for name, own in ours.items() if theirs.get(name) != own
    )
