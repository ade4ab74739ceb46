"""Muon: the updates of matrices made orthogonal, beside AdamW for everything else."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ln3d.config.training import Precision
from ln3d.training.precision import autocast
from ln3d.training.ranks import ALONE, Ranks

MOMENTUM = 0.95
ROOT_MEAN_SQUARE = 0.2
"""Of an update per unit of learning rate; AdamW's lie at 0.2 to 0.4 (Liu et al. 2025, section 2.2)."""
NARROWEST = 24
"""Matrices with fewer rows or columns are what a network begins and ends with, in the main, and AdamW's."""
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # takes singular values from 0.003 up to between 0.68 and 1.14 in five iterations

Groups = Sequence[dict[str, Any]]


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024), in the form that keeps AdamW's learning rates (Liu et al. 2025, arXiv 2502.16982).

    `matrices` are groups of parameters with two or more axes; all but the first of a convolution's are one. `adamw`
    has the rest, and its groups and state are seen here too, as if it were one optimiser. Each process of `ranks`
    orthogonalises its share of the updates, and every process makes all of them: same bits for any number.

    Not `torch.optim.Muon`, which takes no convolutions, does the work of all processes in each, and multiplies in
    bf16 also where a processor has to imitate it.
    """

    def __init__(self, matrices: Groups, adamw: torch.optim.AdamW, precision: Precision, ranks: Ranks = ALONE) -> None:
        super().__init__(matrices, {"lr": adamw.defaults["lr"]})
        self.matrices = list(self.param_groups)
        self.adamw = adamw
        self.precision = precision
        self.ranks = ranks
        self.param_groups += adamw.param_groups
        adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        self.adamw.step()
        moved = [(p, group) for group in self.matrices for p in group["params"] if p.grad is not None]
        moved.sort(key=lambda pair: -pair[0].numel())  # what is shared out at a time takes about as long
        for start in range(0, len(moved), self.ranks.count):
            self._update(moved[start : start + self.ranks.count])

    def _update(self, moved: Sequence[tuple[nn.Parameter, Mapping[str, Any]]]) -> None:
        """Update as many matrices as there are processes, each of which orthogonalises one."""
        directions = [self._direction(parameter) for parameter, _ in moved]
        if self.ranks.index < len(moved):
            own = directions[self.ranks.index]
            with autocast(own.device, self.precision):
                own = orthogonalised(own)
        for owner, (parameter, group) in enumerate(moved):
            update = self.ranks.sum(own if owner == self.ranks.index else torch.zeros_like(directions[owner]))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            size = ROOT_MEAN_SQUARE * max(update.shape) ** 0.5
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        """Return the gradient with Nesterov's momentum, as a matrix with a row for every output."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(mean, MOMENTUM).flatten(1)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about the orthogonal matrix nearest to `matrix`: singular values between 0.6 and 1.2 instead of its own.

    Five of Newton and Schulz's iterations with Jordan's coefficients; those that are near zero stay below.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    a, b, c = _QUINTIC
    result = matrix / (matrix.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        square = result @ result.T
        result = a * result + (b * square + c * square @ square) @ result
    return result


def matrices_of(networks: nn.Module) -> dict[str, nn.Parameter]:
    """Return what Muon updates, by name: weights of linear layers and convolutions that are not narrow."""
    wide = {
        id(module.weight)
        for module in networks.modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and min(module.weight.flatten(1).shape) >= NARROWEST
    }
    return {name: parameter for name, parameter in networks.named_parameters() if id(parameter) in wide}
