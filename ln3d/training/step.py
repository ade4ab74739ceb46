"""One step of any training: the gradient of a batch, clipped; an update on every side; the moving average."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ln3d.config.training import TrainingConfig
from ln3d.models.ema import Ema
from ln3d.training.checkpoint import State
from ln3d.training.gradients import batch_gradient
from ln3d.training.optimiser import build_optimiser
from ln3d.training.parts import Part
from ln3d.training.precision import autocast
from ln3d.training.ranks import ALONE, Ranks
from ln3d.training.sides import Side, opponents_of
from ln3d.training.task import Task


def fresh_state(
    task: Task, config: TrainingConfig, device: torch.device, metrics: Path | None, ranks: Ranks = ALONE
) -> State:
    """Return the state of a training before its first step, its networks on `device` and in training mode.

    `metrics` is the file that metrics are written to, `ranks` the processes that share the training. RecipeError for
    sub-networks that there are not.
    """
    networks = task.networks.to(device).train()
    optimiser = build_optimiser(networks, config, ranks)
    return State(networks, Ema(networks, config.ema), optimiser, metrics, opponents_of(task, device))


def take_step(
    task: Task, config: TrainingConfig, state: State, batch: dict[str, Tensor], parts: Sequence[range], ranks: Ranks
) -> tuple[float, dict[str, Tensor]]:
    """Take the step that `state` is at on this process's `parts` of its batch; return the loss and its figures.

    Raises FloatingPointError, with all weights as they were, where the loss or a gradient is not finite.
    """
    device = next(iter(batch.values())).device

    def loss_of(samples: dict[str, Tensor], part: Part) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast(device, config.precision):
            return task.loss(samples, state.step, part)

    sides = [Side(state.networks, state.optimiser, config)]
    if state.opponents is not None:
        sides.append(state.opponents)
    for side in sides:
        side.prepare(state.step)
    everything = nn.ModuleList(side.networks for side in sides)
    loss, figures = batch_gradient(loss_of, batch, parts, ranks, everything, counted=task.weighted)
    norms = [side.clip() for side in sides]
    if not all(math.isfinite(value) for value in (loss, *map(float, norms))):
        raise FloatingPointError(f"the loss or its gradient was not finite at step {state.step}")
    for side in sides:  # what discriminators learn from is the same before and after the networks' step
        side.optimiser.step()
    state.ema.update(state.networks, state.step)
    state.step += 1
    return loss, figures | dict(zip(("gradient", "discriminator_gradient"), norms, strict=False))
