"""Who may draw beside whom, and who waits: no process fails because another one publishes, or just looks."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ln3d.artifacts.workspace import Workspace
from ln3d.data.unfinished import WHOLE, Part, all_sealed
from ln3d.errors import ArtifactError
from ln3d.stages import part_locks
from ln3d.stages.part_locks import drawing_alone, publishing

ONE = Part(1, 3)


@contextmanager
def held(workspace: Workspace, name: str, seconds: float) -> Iterator[None]:
    """Hold a lock in another thread, at least until `seconds` have passed within the block."""
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with workspace.lock(name):
            taken.set()
            leave.wait(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    try:
        yield
    finally:
        leave.set()
        thread.join()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(part_locks, "_PATIENCE_S", 0.01)
    return Workspace(tmp_path)


@pytest.mark.parametrize("name", ["render-dataset", "render-dataset.2-of-4"])
def test_a_part_is_kept_from_those_who_draw_the_same(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(part_locks, "_GRACE_S", 0.05)
    with held(workspace, name, 600), pytest.raises(ArtifactError, match="is being written by process"):
        with drawing_alone(workspace, ONE, lambda: False):
            raise AssertionError("two at work")
    with drawing_alone(workspace, ONE, lambda: False):
        pass


def test_a_moments_look_by_another_is_waited_for(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_locks, "_GRACE_S", 60)
    with held(workspace, "render-dataset", 0.2), drawing_alone(workspace, ONE, lambda: False):
        pass
    with held(workspace, "render-dataset", 0.2), publishing(workspace, WHOLE):
        pass


def test_who_has_nothing_to_draw_waits_for_the_one_who_publishes(workspace: Workspace) -> None:
    drawn: list[bool] = []
    start = time.monotonic()
    with held(workspace, "render-dataset", 0.3):
        with drawing_alone(workspace, ONE, lambda: True):
            drawn.append(True)
        with publishing(workspace, ONE):
            assert time.monotonic() - start >= 0.3
    assert drawn


def test_whoever_was_drawing_may_just_have_finished(workspace: Workspace) -> None:
    """All is drawn between one look and the next: from there on the other one only publishes."""
    looks = iter([False, False, True, True, True])
    with held(workspace, "render-dataset", 600), drawing_alone(workspace, ONE, lambda: next(looks)):
        pass


def test_the_whole_is_kept_from_parts(workspace: Workspace) -> None:
    with held(workspace, "render-dataset.1-of-3", 600), pytest.raises(ArtifactError, match="is being written"):
        with publishing(workspace, WHOLE):
            raise AssertionError("two at work")
    with held(workspace, "render-dataset.1-of-3", 600), publishing(workspace, Part(2, 3)):
        pass


def test_all_is_sealed_when_every_shard_has_its_index(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    for number in range(3):
        assert not all_sealed(tmp_path, 9, 4)
        (tmp_path / "result" / f"shard-{number:05d}.index.json").touch()
    assert all_sealed(tmp_path, 9, 4) and not all_sealed(tmp_path, 13, 4)
