"""Stage 1's step on the tiny shards, ready to be taken."""

from torch import nn

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
