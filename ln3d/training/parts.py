"""A step's batch in equal parts: one for every process, each again in as many as are accumulated."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ln3d.config.training import TrainingConfig
from ln3d.errors import RecipeError
from ln3d.losses.reconstruction import at_least_one
from ln3d.seeding import generator
from ln3d.training.ranks import Ranks

Total = Callable[[str, Tensor], Tensor]
"""From a name and a part's sum to the sum over the whole batch."""


def _its_own(_name: str, weight: Tensor) -> Tensor:
    return weight


@dataclass(frozen=True)
class Part:
    """One of `parts` equal parts of a step's batch, beginning with the batch's sample `first`.

    The loss of the batch is the mean of the losses of its parts. A loss that is a mean over samples is so by itself;
    a weighted mean divides by `denominator`, and every sample has random numbers of its own, from `generators`.
    """

    first: int = 0
    parts: int = 1
    total: Total = _its_own

    def denominator(self, name: str) -> Callable[[Tensor], Tensor]:
        """Return the function from this part's sum of weights to what the weighted mean called `name` divides by."""
        return lambda weight: at_least_one(self.total(name, weight)) / self.parts

    def generators(self, seed: int, step: int, purpose: str, samples: int) -> list[torch.Generator]:
        """Return a CPU generator for each of the part's `samples`, the same ones however the batch is divided."""
        return [generator(seed, step, sample, purpose) for sample in range(self.first, self.first + samples)]


WHOLE = Part()
"""The batch in one piece."""


def own_parts(config: TrainingConfig, ranks: Ranks) -> list[range]:
    """Return the samples of every batch that this process works on, one range for each pass of an accumulated step.

    RecipeError where the batch cannot be cut into equal parts.
    """
    count = ranks.count * config.accumulate
    if config.batch % count:
        among = f"{ranks.count} processes" + (f" of {config.accumulate} passes each" if config.accumulate > 1 else "")
        raise RecipeError(
            f"training.batch: a batch of {config.batch} cannot be divided evenly among {among}",
            f"make it a multiple of {count}",
        )
    size, first = config.batch // count, ranks.index * config.accumulate
    return [range(size * part, size * (part + 1)) for part in range(first, first + config.accumulate)]
