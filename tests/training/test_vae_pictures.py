"""Losses of stage 1 that compare pictures: what is supervised are whole views or crops of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vae_tasks import STEP

from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.training import vae_step
from ln3d.training.vae_losses import pictures_of
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
CROPS = ("vae.supervision.kind=crop", "vae.supervision.crop=8")


class Shift(nn.Module):
    """Stands for a perceptual network: how far each picture's mean colour is off, and what it was shown."""

    name, smallest = "alex", 8

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        self.shown = image, reference
        return (image - reference).mean(dim=(1, 2, 3)).abs()


def _picture_task(shards: ShardSet, recipe: Recipe) -> VaeTask:
    return VaeTask(shards, [0, 1, 2], [], recipe.vae, recipe.seed, perceptual=Shift())


@pytest.mark.parametrize(("kind", "side"), [("crop", 8), ("full", 16)])
def test_the_perceptual_loss_compares_the_crops_as_pictures(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, kind: str, side: int
) -> None:
    plain_colours = ("vae.augmentation.saturation=1", "vae.augmentation.permutation=0")
    recipe = tiny_recipe(*CROPS, f"vae.supervision.kind={kind}", "vae.losses.lpips=2", *plain_colours)
    task = _picture_task(tiny_shards, recipe)
    batch = task.batch(0, 0, range(2))
    total, terms = task.loss(batch, STEP)
    assert task.perceptual is not None
    drawn, truth = task.perceptual.shown
    assert drawn.shape == truth.shape == (2 * 3, 3, side, side)
    # Each is a window of a stored view, right way up: one input and two novel ones per object.
    pictures = Pictures(tiny_shards)
    known = np.concatenate([pictures.stack(i, list(range(6)))[0] for i in range(3)]).transpose(0, 3, 1, 2)
    windows = np.lib.stride_tricks.sliding_window_view(known, (side, side), axis=(2, 3))
    for picture in truth.numpy():
        assert (np.abs(windows - picture[None, :, None, None]).max(axis=(1, 4, 5)) < 1e-6).any()
    assert terms["lpips"].item() == pytest.approx((drawn - truth).mean(dim=(1, 2, 3)).abs().mean().item())
    without, others = _picture_task(
        tiny_shards, tiny_recipe(*CROPS, f"vae.supervision.kind={kind}", *plain_colours)
    ).loss(batch, STEP)
    assert total.item() == pytest.approx(without.item() + 2 * terms["lpips"].item(), rel=1e-5)
    assert "lpips" not in others


def test_the_perceptual_network_is_not_part_of_what_is_trained(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(*CROPS, "vae.losses.lpips=1")
    plain, with_network = (VaeTask(tiny_shards, [0], [], recipe.vae, 0, perceptual=net) for net in (Shift(), _Heavy()))
    assert plain.networks.state_dict().keys() == with_network.networks.state_dict().keys()


class _Heavy(Shift):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def test_lpips_is_loaded_where_the_recipe_asks_for_it(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(vae_step, "load_lpips", lambda name: asked.append(name) or Shift())
    VaeTask(tiny_shards, [0], [], tiny_recipe(*CROPS).vae, 0)
    assert asked == []
    VaeTask(tiny_shards, [0], [], tiny_recipe(*CROPS, "vae.losses.lpips=1", "vae.losses.lpips_net=vgg").vae, 0)
    assert asked == ["vgg"]
    monkeypatch.setattr(Shift, "smallest", 9)
    with pytest.raises(RecipeError, match="LPIPS on alex compares pictures of at least 9 pixels, not 8"):
        VaeTask(tiny_shards, [0], [], tiny_recipe(*CROPS, "vae.losses.lpips=1").vae, 0)


def test_smoothness_has_its_weight_and_a_gradient(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    dense = (*CROPS, "vae.field.density_shift=-2")  # something to see before anything is learned
    task = _picture_task(tiny_shards, tiny_recipe(*dense, "vae.losses.smoothness=0.1"))
    batch = task.batch(0, 0, range(2))
    total, terms = task.loss(batch, STEP)
    assert 0 < terms["smoothness"].item() <= 2
    without, others = _picture_task(tiny_shards, tiny_recipe(*dense)).loss(batch, STEP)
    assert total.item() == pytest.approx(without.item() + 0.1 * terms["smoothness"].item(), rel=1e-5)
    assert "smoothness" not in others
    (total - without).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.networks.parameters())


def test_rays_of_crops_become_pictures_again(tiny_recipe: RecipeOf) -> None:
    supervision = tiny_recipe(*CROPS).vae.supervision
    views = supervision.input_views + supervision.novel_views
    pictures = torch.randn(2, views, 5, 8, 8)
    rays = pictures.permute(0, 1, 3, 4, 2).reshape(2, views * 64, 5)  # as the batches list them: row by row
    assert torch.equal(pictures_of(rays, supervision), pictures.reshape(2 * views, 5, 8, 8))


@pytest.mark.parametrize("name", ["lpips", "adversarial", "adversarial_novel", "smoothness"])
def test_losses_of_pictures_are_refused_with_sparse_rays_at_once(tiny_recipe: RecipeOf, name: str) -> None:
    with pytest.raises(RecipeError, match=f"losses.{name} compare pictures, and sparse rays are none") as error:
        tiny_recipe(f"vae.losses.{name}=0.5")
    assert "set supervision.kind to crop or full" in error.value.message
    for kind in ("crop", "full"):
        assert getattr(tiny_recipe(f"vae.losses.{name}=0.5", f"vae.supervision.kind={kind}").vae.losses, name) == 0.5


def test_a_crop_fits_into_the_supervised_views(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    VaeTask(tiny_shards, [0], [], tiny_recipe(*CROPS, "vae.supervision.crop=16").vae, 0)
    for side, overrides in ((16, ()), (8, ("vae.supervision.resolution=8",))):
        recipe = tiny_recipe(*CROPS, "vae.supervision.crop=17", *overrides)
        with pytest.raises(RecipeError, match=f"a crop of 17 pixels does not fit into views of {side}"):
            VaeTask(tiny_shards, [0], [], recipe.vae, 0)
