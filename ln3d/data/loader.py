"""Batches in step order, made in this process or ahead of time by others."""

import signal
from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ln3d.errors import LN3DError

BatchOfStep = Callable[[int, int, range], dict[str, Tensor]]


class _Steps(Dataset[dict[str, Tensor] | LN3DError]):
    def __init__(self, batch: BatchOfStep, retries: int, samples: range) -> None:
        self.batch, self.retries, self.samples = batch, retries, samples

    def __getitem__(self, step: int) -> dict[str, Tensor] | LN3DError:
        try:
            return self.batch(step, self.retries, self.samples)
        except LN3DError as error:  # raised in a worker it would arrive as a traceback, without its hint
            return error


def batches(
    batch: BatchOfStep, steps: range, retries: int, samples: range, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of `steps` in order; the same for any number of `workers`."""
    loader = DataLoader(
        _Steps(batch, retries, samples),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_outlive_signals,
    )
    for made in loader:
        if isinstance(made, LN3DError):
            raise made
        yield made


def _outlive_signals(_worker: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach the whole process group, to the trainer: it finishes its step first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
