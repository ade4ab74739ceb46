"""Batches in step order, made in this process or ahead of time by others."""

import os
import warnings
from collections.abc import Callable, Generator

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ln3d.errors import LN3DError

_NICENESS = 10

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
    batch: BatchOfStep, steps: range, retries: int, samples: range, workers: int, *, pinned: bool = False
) -> Generator[dict[str, Tensor], None, None]:
    """Yield the batches of `steps` in order; the same for any number of `workers`, who leave when it is closed.

    `pinned` puts them where a CUDA device can fetch them while the processor goes on.
    """
    # A recipe's number of workers may well exceed a machine's cores.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    loader = DataLoader(
        _Steps(batch, retries, samples),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pinned,
        worker_init_fn=_settle,
    )
    for made in loader:
        if isinstance(made, LN3DError):
            raise made
        yield made


def _settle(_worker: int) -> None:
    """Leave signals to the process group, such as Ctrl-C, to the trainer, and give way to it on the processors.

    The trainer still needs its batch to finish a step. Where several compute on the same cores, one that is held up by
    a loader holds up all of them, while batches are made ahead and can wait.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
