"""Steps of stage 1 on the tiny shards."""

from collections.abc import Callable

import pytest

from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.training.vae_step import VaeTask

STEP = 3  # in the middle of the tiny recipe's KL ramp


@pytest.fixture
def task_of(tiny_shards: ShardSet) -> Callable[[Recipe], VaeTask]:
    """Return the task of a recipe; what is not of the training split validates."""
    splits = [record.split for record in tiny_shards.objects]
    train, held_out = ([i for i, split in enumerate(splits) if (split == "train") == kept] for kept in (True, False))
    return lambda recipe: VaeTask(tiny_shards, train, held_out, recipe.vae, recipe.seed)


@pytest.fixture
def losses_of(task_of: Callable[[Recipe], VaeTask]) -> Callable[..., tuple[float, dict[str, float]]]:
    """Return the loss of the first two samples of a recipe at a step, and its terms."""

    def losses(recipe: Recipe, step: int = STEP) -> tuple[float, dict[str, float]]:
        task = task_of(recipe)
        total, figures = task.loss(task.batch(0, 0, range(2)), step)
        return total.item(), {name: value.item() for name, value in figures.items()}

    return losses
