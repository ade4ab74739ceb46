"""The processes that share a run: what they do together, and what only the first of them does."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ln3d.errors import LN3DError, RecipeError
from ln3d.runtime import choose_device

_PATIENCE = timedelta(hours=3)  # the others wait while the first validates and publishes
_BUCKET = 1 << 24  # elements averaged at once
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # Open MPI, Intel MPI and MPICH, MVAPICH

_Thing = TypeVar("_Thing")


class MetTogether(SystemExit):
    """How a process leaves when an error ends all: the first one raises the error itself, and says it."""


@dataclass(frozen=True)
class Ranks:
    """Process number `index` of `count`; the first, number 0, is the one that writes and speaks.

    All processes must call the methods in the same order. With one process none of them does anything.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.index == 0

    def share(self, total: int, unit: int = 1) -> range:
        """Return this process's consecutive share of `total` things; the last processes may get fewer, or none.

        What is made `unit` at a time is not divided.
        """
        size = -(-total // (self.count * unit)) * unit
        return range(min(size * self.index, total), min(size * (self.index + 1), total))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the block on every process and wait until all are through it.

        An error that a user can meet, on any of them, ends all: the first process raises it, the others leave
        silently (`MetTogether`) with its exit code. Nothing in the block may wait for another process.
        """
        if self.count == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except (LN3DError, OSError) as caught:
            error = caught
        if not self.most(int(error is not None)):
            return
        errors: list[Exception | None] = [None] * self.count
        dist.all_gather_object(errors, error)
        met = next(error for error in errors if error is not None)
        if self.first:
            raise met
        raise MetTogether(getattr(met, "exit_code", LN3DError.exit_code))

    def most(self, number: int) -> int:
        """Return the largest `number` of all processes."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes, in which the tensor may lie in memory in different orders."""
        if self.count == 1:
            return tensor
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, which bring tensors of the same shapes."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, mean in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def joined(self, rows: Tensor, total: int) -> Tensor:
        """Return the rows of all processes, in order; each brings one for everything in its `share(total)`."""
        if self.count == 1:
            return rows
        size = -(-total // self.count)
        mine = rows.new_zeros((size, *rows.shape[1:]))
        mine[: len(rows)] = rows
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        dist.all_gather(parts, mine)
        return torch.cat(parts)[:total]

    def gathered(self, things: Iterable[_Thing]) -> list[_Thing]:
        """Return the things of all processes, in order: those of the first one's share, and so on.

        Arrays, texts and records of this run's own processes, by way of torch's pickling.
        """
        if self.count == 1:
            return list(things)
        parts: list[list[_Thing]] = [[] for _ in range(self.count)]
        dist.all_gather_object(parts, list(things))
        return [thing for part in parts for thing in part]

    def of_first(self, thing: _Thing) -> _Thing:
        """Return the `thing` of the first process, so that what follows from it is the same for all."""
        if self.count == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things)
        return things[0]


ALONE = Ranks()
"""A single process."""


@contextmanager
def join(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the other processes of this run for the length of the block; yield who this one is, and its device.

    `torchrun` and `accelerate launch` say in the environment how many there are. They talk through gloo, and on CUDA
    devices, of which each process gets its own, through NCCL. RecipeError for a device that is not there, and for a
    launcher that started several processes, or one in place of several, without saying so.
    """
    _refuse_silent_launchers()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size()), _own_device(device)
        return
    if count == 1:
        yield ALONE, choose_device(device)
        return
    chosen = _own_device(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    except ValueError as error:
        raise RecipeError(
            f"WORLD_SIZE is {count}, but this process cannot join the others: {error}",
            "start them with torchrun --nproc-per-node N -m ln3d ..., or unset WORLD_SIZE",
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), chosen
    finally:
        dist.destroy_process_group()


def _refuse_silent_launchers() -> None:
    """Refuse launchers under which this process would train alone though several were asked for.

    Without --multi_gpu, `accelerate launch --num_processes N` starts one process, which it tells where the others are
    and not that there are any; `mpirun` starts N that do not know of each other.
    """
    if "WORLD_SIZE" in os.environ:
        return
    one = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    by_mpi = max(int(os.environ.get(name, "1")) for name in _MPI_SIZES)
    if one or by_mpi > 1:
        what = "accelerate launch was asked for several processes and starts one" if one else f"mpirun starts {by_mpi}"
        raise RecipeError(
            f"{what}, which would train alone: WORLD_SIZE is not set",
            "start them with torchrun --nproc-per-node N -m ln3d ..., or accelerate launch --multi_gpu -m ln3d ...",
        )


def _own_device(name: str) -> torch.device:
    chosen = choose_device(name)
    if chosen.type != "cuda":
        return chosen
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > devices:
        raise RecipeError(
            f"{processes} processes on this machine need as many CUDA devices, and torch sees {devices}",
            f"start {devices} processes, or use --device cpu",
        )
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


def _buckets(tensors: Iterable[Tensor]) -> Iterator[Sequence[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(each.numel() for each in bucket) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket
