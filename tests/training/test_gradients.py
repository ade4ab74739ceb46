"""The gradient of a batch is the same whether it is worked on in one piece or in several."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.training.gradients import batch_gradient
from ln3d.training.parts import Part, own_parts
from ln3d.training.ranks import ALONE
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
STEP = 3  # in the middle of the tiny recipe's KL ramp


class _Distance(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, pictures: Tensor, references: Tensor) -> Tensor:
        return (pictures - references).square().mean(dim=(1, 2, 3)).sqrt()


def _gradient(
    shards: ShardSet, recipe: Recipe, passes: int, counted: bool = True
) -> tuple[float, dict[str, float], Tensor]:
    task = VaeTask(shards, range(7), [], recipe.vae, recipe.seed, _Distance() if recipe.vae.losses.lpips else None)
    batch = task.batch(STEP, 0, range(4))

    def loss_of(samples: dict[str, Tensor], part: Part) -> tuple[Tensor, dict[str, Tensor]]:
        return task.loss(samples, STEP, part)

    config = recipe.vae.training.model_copy(update={"accumulate": passes})
    parts = own_parts(config, ALONE)
    loss, figures = batch_gradient(loss_of, batch, parts, ALONE, task.networks, counted=counted)
    gradient = torch.cat([p.grad.reshape(-1) for p in task.networks.parameters() if p.grad is not None])
    return loss, {name: float(value) for name, value in figures.items()}, gradient


CROP = ("vae.supervision.kind=crop", "vae.supervision.crop=8")
# Without depth guidance the second samples are drawn where the first ones found something.
UNGUIDED = ("vae.renderer.guided_fine=0",)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        UNGUIDED,
        (*UNGUIDED, "vae.renderer.search=true"),
        ("vae.encoder.kind=image",),
        (*CROP, "vae.losses.smoothness=0.5"),
        (*CROP, "vae.losses.lpips=0.5"),
        ("vae.losses.depth_kind=scale_invariant", "vae.losses.depth_invariance=1"),
    ],
)
def test_passes_add_up_to_the_whole(tiny_shards: ShardSet, tiny_recipe: RecipeOf, changes: tuple[str, ...]) -> None:
    recipe = tiny_recipe("vae.training.batch=4", *changes)
    loss, figures, gradient = _gradient(tiny_shards, recipe, 1)
    for passes in (2, 4):
        again, others, other = _gradient(tiny_shards, recipe, passes)
        assert again == pytest.approx(loss, rel=1e-5)
        assert others == pytest.approx(figures, rel=1e-4)
        assert (other - gradient).norm() < 1e-4 * gradient.norm()


def test_means_over_what_is_hit_need_the_sums_over_the_whole_batch(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    recipe = tiny_recipe("vae.training.batch=4")
    _, figures, gradient = _gradient(tiny_shards, recipe, 1)
    _, others, other = _gradient(tiny_shards, recipe, 4, counted=False)
    assert others["colour"] == pytest.approx(figures["colour"], rel=1e-4)
    assert others["surface"] != pytest.approx(figures["surface"], rel=1e-3)
    assert (other - gradient).norm() > 1e-3 * gradient.norm()
