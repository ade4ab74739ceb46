"""Batches made here or by others: the same, in order, and with errors one can act on."""

import os

import pytest
import torch
from torch import Tensor

from ln3d.data.loader import batches
from ln3d.errors import ArtifactError


def _batch(step: int, retries: int, samples: range) -> dict[str, Tensor]:
    if step == 9:
        raise ArtifactError("shard 9 is damaged", "render it again")
    return {
        "x": torch.tensor([step, retries, *samples]),
        "process": torch.tensor(os.getpid()),
        "nice": torch.tensor(os.nice(0)),
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_the_order_of_their_steps(workers: int) -> None:
    made = list(batches(_batch, range(3, 8), retries=2, samples=range(1, 4), workers=workers))
    assert [batch["x"].tolist() for batch in made] == [[step, 2, 1, 2, 3] for step in range(3, 8)]
    processes = {int(batch["process"]) for batch in made}
    assert len(processes) == max(workers, 1)
    assert (os.getpid() in processes) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_keep_their_message_and_their_hint(workers: int) -> None:
    source = batches(_batch, range(8, 10), retries=0, samples=range(1), workers=workers)
    assert next(source)["x"].tolist() == [8, 0, 0]
    with pytest.raises(ArtifactError, match="^shard 9 is damaged$") as error:
        next(source)
    assert error.value.hint == "render it again"


def test_workers_do_not_hear_what_is_said_to_the_group_and_leave_when_told() -> None:
    source = batches(_batch, range(10, 40), retries=0, samples=range(1), workers=1)
    worker = int(next(source)["process"])
    assert os.getpgid(worker) == worker != os.getpgrp()
    source.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_workers_give_way_to_the_trainer() -> None:
    made = [next(batches(_batch, range(1), retries=0, samples=range(1), workers=workers)) for workers in (0, 1)]
    assert [int(batch["nice"]) for batch in made] == [os.nice(0), min(os.nice(0) + 10, 19)]
