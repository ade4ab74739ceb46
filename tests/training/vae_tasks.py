"""Stage 1's step on the tiny shards, ready to be taken, and a perceptual network for it that needs no file."""

import torch
from torch import nn

from ln3d.backbones.perceptual import Lpips
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.training.vae_step import VaeTask

STEP = 3
"""In the middle of the tiny recipe's KL ramp, and after its discriminators begin."""


def task_of(shards: ShardSet, recipe: Recipe, perceptual: nn.Module | None = None) -> VaeTask:
    """Return the task with the split of the shards, and with `perceptual` instead of LPIPS."""
    splits = [record.split for record in shards.objects]
    train, held_out = ([i for i, split in enumerate(splits) if (split == "train") == kept] for kept in (True, False))
    return VaeTask(shards, train, held_out, recipe.vae, recipe.seed, perceptual)


def losses_of(shards: ShardSet, recipe: Recipe, step: int = STEP) -> tuple[float, dict[str, float]]:
    """Return the loss of the first batch of two, and its terms."""
    task = task_of(shards, recipe)
    total, figures = task.loss(task.batch(0, 0, range(2)), step)
    return total.item(), {name: value.item() for name, value in figures.items()}


def thin_lpips(width: int = 5) -> Lpips:
    """Return LPIPS on a VGG whose layers are `width` channels wide and whose weights are drawn."""
    draw = torch.Generator().manual_seed(0)
    weights = {f"head.{number}": torch.rand(width, generator=draw) for number in range(5)}
    for number in range(13):
        inputs = width if number else 3
        weights[f"conv.{number}.weight"] = torch.randn(width, inputs, 3, 3, generator=draw) * (2 / (9 * inputs)) ** 0.5
        weights[f"conv.{number}.bias"] = torch.zeros(width)
    return Lpips("vgg", weights)
