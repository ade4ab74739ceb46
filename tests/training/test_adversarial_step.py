"""What discriminators tell both sides in a step: which kinds there are, at what rates they learn, R1 when it is due."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ln3d.backbones.frozen_maps import FrozenFilters
from ln3d.config.recipe import Recipe
from ln3d.config.vae import DiscriminatorConfig
from ln3d.errors import RecipeError
from ln3d.losses.adversarial import discriminator_loss, generator_loss, r1_penalty
from ln3d.models.discriminator import Shown, ViewDiscriminators
from ln3d.training.adversarial_step import (
    build_discriminators,
    check_pictures,
    contest,
    discriminator_training,
    view_kinds,
)
from ln3d.training.optimiser import build_optimiser, learning_rate

RecipeOf = Callable[..., Recipe]
CROPS = ("vae.supervision.kind=crop", "vae.supervision.crop=8", "vae.discriminators.hidden=8")
BOTH = (*CROPS, "vae.losses.adversarial=0.5", "vae.losses.adversarial_novel=0.25")


def _shown() -> Shown:
    draw = torch.Generator().manual_seed(5)
    inputs, renders, novel = (torch.rand(count, 3, 8, 8, generator=draw) for count in (2, 2, 4))
    return Shown(inputs, renders.requires_grad_(), novel.requires_grad_())


def _group(recipe: Recipe) -> ViewDiscriminators:
    return build_discriminators(FrozenFilters(2), recipe.vae, recipe.seed)


@pytest.mark.parametrize(
    ("weights", "kinds"),
    [
        ((), []),
        (("vae.losses.adversarial=1",), ["input_view"]),
        (("vae.losses.adversarial_novel=1",), ["novel_view"]),
        (("vae.losses.adversarial=1", "vae.losses.adversarial_novel=1"), ["input_view", "novel_view"]),
    ],
)
def test_there_are_those_that_have_a_weight(tiny_recipe: RecipeOf, weights: tuple[str, ...], kinds: list[str]) -> None:
    recipe = tiny_recipe(*CROPS, *weights)
    assert view_kinds(recipe.vae) == kinds
    assert list(_group(recipe)) == kinds


def test_they_come_from_the_seed_alone(tiny_recipe: RecipeOf) -> None:
    before = torch.random.get_rng_state()
    one, again, other = (_group(tiny_recipe(*BOTH, f"seed={seed}")).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_their_learning_rates_stay_and_are_the_recipes(tiny_recipe: RecipeOf) -> None:
    rates = ("vae.discriminators.learning_rate=0.004", "vae.discriminators.novel_learning_rate=0.001")
    recipe = tiny_recipe(*BOTH, *rates, "vae.discriminators.betas=[0.5, 0.75]", "vae.training.weight_decay=0.125")
    config, group = discriminator_training(recipe.vae), _group(recipe)
    optimiser = build_optimiser(group, config)
    assert {learning_rate(step, config) for step in (0, 5, 11)} == {0.004}
    factors = {id(p): g["factor"] for g in optimiser.param_groups for p in g["params"]}
    assert {factors[id(p)] for p in group["input_view"].parameters()} == {1.0}
    assert {factors[id(p)] for p in group["novel_view"].parameters()} == {0.25}
    assert optimiser.defaults["betas"] == (0.5, 0.75)
    assert {g["weight_decay"] for g in optimiser.param_groups} == {0.0, 0.125}


def _contest(
    recipe: Recipe, step: int = 0
) -> tuple[ViewDiscriminators, Shown, DiscriminatorConfig, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    group, shown, config = _group(recipe), _shown(), recipe.vae.discriminators
    return group, shown, config, contest(group, shown, config, step)


@pytest.mark.parametrize("kind", ["non_saturating", "hinge"])
def test_both_sides_minimise_the_losses_of_the_recipe(tiny_recipe: RecipeOf, kind: str) -> None:
    group, shown, config, (fooling, learning) = _contest(tiny_recipe(*BOTH, f"vae.discriminators.loss={kind}"))
    real, fake, novel = (group.maps(pictures) for pictures in shown)
    torch.testing.assert_close(fooling["adversarial"], generator_loss(group["input_view"](fake), config.loss))
    torch.testing.assert_close(fooling["adversarial_novel"], generator_loss(group["novel_view"](novel), config.loss))
    first, second = group["input_view"], group["novel_view"]
    torch.testing.assert_close(learning["discriminator"], discriminator_loss(first(real), first(fake), config.loss))
    expected = discriminator_loss(second(fake), second(novel), config.loss)
    torch.testing.assert_close(learning["discriminator_novel"], expected)
    assert fooling.keys() | learning.keys() == {
        "adversarial", "adversarial_novel", "discriminator", "discriminator_novel",
    }  # fmt: skip


def test_each_sides_gradient_is_its_own(tiny_recipe: RecipeOf) -> None:
    group, shown, _, (fooling, learning) = _contest(tiny_recipe(*BOTH, "vae.discriminators.r1=1"))
    torch.stack(list(learning.values())).sum().backward()
    assert shown.input_renders.grad is None and shown.novel_renders.grad is None
    before = {name: p.grad.clone() for name, p in group.named_parameters()}
    assert all(gradient.any() for name, gradient in before.items() if name.endswith("weight"))
    torch.stack(list(fooling.values())).sum().backward()
    assert shown.input_renders.grad.any() and shown.novel_renders.grad.any()
    assert all(torch.equal(p.grad, before[name]) for name, p in group.named_parameters())


def test_the_penalty_is_computed_when_it_is_due_and_counts_as_often(tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(
        *BOTH, "vae.discriminators.r1=3", "vae.discriminators.r1_every=4", "vae.discriminators.start=2"
    )
    names = {"r1", "r1_novel"}
    due = [step for step in range(2, 12) if names <= _contest(recipe, step)[3][1].keys()]
    assert due == [2, 6, 10]
    group, shown, config, (_, learning) = _contest(recipe, 6)
    for name, slope in zip(("r1", "r1_novel"), group.slopes(shown).values(), strict=True):
        torch.testing.assert_close(learning[name], 4 * r1_penalty(slope.logits, slope.pictures, 3.0))
    assert not names & contest(group, shown, config, 7)[1].keys()
    with torch.no_grad():  # sums over a batch are found out without gradient, and a slope is one
        assert not names & contest(group, shown, config, 6)[1].keys()


def test_the_penalty_is_exact_under_bf16(tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(*BOTH, "vae.discriminators.r1=3")
    exact = _contest(recipe)[3][1]
    with torch.autocast("cpu", torch.bfloat16):
        rough = _contest(recipe)[3][1]
    torch.testing.assert_close(rough["r1"], exact["r1"])
    assert rough["discriminator"].item() == pytest.approx(exact["discriminator"].item(), rel=0.02)


def test_pictures_that_are_too_small_to_look_at_are_refused(tiny_recipe: RecipeOf) -> None:
    config = tiny_recipe(*BOTH, "vae.discriminators.backbone=random").vae
    check_pictures(FrozenFilters(3), config, 8)
    with pytest.raises(RecipeError, match="random looks at pictures of at least 16 pixels, not 8"):
        check_pictures(FrozenFilters(4), config, 8)
