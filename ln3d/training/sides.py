"""Networks with an optimiser of their own: those that are trained, and the discriminators that some have to fool."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ln3d.config.training import TrainingConfig
from ln3d.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from ln3d.training.task import Contested


@dataclass
class Side:
    """Networks, their optimiser, and how it is used."""

    networks: nn.Module
    optimiser: torch.optim.Optimizer
    config: TrainingConfig

    def prepare(self, step: int) -> None:
        """Forget the last gradient, and set the learning rate of step `step`."""
        set_learning_rate(self.optimiser, learning_rate(step, self.config))
        self.optimiser.zero_grad(set_to_none=True)

    def clip(self) -> Tensor:
        """Return the norm of the gradient as it was before it is clipped."""
        return nn.utils.clip_grad_norm_(self.networks.parameters(), self.config.gradient_clip)


def opponents_of(task: object, device: torch.device) -> Side | None:
    """Return the discriminators of a task, on `device`; None where it has none."""
    if not isinstance(task, Contested) or task.discriminators is None:
        return None
    networks = task.discriminators.to(device).train()
    return Side(networks, build_optimiser(networks, task.discriminator_training), task.discriminator_training)
