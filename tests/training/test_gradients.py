"""The gradient of a batch is the same whether it is worked on in one piece or in several."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from vae_tasks import thin_lpips

from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.training.gradients import batch_gradient
from ln3d.training.parts import Part, own_parts
from ln3d.training.ranks import ALONE
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
STEP = 3  # in the middle of the tiny recipe's KL ramp
UNGUIDED = "vae.renderer.guided_fine=0"
IMAGE = ("vae.encoder.kind=image", "vae.encoder.resolution=8")
VIEWS = ("vae.supervision.kind=full", "vae.field.density_shift=-2")  # something covers the pixels from the start


def _gradient(
    shards: ShardSet, recipe: Recipe, passes: int, counted: bool = True
) -> tuple[float, dict[str, float], Tensor]:
    task = VaeTask(shards, range(7), [], recipe.vae, recipe.seed, perceptual=thin_lpips())
    batch = task.batch(STEP, 0, range(4))

    def loss_of(samples: dict[str, Tensor], part: Part) -> tuple[Tensor, dict[str, Tensor]]:
        return task.loss(samples, STEP, part)

    config = recipe.vae.training.model_copy(update={"accumulate": passes})
    parts = own_parts(config, ALONE)
    loss, figures = batch_gradient(loss_of, batch, parts, ALONE, task.networks, counted=counted)
    gradient = torch.cat([p.grad.reshape(-1) for p in task.networks.parameters() if p.grad is not None])
    return loss, {name: float(value) for name, value in figures.items()}, gradient


@pytest.mark.parametrize(
    ("term", "changes"),
    [
        ("depth", ("vae.renderer.guided_fine=4",)),
        ("colour", (UNGUIDED,)),  # second samples are drawn where the first ones found something
        ("colour", (UNGUIDED, "vae.renderer.search=true")),
        ("kl", IMAGE),
        ("depth", ("vae.losses.depth_kind=scale_invariant",)),
        ("smoothness", (*VIEWS, "vae.losses.smoothness=1")),
        ("lpips", (*VIEWS, "vae.losses.lpips=1")),
    ],
    ids=["guided", "coarse to fine", "search", "image", "scale-invariant depth", "smoothness", "lpips"],
)
def test_passes_add_up_to_the_whole(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, term: str, changes: tuple[str, ...]
) -> None:
    recipe = tiny_recipe("vae.training.batch=4", *changes)
    loss, figures, gradient = _gradient(tiny_shards, recipe, 1)
    assert figures[term] > 0
    for passes in (2, 4):
        again, others, other = _gradient(tiny_shards, recipe, passes)
        assert again == pytest.approx(loss, rel=1e-5)
        assert others == pytest.approx(figures, rel=1e-4)
        assert (other - gradient).norm() < 1e-4 * gradient.norm()


# Objects are hit by different numbers of rays: the mean of their means is another one.
@pytest.mark.parametrize(
    ("term", "changes"),
    [("depth", ()), ("surface", ()), ("smoothness", (*VIEWS, "vae.losses.smoothness=1"))],
    ids=["depth", "surface", "smoothness"],
)
def test_means_over_what_is_hit_need_the_sums_over_the_whole_batch(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, term: str, changes: tuple[str, ...]
) -> None:
    recipe = tiny_recipe("vae.training.batch=4", *changes)
    _, figures, gradient = _gradient(tiny_shards, recipe, 1)
    _, others, other = _gradient(tiny_shards, recipe, 4, counted=False)
    assert others["colour"] == pytest.approx(figures["colour"], rel=1e-4)
    assert others[term] != pytest.approx(figures[term], rel=1e-3)
    assert (other - gradient).norm() > 1e-3 * gradient.norm()
