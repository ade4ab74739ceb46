"""TensorBoard and Weights & Biases, where they are installed, through accelerate."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers

from ln3d.errors import RecipeError


class Tracker(Protocol):
    """What hears of every line of metrics.jsonl."""

    def log(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Take the figures of a step."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise RecipeError for trackers that are not installed."""
    missing = sorted(set(names) - {str(getattr(name, "value", name)) for name in get_available_trackers()})
    if missing:
        raise RecipeError(
            f"training.trackers: {' and '.join(missing)} not installed",
            f"pip install {' '.join(missing)}, or leave out training.trackers",
        )


@contextmanager
def open_trackers(names: Sequence[str], title: str, folder: Path) -> Iterator[list[Tracker]]:
    """Yield the trackers called `names`, which write to `folder`/`title` or their own place, and close them at the end.

    RecipeError as `check_trackers`.
    """
    if not names:
        yield []
        return
    check_trackers(names)
    accelerator = Accelerator(cpu=True, log_with=list(names), project_dir=folder)
    accelerator.init_trackers(title)
    try:
        yield list(accelerator.trackers)
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
