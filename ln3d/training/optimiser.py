"""AdamW or Muon with a warm-up and a cosine, and their state as named tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ln3d.config.problems import did_you_mean
from ln3d.config.training import TrainingConfig
from ln3d.errors import RecipeError
from ln3d.training.muon import Groups, Muon, matrices_of
from ln3d.training.ranks import ALONE, Ranks


def build_optimiser(networks: nn.Module, config: TrainingConfig, ranks: Ranks = ALONE) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019), or Muon and AdamW for what is not Muon's.

    Decays what has two or more axes: no biases, norms and vectors. Sub-networks may have a rate and a decay of their
    own. `ranks` are the processes that share Muon's work. RecipeError as `check_parts`.
    """
    check_parts(networks, config)
    matrices = muon_matrices(networks, config)
    learning = {name: parameter for name, parameter in networks.named_parameters() if parameter.requires_grad}
    rest = {name: parameter for name, parameter in learning.items() if name not in matrices}
    adamw = torch.optim.AdamW(_groups(rest, config), lr=config.learning_rate, betas=config.betas, fused=True)
    if not matrices:
        return adamw
    return Muon(_groups(matrices, config, config.muon_factor), adamw, config.precision, ranks)


def muon_matrices(networks: nn.Module, config: TrainingConfig) -> dict[str, nn.Parameter]:
    """Return by name what Muon updates in a training under `config`: nothing where AdamW has all."""
    matrices = matrices_of(networks) if config.optimiser == "muon" else {}
    return {name: parameter for name, parameter in matrices.items() if parameter.requires_grad}


def _groups(parameters: Mapping[str, nn.Parameter], config: TrainingConfig, factor: float = 1.0) -> Groups:
    """Return `parameters` in groups of the same rate, all times `factor`, and the same decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        part = name.partition(".")[0]
        decay = config.weight_decays.get(part, config.weight_decay) if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor * config.learning_rates.get(part, 1.0), decay), []).append(parameter)
    return [{"params": held, "factor": rate, "weight_decay": decay} for (rate, decay), held in groups.items()]


def check_parts(networks: nn.Module, config: TrainingConfig) -> None:
    """Raise RecipeError, with the nearest name, where the recipe has a value for a part of `networks` there is not."""
    parts = [name for name, _ in networks.named_children()]
    for value in ("learning_rates", "weight_decays"):
        unknown = [name for name in getattr(config, value) if name not in parts]
        if unknown:
            raise RecipeError(
                f"training.{value}: there is no sub-network {unknown[0]!r}{did_you_mean(unknown[0], parts)}",
                f"the sub-networks are {', '.join(parts)}",
            )


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
    """Put back what `optimiser_tensors` returned, beside its parameters."""
    parameters = dict(networks.named_parameters())
    optimiser.state.clear()
    for full_name, tensor in tensors.items():
        name, quantity = full_name.rsplit("/", 1)
        parameter = parameters[name]
        optimiser.state[parameter][quantity] = tensor.to(parameter.device, copy=True)
