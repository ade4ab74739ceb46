"""What the training loop asks of what it trains."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ln3d.config.training import TrainingConfig
from ln3d.training.parts import Part


class Task(Protocol):
    """What is trained: networks, where their batches come from, and the loss of one.

    It may have discriminators as well (see `Contested`), which are trained beside its networks.
    """

    @property
    def networks(self) -> nn.Module:
        """What is trained."""

    @property
    def weighted(self) -> bool:
        """Whether its loss asks for `Part.denominator`."""

    def batch(self, step: int, retries: int, samples: range) -> dict[str, Tensor]:
        """Return the part `samples` of the batch of `step`: a pure function of its arguments and the seed.

        The samples are the first axis of every tensor.
        """

    def loss(self, batch: dict[str, Tensor], step: int, part: Part) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the figures worth logging, which are means like it, of a part of a batch."""

    def validate(self) -> dict[str, float]:
        """Return figures of the networks on data that is not trained on."""


@runtime_checkable
class Contested(Protocol):
    """A task that may have discriminators: its loss then has their gradient as well, though not their value."""

    discriminators: nn.Module | None
    discriminator_training: TrainingConfig
