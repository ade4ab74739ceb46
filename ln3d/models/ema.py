"""Exponential moving average of weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """A running average of a module's parameters; the average is what is published.

    The decay warms up as (1 + n) / (10 + n), so that a short training is not dominated by its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights after optimiser step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(module.named_parameters())
        names = list(self.weights)
        torch._foreach_lerp_([self.weights[n] for n in names], [parameters[n].detach() for n in names], 1 - decay)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the average from `weights`, which must name every parameter."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

    def copy_to(self, module: nn.Module) -> dict[str, Tensor]:
        """Return the module's state dict with its parameters replaced by the average."""
        state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        state.update({name: tensor.clone() for name, tensor in self.weights.items()})
        return state
