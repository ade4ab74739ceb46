"""Worker processes that may hang, crash or run out of memory without stopping the run."""

import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from ln3d.data.processor_use import processor_use
from ln3d.data.worker_process import Make, serve
from ln3d.errors import LN3DError

_START_S = 120.0
_FAILED_STARTS = 3  # without one between them that succeeds
_KILLED_START = 0.2  # of a failed one: it says less about the next
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGHUP")
_MOST_KILLS = 3
"""How often a task is begun whose worker is killed each time: someone may have done it, then the system, for memory."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")  # the last: Mesa


@dataclass(frozen=True)
class Outcome:
    """How one task ended: with `result`, or without it for the `reason`."""

    task: Any
    result: bytes | None
    reason: str = ""


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    deadline: float
    task: Any = None
    kills: int = 0
    """How many workers were killed over the task before."""
    processor: float = 0.0
    """Processor time at the start of the task, in seconds, its children's too."""
    ready: bool = False


class GuardedPool:
    """Spawned processes that apply `make` to tasks, one at a time each.

    `make` and the tasks are sent by pickle to processes of our own. A task that takes more than `seconds` or
    kills its process ends with a reason, and another process takes over; so does one that raises, that reaches for
    the network, or for which the process would have to grow by more than `memory_bytes` (on Linux). A process that is
    ready to go on but gets no core on a busy machine is given more time, so that results don't depend on the load;
    none gets more than `seconds` of processor time per core. What a process starts counts as its own. A task whose
    worker is killed from outside is begun again, and ends with a reason when that happens three times. A reason is one
    line. Use it as a context manager: no process outlives the block, nor this process.

    What is wrong with the machine is no outcome of a task and ends the run: an LN3DError that is no MeshError, a
    package that cannot be imported, a full disk.
    """

    def __init__(self, make: Make, workers: int, seconds: float, memory_bytes: int) -> None:
        """Prepare; no process starts yet."""
        self._make, self._count, self._seconds, self._memory = make, workers, seconds, memory_bytes
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[Any, int]] = deque()
        self._failed_starts = 0.0
        self._fault: LN3DError | None = None

    def __enter__(self) -> "GuardedPool":
        """Return the pool; processes start with the first tasks."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all processes at once."""
        for worker in self._workers:
            _stop(worker)
        self._workers = []

    def run(self, tasks: Iterable[Any]) -> Iterator[Outcome]:
        """Yield the outcome of every task, in the order in which they end. The processes stay for the next call.

        Raises LN3DError where the machine is at fault, once what has ended is yielded, or where no process starts.
        """
        self._waiting, self._fault = deque((task, 0) for task in tasks), None
        wanted = min(self._count, len(self._waiting))
        self._workers += [self._start() for _ in range(wanted - len(self._workers))]
        while self._waiting or any(worker.task is not None for worker in self._workers):
            self._hand_out()
            outcomes = self._listen()
            if self._fault is None:
                self._hand_out()  # before the caller sees the last results, so that workers never wait for it
            yield from outcomes
            if self._fault is not None:
                raise self._fault

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
        try:
            process = self._context.Process(
                target=serve, args=(there, self._make, self._seconds, self._memory), daemon=True
            )
            process.start()
        except BrokenPipeError:  # it was killed before it had read what it is to do
            here.close()
            there.close()
            self._count_failed_start(_KILLED_START)
            return self._start()
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
        there.close()
        return _Worker(process, here, time.monotonic() + _START_S)

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.ready and worker.task is None and self._waiting:
                self._send(worker, *self._waiting.popleft())

    def _send(self, worker: _Worker, task: Any, kills: int) -> None:
        worker.task, worker.kills, worker.deadline = task, kills, time.monotonic() + self._seconds
        worker.processor = processor_use(worker.process.pid)[0]
        try:
            worker.pipe.send(task)
        except OSError:  # it has died meanwhile: seen by `_listen`
            pass

    def _listen(self) -> list[Outcome]:
        """Wait until something happens; return the outcomes of tasks that ended."""
        nearest = min((w.deadline for w in self._workers), default=math.inf)
        wait([w.pipe for w in self._workers], timeout=max(0.0, min(nearest - time.monotonic(), 60.0)))
        outcomes = []
        for place, worker in enumerate(self._workers):
            outcome = self._hear(worker)
            if outcome is None:
                continue
            if outcome.task is not None:
                outcomes.append(outcome)
            if not worker.process.is_alive() or worker.pipe.closed:
                self._workers[place] = self._start()
        return outcomes

    def _hear(self, worker: _Worker) -> Outcome | None:
        """Return the outcome that a worker has just reported or suffered; None if there is none."""
        if not worker.pipe.poll():
            return self._too_late(worker) if time.monotonic() > worker.deadline else None
        try:
            result, reason, fault = worker.pipe.recv()
        except (EOFError, OSError):
            return self._died(worker)
        task, worker.task, worker.deadline = worker.task, None, math.inf
        if not worker.ready:
            worker.ready, self._failed_starts = True, 0
            return None
        if fault is not None:
            self._fault = self._fault or fault
            return None
        return Outcome(task, result, reason)

    def _too_late(self, worker: _Worker) -> Outcome | None:
        used, runnable = processor_use(worker.process.pid)
        left = (self._seconds if worker.ready else _START_S) - (used - worker.processor)
        if runnable and left > 0:
            worker.deadline = time.monotonic() + max(left, 0.02)
            return None
        _stop(worker)
        if not worker.ready:
            self._count_failed_start()
        return Outcome(worker.task, None, f"timed out after {self._seconds:g} s")

    def _died(self, worker: _Worker) -> Outcome:
        worker.process.join(5)
        code = worker.process.exitcode
        _stop(worker)
        name = _end_of_process(code)
        if not worker.ready:
            self._count_failed_start(_KILLED_START if name in _FROM_OUTSIDE else 1)
        if worker.task is not None and name in _FROM_OUTSIDE and worker.kills + 1 < _MOST_KILLS:
            self._waiting.append((worker.task, worker.kills + 1))
            return Outcome(None, None)
        return Outcome(worker.task, None, self._obituary(name))

    def _obituary(self, name: str) -> str:
        """Return the reason for a task whose worker ended as `_end_of_process` says."""
        if name == "SIGXCPU":
            return f"timed out after {self._seconds:g} s"
        if name == "SIGKILL":
            return "its worker was killed (SIGKILL), as the system does when memory runs out"
        return f"crashed its worker ({name})"

    def _count_failed_start(self, weight: float = 1) -> None:
        self._failed_starts += weight
        if self._failed_starts >= _FAILED_STARTS:
            raise LN3DError("the render workers do not start", "what they printed above tells why")


def _end_of_process(code: int | None) -> str:
    """Return what ended a process, from its exit code: minus the signal's number where it was one."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _stop(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
