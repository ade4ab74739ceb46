"""Batches in step order, made in this process or ahead of time by others."""

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BatchOfStep = Callable[[int, int, range], dict[str, Tensor]]


class _Steps(Dataset[dict[str, Tensor]]):
    def __init__(self, batch: BatchOfStep, retries: int, samples: range) -> None:
        self.batch, self.retries, self.samples = batch, retries, samples

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return self.batch(step, self.retries, self.samples)


def batches(
    batch: BatchOfStep, steps: range, retries: int, samples: range, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Return the batches of `steps` in order; the same for any number of `workers`."""
    loader = DataLoader(
        _Steps(batch, retries, samples),
        batch_size=None,
        sampler=steps,  # type: ignore[arg-type]  # any sized iterable of indices serves
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)
