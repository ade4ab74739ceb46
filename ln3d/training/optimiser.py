"""AdamW with a warm-up and a cosine, and its state as named tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ln3d.config.training import TrainingConfig


def build_optimiser(networks: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) that decays what has two or more axes: no biases, norms and vectors."""
    named = [(name, p) for name, p in networks.named_parameters() if p.requires_grad]
    matrices = [p for _, p in named if p.ndim >= 2]
    others = [p for _, p in named if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of step `step` (from 0): linear warm-up, then a cosine down to its final share."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    progress = min(max(step - config.warmup, 0) / max(config.steps - config.warmup, 1), 1.0)
    low = config.final_learning_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate`."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def optimiser_tensors(optimiser: torch.optim.Optimizer, networks: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named <parameter>/<quantity>."""
    tensors = {}
    for name, parameter in networks.named_parameters():
        for quantity, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{name}/{quantity}"] = torch.as_tensor(value)
    return tensors


def load_optimiser(optimiser: torch.optim.Optimizer, networks: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` returned."""
    parameters = dict(networks.named_parameters())
    optimiser.state.clear()
    for full_name, tensor in tensors.items():
        name, quantity = full_name.rsplit("/", 1)
        optimiser.state[parameters[name]][quantity] = tensor.clone()
