"""Discriminators in the step of stage 1: what they are shown, what they say to whom, and when."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from vae_tasks import STEP, losses_of, task_of

from ln3d.backbones.frozen_maps import FrozenFilters, dinov2_maps
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.models.discriminator import Shown
from ln3d.training.parts import Part
from ln3d.training.vae_losses import pictures_of
from ln3d.training.vae_step import VaeTask, check_networks, shown_pictures

RecipeOf = Callable[..., Recipe]
CROPS = ("vae.supervision.kind=crop", "vae.supervision.crop=8")
GAN = (*CROPS, "vae.discriminators.backbone=random", "vae.discriminators.levels=2", "vae.discriminators.hidden=8")
BOTH = (*GAN, "vae.losses.adversarial=0.5", "vae.losses.adversarial_novel=0.25")
ALONE = (*BOTH, "vae.supervision.novel_views=0")  # as with pictures of which there is one each


def test_what_discriminators_say_has_its_weight_and_what_they_learn_has_none(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    total, terms = losses_of(tiny_shards, tiny_recipe(*BOTH))
    without, others = losses_of(tiny_shards, tiny_recipe(*GAN))
    names = {"adversarial", "adversarial_novel", "discriminator", "discriminator_novel"}
    assert terms.keys() == others.keys() | names
    assert {name: terms[name] for name in others} == others
    expected = without + 0.5 * terms["adversarial"] + 0.25 * terms["adversarial_novel"]
    assert total == pytest.approx(expected, rel=1e-5)
    assert all(terms[name] > 0 for name in names)


def _gradients(task: VaeTask) -> dict[str, Tensor]:
    total, _ = task.loss(task.batch(0, 0, range(2)), STEP)
    total.backward()
    return {name: p.grad for name, p in task.networks.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["adversarial", "adversarial_novel"])
def test_what_a_discriminator_says_reaches_the_decoder(tiny_shards: ShardSet, tiny_recipe: RecipeOf, name: str) -> None:
    plain = _gradients(task_of(tiny_shards, tiny_recipe(*GAN)))
    told = _gradients(task_of(tiny_shards, tiny_recipe(*GAN, f"vae.losses.{name}=1")))
    moved = {key for key in plain if key.startswith("decoder") and plain[key].any()}
    assert len(moved) > 5 and not any(torch.equal(told[key], plain[key]) for key in moved)


def test_a_backward_pass_teaches_both_sides_and_mixes_nothing(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = task_of(tiny_shards, tiny_recipe(*BOTH))
    both, judges = _gradients(task), task.discriminators
    assert all(p.grad is not None and p.grad.any() for name, p in judges.named_parameters() if name.endswith("weight"))
    assert not any(tensor.requires_grad for tensor in (*judges.maps.parameters(), *judges.maps.buffers()))
    unteachable = task_of(tiny_shards, tiny_recipe(*BOTH))
    unteachable.discriminators.lessons = lambda seen: {}  # nothing but the networks' own side is left
    alone = _gradients(unteachable)
    assert both.keys() == alone.keys() and all(torch.equal(both[name], alone[name]) for name in both)
    assert all(p.grad is None for p in unteachable.discriminators.parameters())


def _watched(task: VaeTask) -> list[Shown]:
    """Return the list of what the task's discriminators are shown from now on."""
    shown: list[Shown] = []
    look = task.discriminators.look
    task.discriminators.look = lambda pictures: look(shown.append(pictures) or pictures)
    return shown


def test_discriminators_look_at_the_supervised_views(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(*BOTH)  # one input view and two novel ones per object
    task = task_of(tiny_shards, recipe)
    batch, shown = task.batch(0, 0, range(2)), _watched(task)
    task.loss(batch, STEP)
    colours = batch["colour"].reshape(2, 3, 8, 8, 3).permute(0, 1, 4, 2, 3)
    assert torch.equal(shown[0].pictures, colours[:, 0])
    assert shown[0].input_renders.shape == (2, 3, 8, 8) and shown[0].novel_renders.shape == (4, 3, 8, 8)
    rays = torch.arange(2 * 3 * 64 * 3).reshape(2, 192, 3).float()
    sorted_out = shown_pictures(rays, rays + 0.5, None, recipe.vae.supervision)
    by_view = pictures_of(rays, recipe.vae.supervision)
    assert torch.equal(sorted_out.pictures, by_view[[0, 3]])
    assert torch.equal(sorted_out.input_renders, by_view[[0, 3]] + 0.5)
    assert torch.equal(sorted_out.novel_renders, by_view[[1, 2, 4, 5]] + 0.5)


def test_where_no_novel_view_is_supervised_one_is_rendered_for_its_discriminator(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    task = task_of(tiny_shards, tiny_recipe(*ALONE))
    batch, shown = task.batch(0, 0, range(2)), _watched(task)
    total, terms = task.loss(batch, STEP)
    assert shown[0].novel_renders.shape == (2, 3, 8, 8)
    assert terms["adversarial_novel"] > 0
    # A batch in two parts draws the same samples along the imagined rays.
    parts = [{name: value[i : i + 1] for name, value in batch.items()} for i in (0, 1)]
    for index, part in enumerate(parts):
        task.loss(part, STEP, Part(index, 2))
        torch.testing.assert_close(shown[-1].novel_renders[0], shown[0].novel_renders[index])
    moved = batch | {"imagined_origins": batch["imagined_origins"] * 1.1}
    others = task.loss(moved, STEP)[1]
    assert others["adversarial"] == terms["adversarial"] and others["adversarial_novel"] != terms["adversarial_novel"]


def test_before_their_start_there_are_no_discriminators(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    late = tiny_recipe(*BOTH, "vae.discriminators.start=4")
    assert losses_of(tiny_shards, late, step=3) == losses_of(tiny_shards, tiny_recipe(*GAN), step=3)
    assert losses_of(tiny_shards, late, step=4) == losses_of(tiny_shards, tiny_recipe(*BOTH), step=4)


def test_the_frozen_network_is_the_recipes_or_the_one_given(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    named, given = task_of(tiny_shards, tiny_recipe(*BOTH)), FrozenFilters(3)
    assert named.discriminators.maps.widths == (16, 32)
    recipe = tiny_recipe(*BOTH, "vae.discriminators.backbone=dinov2")
    task = VaeTask(tiny_shards, [0], [], recipe.vae, 0, frozen=given)
    assert task.discriminators.maps is given
    with pytest.raises(RecipeError, match="random looks at pictures of at least 16 pixels, not 8"):
        VaeTask(tiny_shards, [0], [], tiny_recipe(*BOTH, "vae.discriminators.levels=4").vae, 0)
    assert task_of(tiny_shards, tiny_recipe(*GAN)).discriminators is None


def test_a_vision_transformer_looks_under_bf16_with_the_penalty(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(img_size=28, patch_size=14, embed_dim=16, depth=4, num_heads=2, num_classes=0)
    recipe = tiny_recipe(*BOTH, "vae.discriminators.r1=1")
    task = VaeTask(tiny_shards, [0, 1], [], recipe.vae, 0, frozen=dinov2_maps(network, 2))
    with torch.autocast("cpu", torch.bfloat16):
        total, terms = task.loss(task.batch(0, 0, range(2)), 0)
    total.backward()
    assert terms.keys() >= {"r1", "r1_novel"} and all(value.isfinite() for value in terms.values())
    for module in (task.networks, task.discriminators):
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert all(p.grad is None for p in network.parameters())


def test_networks_that_discriminators_cannot_look_at_are_refused_at_once(tiny_recipe: RecipeOf) -> None:
    check_networks(tiny_recipe(*CROPS, "vae.losses.adversarial=1").vae)
    for weight in ("vae.losses.adversarial=1", "vae.losses.adversarial_novel=1"):
        with pytest.raises(RecipeError, match="discriminators cannot look at 'resnet'"):
            check_networks(tiny_recipe(*CROPS, weight, "vae.discriminators.backbone=resnet").vae)
    check_networks(tiny_recipe(*CROPS, "vae.discriminators.backbone=resnet").vae)


def test_discriminators_need_input_views_to_compare_with(tiny_recipe: RecipeOf) -> None:
    for name in ("adversarial", "adversarial_novel"):
        with pytest.raises(RecipeError, match="discriminators compare with input views") as error:
            tiny_recipe(*CROPS, f"vae.losses.{name}=1", "vae.supervision.input_views=0")
        assert "set supervision.input_views to at least 1" in error.value.message
