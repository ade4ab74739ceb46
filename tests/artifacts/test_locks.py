import multiprocessing
import os
from pathlib import Path

import pytest

from ln3d.artifacts.locks import hold
from ln3d.errors import ArtifactError


def contend(lock: Path, counter: Path, rounds: int) -> None:
    """Add to a counter in a file, unprotected but for the lock."""
    done = 0
    while done < rounds:
        try:
            with hold(lock, "counter"):
                value = int(counter.read_text())
                os.sched_yield()
                counter.write_text(str(value + 1))
                done += 1
        except ArtifactError:
            os.sched_yield()


def test_processes_never_hold_it_together(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=contend, args=(tmp_path / "lock", counter, 200)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counter.read_text() == "600"


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path / "deep" / "lock", "it"):
        raise ZeroDivisionError
    assert not list((tmp_path / "deep").iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ArtifactError, match="cannot write beside it"), hold(tmp_path / "lock", "it"):
        pass
