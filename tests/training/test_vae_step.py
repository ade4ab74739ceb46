"""One step of stage 1: the terms of its loss, its randomness, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import FrozenFilters, timm_maps
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.losses.kl import kl_weight
from ln3d.models.discriminator import Shown
from ln3d.rendering.volume import render_rays
from ln3d.training import vae_step
from ln3d.training.parts import Part
from ln3d.training.vae_step import (
    VaeTask,
    check_networks,
    encode_object,
    evaluation_views,
    pictures_of,
    reconstruct,
    shown_pictures,
)

RecipeOf = Callable[..., Recipe]
STEP = 3  # in the middle of the tiny recipe's KL ramp


def _task(shards: ShardSet, recipe: Recipe) -> VaeTask:
    splits = [record.split for record in shards.objects]
    train, held_out = ([i for i, split in enumerate(splits) if (split == "train") == kept] for kept in (True, False))
    return VaeTask(shards, train, held_out, recipe.vae, recipe.seed)


def _losses(shards: ShardSet, recipe: Recipe, step: int = STEP) -> tuple[float, dict[str, float]]:
    task = _task(shards, recipe)
    total, figures = task.loss(task.batch(0, 0, range(2)), step)
    return total.item(), {name: value.item() for name, value in figures.items()}


def test_the_total_is_the_weighted_sum_of_the_terms(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    total, terms = _losses(tiny_shards, tiny_recipe())
    assert terms.keys() == {"colour", "alpha", "depth", "kl", "surface"}
    assert all(value > 0 for value in terms.values())
    kl = kl_weight(STEP, 1e-4, 2, 6)
    expected = terms["colour"] + 0.5 * terms["alpha"] + 0.5 * terms["depth"] + kl * terms["kl"] + terms["surface"]
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "weight"), [("alpha", 0.5), ("depth", 0.5), ("surface", 1.0), ("kl", None)])
def test_a_weight_of_zero_takes_its_term_away(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, name: str, weight: float | None
) -> None:
    total, terms = _losses(tiny_shards, tiny_recipe())
    without, others = _losses(tiny_shards, tiny_recipe(f"vae.losses.{name}=0"))
    factor = kl_weight(STEP, 1e-4, 2, 6) if weight is None else weight
    assert without == pytest.approx(total - factor * terms[name], rel=1e-5)
    assert others.items() <= terms.items()


def test_absolute_and_squared_colour_errors_add_up(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    both, absolute, squared = (
        _losses(tiny_shards, tiny_recipe(*off))[1]["colour"] for off in ((), ("vae.losses.l2=0",), ("vae.losses.l1=0",))
    )
    assert both == pytest.approx(absolute + squared, rel=1e-5)
    assert min(absolute, squared) > 0


def test_networks_come_from_the_seed_alone(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    torch.manual_seed(1)
    one = _task(tiny_shards, tiny_recipe())
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    other, third = _task(tiny_shards, tiny_recipe()), _task(tiny_shards, tiny_recipe("seed=1"))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [list(task.networks.parameters()) for task in (one, other, third)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_the_decoder_starts_from_the_blocks_that_the_recipe_names(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(vae_step, "check_start", lambda config, name: asked.append((config.width, name)))
    monkeypatch.setattr(vae_step, "start_from_blocks", lambda decoder, name: asked.append((decoder, name)) or "hash")
    plain = _task(tiny_shards, tiny_recipe())
    assert asked == [] and plain.decoder_start is None
    task = _task(tiny_shards, tiny_recipe("vae.decoder.initial=dinov2=FILE"))
    assert asked == [(16, "dinov2=FILE"), (task.networks.decoder, "dinov2=FILE")]
    assert task.decoder_start == "hash"


def test_the_loss_is_a_pure_function_of_batch_and_step(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    first = _losses(tiny_shards, tiny_recipe())
    torch.manual_seed(7)
    assert _losses(tiny_shards, tiny_recipe()) == first
    _, later = _losses(tiny_shards, tiny_recipe(), step=STEP + 1)
    assert later["kl"] == first[1]["kl"]
    assert later["colour"] != first[1]["colour"]  # another posterior sample, other samples along the rays


def test_every_weight_learns_and_a_few_steps_lower_the_loss(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = _task(tiny_shards, tiny_recipe())
    batch = task.batch(0, 0, range(2))
    optimiser = torch.optim.AdamW(task.networks.parameters(), 1e-2)
    seen: set[str] = set()
    totals: list[Tensor] = []
    for _ in range(12):
        total, _ = task.loss(batch, STEP)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.detach())
        seen |= {name for name, p in task.networks.named_parameters() if p.grad is not None and p.grad.any()}
    assert seen == {name for name, _ in task.networks.named_parameters()}
    assert totals[-1] < 0.8 * totals[0]


def test_validation_is_the_psnr_of_held_out_views(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = _task(tiny_shards, tiny_recipe())
    task.networks.eval()
    figures = task.validate()
    assert figures.keys() == {"psnr_train", "psnr_validation"}
    assert figures == task.validate()
    pictures, errors = Pictures(tiny_shards), []
    for index in list(task.validation[:: max(1, len(task.validation) // 4)])[:4]:
        image, _, _ = reconstruct(task.networks, pictures, index, [0, 1], [4])
        errors.append(np.square(image.numpy() - pictures.stack(index, [4])[0]).mean())
    assert figures["psnr_validation"] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-3)


def test_an_object_is_encoded_from_its_views_without_augmentation(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task, pictures = _task(tiny_shards, tiny_recipe()), Pictures(tiny_shards)
    task.networks.eval()
    one, again = (encode_object(task.networks, pictures, 3, [0, 1]) for _ in range(2))
    assert one.mean.shape == (1, 3, 2, 4, 4)
    assert torch.equal(one.mean, again.mean)
    torch.testing.assert_close(encode_object(task.networks, pictures, 3, [1, 0]).mean, one.mean, atol=1e-4, rtol=1e-4)


def test_views_of_an_evaluation_are_fixed_and_held_out_where_there_are_such(tiny_recipe: RecipeOf) -> None:
    assert evaluation_views(tiny_recipe().vae, 6) == ([0, 1], [4])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[0, 2, 9]").vae, 6) == ([1, 3], [0, 2])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 6) == ([0, 1], [2, 3, 4, 5])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 2) == ([0, 1], [0, 1])


def test_the_kind_of_depth_error_is_a_choice(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    _, absolute = _losses(tiny_shards, tiny_recipe())
    kept, forgotten = (
        _losses(
            tiny_shards,
            tiny_recipe("vae.losses.depth_kind=scale_invariant", f"vae.losses.depth_invariance={invariance}"),
        )[1]
        for invariance in (0, 1)
    )
    assert 0 < forgotten["depth"] < kept["depth"]
    assert kept["depth"] != absolute["depth"]
    assert {name: v for name, v in kept.items() if name != "depth"} == {
        name: v for name, v in absolute.items() if name != "depth"
    }


UNGUIDED, SEARCH = "vae.renderer.guided_fine=0", "vae.renderer.search=true"


def test_a_search_says_where_fine_samples_go_and_learns_nothing(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = _task(tiny_shards, tiny_recipe(UNGUIDED, SEARCH))
    torch.manual_seed(0)
    planes = torch.randn(2, 3, 4, 8, 8, requires_grad=True)
    batch = task.batch(0, 0, range(2))
    rays = batch["origins"], batch["directions"]
    seen = task.look(planes, *rays, torch.Generator().manual_seed(1), batch["hint"])
    field = vae_step.radiance(task.networks, planes)
    twin = render_rays(field, *rays, task.config.renderer, generator=torch.Generator().manual_seed(1), search=field)
    torch.testing.assert_close(seen, twin, atol=1e-5, rtol=1e-5)
    both = [torch.autograd.grad(each.colour.sum(), planes)[0] for each in (seen, twin)]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)
    # Another way to place samples is another loss, but only where no depth places them.
    assert _losses(tiny_shards, tiny_recipe(UNGUIDED))[0] != _losses(tiny_shards, tiny_recipe(UNGUIDED, SEARCH))[0]
    assert _losses(tiny_shards, tiny_recipe())[0] == _losses(tiny_shards, tiny_recipe(SEARCH))[0]


CROPS = ("vae.supervision.kind=crop", "vae.supervision.crop=8")


class Shift(nn.Module):
    """Stands for a perceptual network: how far each picture's mean colour is off, and what it was shown."""

    smallest = 8

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


GAN = (*CROPS, "vae.discriminators.backbone=random", "vae.discriminators.levels=2", "vae.discriminators.hidden=8")
BOTH = (*GAN, "vae.losses.adversarial=0.5", "vae.losses.adversarial_novel=0.25")
ALONE = (*BOTH, "vae.supervision.novel_views=0")  # as with pictures of which there is one each


def test_what_discriminators_say_has_its_weight_and_what_they_learn_has_none(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    total, terms = _losses(tiny_shards, tiny_recipe(*BOTH))
    without, others = _losses(tiny_shards, tiny_recipe(*GAN))
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
    plain = _gradients(_task(tiny_shards, tiny_recipe(*GAN)))
    told = _gradients(_task(tiny_shards, tiny_recipe(*GAN, f"vae.losses.{name}=1")))
    moved = {key for key in plain if key.startswith("decoder") and plain[key].any()}
    assert len(moved) > 5 and not any(torch.equal(told[key], plain[key]) for key in moved)


def test_a_backward_pass_teaches_both_sides_and_mixes_nothing(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = _task(tiny_shards, tiny_recipe(*BOTH))
    both, judges = _gradients(task), task.discriminators
    assert all(p.grad is not None and p.grad.any() for name, p in judges.named_parameters() if name.endswith("weight"))
    assert not any(tensor.requires_grad for tensor in (*judges.maps.parameters(), *judges.maps.buffers()))
    unteachable = _task(tiny_shards, tiny_recipe(*BOTH))
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
    task = _task(tiny_shards, recipe)
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
    task = _task(tiny_shards, tiny_recipe(*ALONE))
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
    assert _losses(tiny_shards, late, step=3) == _losses(tiny_shards, tiny_recipe(*GAN), step=3)
    assert _losses(tiny_shards, late, step=4) == _losses(tiny_shards, tiny_recipe(*BOTH), step=4)


def test_the_frozen_network_is_the_recipes_or_the_one_given(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    named, given = _task(tiny_shards, tiny_recipe(*BOTH)), FrozenFilters(3)
    assert named.discriminators.maps.widths == (16, 32)
    recipe = tiny_recipe(*BOTH, "vae.discriminators.backbone=dinov2")
    task = VaeTask(tiny_shards, [0], [], recipe.vae, 0, frozen=given)
    assert task.discriminators.maps is given
    with pytest.raises(RecipeError, match="random looks at pictures of at least 16 pixels, not 8"):
        VaeTask(tiny_shards, [0], [], tiny_recipe(*BOTH, "vae.discriminators.levels=4").vae, 0)
    assert _task(tiny_shards, tiny_recipe(*GAN)).discriminators is None


def test_a_vision_transformer_looks_under_bf16_with_the_penalty(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(img_size=28, patch_size=14, embed_dim=16, depth=4, num_heads=2, num_classes=0)
    recipe = tiny_recipe(*BOTH, "vae.discriminators.r1=1")
    task = VaeTask(tiny_shards, [0, 1], [], recipe.vae, 0, frozen=timm_maps(network, 2))
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
