"""Every value of stage 1 acts: another one gives another training, or has a test that is named here."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor
from vae_tasks import task_of, thin_lpips

from ln3d.config.recipe import Recipe
from ln3d.config.vae import VaeConfig
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.training.parts import own_parts
from ln3d.training.ranks import ALONE
from ln3d.training.step import fresh_state, take_step

RecipeOf = Callable[..., Recipe]
TESTS = Path(__file__).parents[1]
STEPS = 5
"""Enough for warm-up, schedule and ramp of the tiny recipe to have begun, and for what a step learned to be seen."""

PLAIN = ()
IMAGE = ("encoder.kind=image",)
CROP = ("supervision.kind=crop", "supervision.crop=8", "losses.smoothness=0.5")
UNGUIDED = ("renderer.guided_fine=0",)
MUON = ("training.optimiser=muon",)
INVARIANT = ("losses.depth_kind=scale_invariant",)
FULL = ("supervision.kind=full", "losses.lpips=0.5")
GAN = (*CROP, "discriminators.backbone=random", "losses.adversarial=0.5", "losses.adversarial_novel=0.25")

OTHERS: dict[str, tuple[tuple[str, ...], object]] = {
    "encoder.kind": (PLAIN, "image"),
    "encoder.views": (PLAIN, 3),
    "encoder.pluecker": (IMAGE, "false"),
    "encoder.depth": (IMAGE, "false"),
    "encoder.width": (PLAIN, 16),
    "encoder.multipliers": (PLAIN, [1, 3]),
    "encoder.residual_blocks": (PLAIN, 2),
    "encoder.heads": (PLAIN, 4),
    "encoder.attention_blocks": (PLAIN, 2),
    "encoder.chroma_gain": (PLAIN, 3),
    "encoder.choice": (PLAIN, "spread"),
    "encoder.slabs": (PLAIN, 3),
    "latent.channels": (PLAIN, 3),
    "latent.initial_log_variance": (PLAIN, -3),
    "decoder.variant": (PLAIN, "vit"),
    "decoder.patch": (PLAIN, 1),
    "decoder.width": (PLAIN, 32),
    "decoder.depth": (PLAIN, 3),
    "decoder.heads": (PLAIN, 4),
    "decoder.add_latent": (PLAIN, "false"),
    "decoder.in_plane_attention": (PLAIN, "false"),
    "decoder.cross_plane_attention": (PLAIN, "false"),
    "upsampler.kind": (PLAIN, "conv"),
    "upsampler.width": (PLAIN, 12),
    "upsampler.multipliers": (PLAIN, [1, 3]),
    "upsampler.unpatch": (PLAIN, 4),
    "field.channels": (PLAIN, 6),
    "field.hidden": (PLAIN, 12),
    "field.layers": (PLAIN, 2),
    "field.density_scale": (PLAIN, 12),
    "field.density_shift": (PLAIN, 1),
    "renderer.coarse": (UNGUIDED, 9),
    "renderer.fine": (UNGUIDED, 5),
    "renderer.search": (UNGUIDED, "true"),
    "renderer.guided_coarse": (PLAIN, 5),
    "renderer.guided_fine": (PLAIN, 5),
    "renderer.guided_band": (PLAIN, 0.2),
    "supervision.kind": (PLAIN, "full"),
    "supervision.input_views": (PLAIN, 2),
    "supervision.novel_views": (PLAIN, 1),
    "supervision.rays": (PLAIN, 40),
    "supervision.crop": (CROP, 9),
    "supervision.foreground": (PLAIN, 0.2),
    "supervision.near_miss": (PLAIN, 0.5),
    "supervision.resolution": (PLAIN, 8),
    "supervision.held_out_views": (PLAIN, [1, 4]),
    "supervision.known_views": (PLAIN, 4),
    "losses.l1": (PLAIN, 0),
    "losses.l2": (PLAIN, 0),
    "losses.chroma": (PLAIN, 1),
    "losses.surface": (PLAIN, 0),
    "losses.alpha": (PLAIN, 0),
    "losses.depth": (PLAIN, 0),
    "losses.depth_kind": (PLAIN, "scale_invariant"),
    "losses.depth_invariance": (INVARIANT, 1),
    "losses.smoothness": (CROP, 0),
    "losses.lpips": (FULL, 0),
    "losses.adversarial": (GAN, 0),
    "losses.adversarial_novel": (GAN, 0),
    "losses.kl": (PLAIN, 0),
    "losses.kl_initial": (PLAIN, 1e-5),
    "losses.kl_start": (PLAIN, 3),
    "losses.kl_end": (PLAIN, 5),
    "augmentation.saturation": (PLAIN, 1),
    "augmentation.saturation_probability": (PLAIN, 0),
    "augmentation.permutation": (PLAIN, 0),
    "augmentation.mirror": (PLAIN, 1),
    "augmentation.stretch": (PLAIN, 1.5),
    "augmentation.until": (PLAIN, 0),
    "training.steps": (PLAIN, 24),
    "training.batch": (PLAIN, 3),
    "training.optimiser": (PLAIN, "muon"),
    "training.muon_factor": (MUON, 2),
    "training.learning_rate": (PLAIN, 2e-2),
    "training.learning_rates": (PLAIN, "{encoder: 0.5}"),
    "training.final_learning_rate": (PLAIN, 0.5),
    "training.warmup": (PLAIN, 1),
    "training.weight_decay": (PLAIN, 0.5),
    "training.weight_decays": (PLAIN, "{decoder: 0.5}"),
    "training.betas": (PLAIN, [0.5, 0.99]),
    "training.gradient_clip": (PLAIN, 1e-9),
    "training.ema": (PLAIN, 0),
}
"""Key -> what must hold for it to act, and a value other than the tiny recipe's or that setting's."""

COUPLED = {
    "encoder.resolution": ("encoder.resolution=16", "encoder.multipliers=[1, 2, 2]"),
    "encoder.patch": ("encoder.patch=2", "encoder.multipliers=[2]"),
    "latent.resolution": ("latent.resolution=8", "encoder.resolution=16"),
}
"""Values that are refused without another one that goes with them."""

FP32 = "training.precision=fp32"
SAME: dict[str, tuple[list[tuple[str, ...]], object]] = {
    # Means over what is hit need a pass that counts; where there are none, there is no such pass.
    "training.accumulate": ([(FP32,), (FP32, *CROP), (FP32, *INVARIANT, "losses.surface=0")], 2),
    "training.gradient_checkpointing": ([PLAIN], "true"),
}
"""Values that only say how the same is computed, and settings under which that is looked at."""

ELSEWHERE = {
    "decoder.initial": "training/test_vae_step.py::test_the_decoder_starts_from_the_blocks_that_the_recipe_names",
    "losses.lpips_net": "training/test_vae_pictures.py::test_lpips_is_loaded_where_the_recipe_asks_for_it",
    "discriminators.backbone": "training/test_vae_discriminators.py::"
    "test_the_frozen_network_is_the_recipes_or_the_one_given",
    **{
        f"discriminators.{key}": "training/test_adversarial_training.py::"
        "test_every_key_changes_the_curve_and_not_what_was_before"
        for key in (
            "levels",
            "hidden",
            "loss",
            "start",
            "learning_rate",
            "novel_learning_rate",
            "betas",
            "r1",
            "r1_every",
        )
    },
    "training.precision": "training/test_loop.py::test_precision_is_chosen_anew_for_every_training",
    "training.workers": "training/test_exact_resume.py::test_loader_processes_change_nothing",
    "training.checkpoint_every": "training/test_loop.py::test_the_last_two_checkpoints_are_kept",
    "training.log_every": "training/test_loop.py::test_metrics_hold_losses_figures_and_validations_of_the_average",
    "training.validate_every": "training/test_loop.py::test_metrics_hold_losses_figures_and_validations_of_the_average",
    "training.sheet_every": "training/test_loop.py::test_sheets_are_drawn_of_the_average_and_kept",
    "training.trackers": "training/test_trackers.py::test_a_tracker_is_told_every_line_and_closed",
}
"""Values with another kind of test."""


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_value_is_in_one_table() -> None:
    listed = [*OTHERS, *COUPLED, *SAME, *ELSEWHERE]
    assert sorted(listed) == sorted(_keys(VaeConfig))


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_tests_elsewhere_exist_and_name_the_value(key: str) -> None:
    file, _, name = ELSEWHERE[key].partition("::")
    text = (TESTS / file).read_text()
    assert f"def {name}(" in text
    assert re.search(rf"\b{key.rpartition('.')[2]}\b", text)


Curve = tuple[list[float], dict[str, Tensor]]


def _trained(shards: ShardSet, recipe: Recipe) -> Curve:
    """Return the losses of a few steps, and the averaged weights after them."""
    task, config = task_of(shards, recipe, thin_lpips()), recipe.vae.training
    state = fresh_state(task, config, torch.device("cpu"), None)
    parts = own_parts(config, ALONE)
    losses = []
    for step in range(STEPS):
        loss, _ = take_step(task, config, state, task.batch(step, 0, range(config.batch)), parts, ALONE)
        losses.append(loss)
    return losses, state.ema.weights


def _recipe(tiny_recipe: RecipeOf, *changes: str) -> Recipe:
    return tiny_recipe(*(f"vae.{change}" for change in changes))


@pytest.fixture(scope="module")
def base_of(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> Callable[[tuple[str, ...]], Curve]:
    """Return a function from a setting to the training under it."""
    kept: dict[tuple[str, ...], Curve] = {}

    def base(setting: tuple[str, ...]) -> Curve:
        if setting not in kept:
            kept[setting] = _trained(tiny_shards, _recipe(tiny_recipe, *setting))
        return kept[setting]

    return base


def test_the_same_recipe_has_the_same_bits(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    one, other = (_trained(tiny_shards, tiny_recipe()) for _ in range(2))
    assert one[0] == other[0] and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("key", OTHERS)
def test_another_value_gives_another_training(
    base_of: Callable[[tuple[str, ...]], Curve], tiny_shards: ShardSet, tiny_recipe: RecipeOf, key: str
) -> None:
    setting, value = OTHERS[key]
    losses, average = base_of(setting)
    changed, other = _trained(tiny_shards, _recipe(tiny_recipe, *setting, f"{key}={value}"))
    if key == "training.ema":
        assert losses == changed and any(not torch.equal(average[name], other[name]) for name in average)
    else:
        assert losses != changed


@pytest.mark.parametrize("key", COUPLED)
def test_values_that_go_together_are_changed_together(
    base_of: Callable[[tuple[str, ...]], Curve], tiny_shards: ShardSet, tiny_recipe: RecipeOf, key: str
) -> None:
    with pytest.raises(RecipeError, match="the encoder makes latents of"):
        _trained(tiny_shards, _recipe(tiny_recipe, COUPLED[key][0]))
    assert _trained(tiny_shards, _recipe(tiny_recipe, *COUPLED[key]))[0] != base_of(PLAIN)[0]


@pytest.mark.parametrize(
    ("key", "setting", "value"),
    [(key, setting, value) for key, (settings, value) in SAME.items() for setting in settings],
)
def test_how_it_is_computed_changes_nothing(
    base_of: Callable[[tuple[str, ...]], Curve],
    tiny_shards: ShardSet,
    tiny_recipe: RecipeOf,
    key: str,
    setting: tuple[str, ...],
    value: object,
) -> None:
    losses, average = base_of(setting)
    same, other = _trained(tiny_shards, _recipe(tiny_recipe, *setting, f"{key}={value}"))
    assert same == pytest.approx(losses, rel=1e-4)
    for name, weight in average.items():
        torch.testing.assert_close(other[name], weight, rtol=1e-2, atol=1e-3)
