"""AdamW with a warm-up and a cosine, and its state as named tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ln3d.config.problems import did_you_mean
from ln3d.config.training import TrainingConfig
from ln3d.errors import RecipeError


def build_optimiser(networks: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019) that decays what has two or more axes: no biases, norms and vectors.

    RecipeError as `learning_rate_factors`.
    """
    factors = learning_rate_factors(networks, config)
    named = [(name.partition(".")[0], p) for name, p in networks.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for part in (None, *factors):  # None: all that have the factor 1
        own = [p for name, p in named if (name if name in factors else None) == part]
        common = {"factor": 1.0 if part is None else factors[part]}
        groups.append({"params": [p for p in own if p.ndim >= 2], "weight_decay": config.weight_decay} | common)
        groups.append({"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0} | common)
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def learning_rate_factors(networks: nn.Module, config: TrainingConfig) -> dict[str, float]:
    """Return the factors on the learning rate of `networks`' parts by name, those that the recipe states.

    RecipeError, with the nearest name, for a part that there is not.
    """
    parts = [name for name, _ in networks.named_children()]
    unknown = [name for name in config.learning_rates if name not in parts]
    if unknown:
        raise RecipeError(
            f"training.learning_rates: there is no sub-network {unknown[0]!r}{did_you_mean(unknown[0], parts)}",
            f"the sub-networks are {', '.join(parts)}",
        )
    return dict(config.learning_rates)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of step `step` (from 0): linear warm-up, then a cosine down to its final share."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    progress = min(max(step - config.warmup, 0) / max(config.steps - config.warmup, 1), 1.0)
    low = config.final_learning_rate
    return config.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate`, times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def optimiser_tensors(optimiser: torch.optim.Optimizer, networks: nn.Module) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors named <parameter>/<quantity>."""
    tensors = {}
    for name, parameter in networks.named_parameters():
        for quantity, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{name}/{quantity}"] = torch.as_tensor(value)
    return tensors


def load_optimiser(optimiser: torch.optim.Optimizer, networks: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` returned: moments beside their parameters, counts of steps on the CPU."""
    parameters = dict(networks.named_parameters())
    optimiser.state.clear()
    for full_name, tensor in tensors.items():
        name, quantity = full_name.rsplit("/", 1)
        parameter = parameters[name]
        device = tensor.device if quantity == "step" else parameter.device
        optimiser.state[parameter][quantity] = tensor.to(device, copy=True)
