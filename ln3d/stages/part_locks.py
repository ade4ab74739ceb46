"""Which processes may draw and publish the shards of one workspace at the same time: parts yes, a part twice no."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ln3d.artifacts.workspace import Workspace
from ln3d.data.unfinished import WHOLE, Part
from ln3d.errors import ArtifactError

STAGE = "render-dataset"
_GRACE_S = 1.0  # two that begin at the same moment see each other looking
_PATIENCE_S, _PUBLISHING_S = 0.2, 3600.0


@contextmanager
def drawing_alone(workspace: Workspace, part: Part, all_drawn: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of a part while it draws.

    Raises ArtifactError where a process is at work that draws some of the same shards; one that is at work when
    `all_drawn` is true only publishes, and `publishing` waits for it.
    """
    with workspace.lock(_lock_name(part)):
        deadline = time.monotonic() + _GRACE_S
        while not all_drawn():
            try:
                _check_alone(workspace, part)
                break
            except ArtifactError:
                if time.monotonic() >= deadline and not all_drawn():
                    raise
                time.sleep(_PATIENCE_S)
        yield


@contextmanager
def publishing(workspace: Workspace, part: Part) -> Iterator[None]:
    """Hold the lock of the whole rendering. A part waits its turn, as several may end at once.

    Raises ArtifactError where another process draws or publishes; for a part, where that takes more than an hour.
    """
    deadline = time.monotonic() + (_PUBLISHING_S if part != WHOLE else _GRACE_S)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(workspace.lock(STAGE))
                break
            except ArtifactError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PATIENCE_S)
        if part == WHOLE:
            _check_alone(workspace, WHOLE)
        yield


def _lock_name(part: Part) -> str:
    return STAGE if part == WHOLE else f"{STAGE}.{part.index}-of-{part.count}"


def _check_alone(workspace: Workspace, part: Part) -> None:
    """Raise ArtifactError where a process is at work that draws some of the same shards. One's own lock is held."""
    for path in sorted((workspace.root / ".locks").glob(f"{STAGE}*")):
        another = path.name != _lock_name(part) and path.suffix != ".pid"
        shares = part == WHOLE or not path.name.endswith(f"-of-{part.count}")
        if another and shares:
            with workspace.lock(path.name):
                pass
