"""What a training costs, counted: against layers counted by hand, and against the training step itself."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ln3d.backbones.frozen_maps import timm_maps
from ln3d.backbones.perceptual import untrained_lpips
from ln3d.backbones.timm_networks import untrained_timm
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.models.ema import Ema
from ln3d.stages.estimate import (
    Cost,
    discriminator_weights,
    estimate,
    measured,
    rays_per_object,
    vae_cost,
    vae_state_bytes,
)
from ln3d.training.gradients import batch_gradient
from ln3d.training.latent_step import LatentTask
from ln3d.training.optimiser import build_optimiser, muon_matrices, optimiser_tensors
from ln3d.training.parts import own_parts
from ln3d.training.ranks import ALONE
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
ROWS, WIDE, MIDDLE, NARROW = 5, 7, 11, 3


def _layers() -> Cost:
    layers = nn.Sequential(nn.Linear(WIDE, MIDDLE), nn.Linear(MIDDLE, NARROW))
    x = torch.randn(ROWS, WIDE)
    return measured(lambda: layers(x).sum(), layers.parameters())


def test_linear_layers_cost_what_a_hand_counts() -> None:
    """Forward 2 rows in out; backward as much for the weight, and as much again for an input that has a gradient."""
    cost = _layers()
    assert cost.operations == 4 * ROWS * WIDE * MIDDLE + 6 * ROWS * MIDDLE * NARROW
    assert cost.saved_bytes == 4 * ROWS * (WIDE + MIDDLE)  # their inputs; the weights are counted elsewhere


def test_tensors_without_contents_cost_the_same() -> None:
    real = _layers()
    with FakeTensorMode():
        assert _layers() == real


def test_attention_is_counted() -> None:
    heads, tokens, width = 2, 16, 8
    projection = nn.Linear(width, width, bias=False)

    def attended() -> torch.Tensor:
        x = projection(torch.ones(1, heads, tokens, width))
        return nn.functional.scaled_dot_product_attention(x, x, x).sum()

    product = 2 * heads * tokens * tokens * width  # scores, or scores times values
    linear = 2 * heads * tokens * width * width
    forward_backward = 2 * linear + 2 * product + 5 * product  # the fused backward makes the scores again
    assert measured(attended, projection.parameters()).operations == forward_backward


GAN = (
    "vae.supervision.kind=crop",
    "vae.supervision.crop=8",
    "vae.discriminators.backbone=random",
    "vae.discriminators.levels=2",
    "vae.renderer.guided_fine=0",
)
LATENTS = (
    "vae.encoder.kind=image",
    "vae.supervision.kind=latents",
    "vae.augmentation.saturation=1",
    "vae.augmentation.permutation=0",
)
LPIPS = ("vae.supervision.kind=full", "vae.losses.lpips=1", "vae.losses.lpips_net=vgg")
IMAGE = ("vae.encoder.kind=image", "vae.encoder.resolution=8", "vae.training.precision=fp32")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        IMAGE,
        (*IMAGE, "vae.renderer.guided_fine=0", "vae.losses.surface=0"),
        (*IMAGE, "vae.renderer.guided_fine=0", "vae.renderer.search=true"),
        ("vae.supervision.kind=crop", "vae.supervision.crop=8"),
        ("vae.training.gradient_checkpointing=true",),
        (*GAN, "vae.losses.adversarial=1"),
        (*GAN, "vae.losses.adversarial_novel=1"),
        (*GAN, "vae.losses.adversarial=1", "vae.losses.adversarial_novel=1", "vae.supervision.novel_views=0"),
        (*GAN, "vae.losses.adversarial_novel=1", "vae.supervision.novel_views=0", "vae.renderer.search=true"),
        LPIPS,
        (*LPIPS, "vae.training.precision=fp32", "vae.training.gradient_checkpointing=true"),
    ],
    ids=[
        "aligned",
        "image",
        "coarse to fine",
        "search",
        "crop",
        "checkpointing",
        "input view",
        "novel view",
        "imagined view",
        "imagined, search",
        "lpips",
        "lpips, checkpointing",
    ],
)
def test_an_object_costs_what_the_training_step_spends_on_it(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, overrides: tuple[str, ...]
) -> None:
    recipe = tiny_recipe(*overrides)
    task = VaeTask(tiny_shards, [0, 1], [], recipe.vae, recipe.seed, perceptual=untrained_lpips("vgg"))
    assert _spent(task, 3, recipe) == vae_cost(recipe).operations


def _spent(task: VaeTask, step: int, recipe: Recipe) -> int:
    """Return the operations of a step with a batch of one, forward and backward."""
    batch = task.batch(0, 0, range(1))

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.vae.training.precision == "bf16"):
            return task.loss(batch, step)[0]

    return measured(loss, task.networks.parameters()).operations


BOTH = ("vae.losses.adversarial=1", "vae.losses.adversarial_novel=1", "vae.discriminators.r1=1")


def test_slopes_cost_what_they_do_as_often_as_they_are_computed(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    """Seen by a transformer, whose attention is another one where it is differentiated twice."""
    every = 2
    changes = (*GAN, *BOTH, "vae.discriminators.backbone=timm:test_vit", f"vae.discriminators.r1_every={every}")
    recipe, without = tiny_recipe(*changes), tiny_recipe(*changes, "vae.discriminators.r1=0")
    task = VaeTask(tiny_shards, [0, 1], [], recipe.vae, recipe.seed, frozen=timm_maps(untrained_timm("test_vit"), 2))
    spent = [_spent(task, step, recipe) for step in range(every)]
    cost, plain = vae_cost(recipe), vae_cost(without)
    assert spent[0] > spent[1] == plain.operations
    assert 0 <= sum(spent) - every * cost.operations < every  # whole operations
    assert cost.saved_bytes > plain.saved_bytes


@pytest.mark.parametrize("overrides", [(), (*GAN, *BOTH, "vae.discriminators.r1_every=1")], ids=["plain", "gan"])
def test_passes_cost_as_many_without_gradient_before_them(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, overrides: tuple[str, ...]
) -> None:
    recipe = tiny_recipe(*overrides, "vae.training.accumulate=2", "vae.training.precision=fp32")
    task = VaeTask(tiny_shards, [0, 1], [], recipe.vae, recipe.seed)
    batch, parts = task.batch(0, 0, range(2)), own_parts(recipe.vae.training, ALONE)  # one by one

    def passes() -> torch.Tensor:
        batch_gradient(lambda piece, part: task.loss(piece, 3, part), batch, parts, ALONE, task.networks, counted=True)
        return torch.zeros((), requires_grad=True)

    assert measured(passes, task.networks.parameters()).operations == 2 * vae_cost(recipe).operations


MUON = ("vae.training.optimiser=muon",)


@pytest.mark.parametrize(
    "overrides",
    [(), (*GAN, "vae.losses.adversarial=1"), LATENTS, MUON, (*LATENTS, *MUON)],
    ids=["plain", "gan", "taught", "muon", "taught by muon"],
)
def test_a_training_keeps_as_many_bytes_as_are_counted(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, overrides: tuple[str, ...]
) -> None:
    """After one step: weights, gradients, moments and averages, without AdamW's counts of steps."""
    recipe = tiny_recipe(*overrides)
    vae = VaeTask(tiny_shards, [0, 1], [], recipe.vae, recipe.seed)
    posteriors = torch.zeros(2, len(tiny_shards.objects), 3, 2, 4, 4)
    task = LatentTask(vae, *posteriors) if set(LATENTS) <= set(overrides) else vae
    ema, optimiser = Ema(task.networks, 0.9), build_optimiser(task.networks, recipe.vae.training)
    task.loss(task.batch(0, 0, range(2)), 3)[0].backward()
    optimiser.step()
    kept: list[torch.Tensor] = [*task.networks.parameters(), *ema.weights.values()]
    kept += [p.grad for p in task.networks.parameters() if p.grad is not None]
    kept += [t for name, t in optimiser_tensors(optimiser, task.networks).items() if not name.endswith("/step")]
    counted = vae_state_bytes(recipe, task.networks)
    heads = discriminator_weights(recipe)
    assert sum(tensor.nbytes for tensor in kept) == counted - 16 * heads.trained - 4 * heads.frozen
    assert (heads.trained > 0) == (vae.discriminators is not None)


def test_checkpointing_costs_operations_and_saves_bytes(tiny_recipe: RecipeOf) -> None:
    deep = ("vae.decoder.depth=6",)
    plain, saving = (
        vae_cost(tiny_recipe(*deep, f"vae.training.gradient_checkpointing={flag}")) for flag in ("false", "true")
    )
    assert saving.operations > plain.operations
    assert saving.saved_bytes < plain.saved_bytes


def test_hours_are_operations_over_eight_gpus_at_the_stated_share_of_their_peak(tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe("vae.training.steps=1000", "vae.training.batch=12")
    cost, figures = vae_cost(recipe), estimate(recipe)
    assert figures["operations_per_step"] == 12 * cost.operations
    seconds = 1000 * 12 * cost.operations / (8 * 0.4 * 312e12)
    assert figures["hours_on_8_a100"] == pytest.approx(seconds / 3600)
    assert figures["utilisation"] == 0.4
    weights = count_parameters(Autoencoder(recipe.vae))
    assert figures["bytes_per_gpu"] == 20 * weights + 2 * cost.saved_bytes  # 12 objects on 8: two on some
    half = estimate(tiny_recipe("vae.training.steps=1000", "vae.training.batch=12", "vae.training.accumulate=2"))
    assert figures["bytes_per_gpu"] - half["bytes_per_gpu"] == cost.saved_bytes  # one at a time, twice
    assert "paper_hours_both_stages" not in figures
    whole = estimate(tiny_recipe("vae.training.steps=800000", "vae.training.precision=fp32"))
    assert whole["paper_hours_both_stages"] == 168
    exact = vae_cost(tiny_recipe("vae.training.precision=fp32"))
    assert whole["hours_on_8_a100"] == pytest.approx(800_000 * 2 * exact.operations / (8 * 0.4 * 19.5e12) / 3600)


def test_what_muon_multiplies_is_counted_once_a_step(tiny_recipe: RecipeOf) -> None:
    """Five times a matrix by its transpose, that product by itself, and both by the matrix: 2 m (2 m n + m m) each."""
    recipe = tiny_recipe("vae.training.batch=12", *MUON)
    matrices = muon_matrices(Autoencoder(recipe.vae), recipe.vae.training).values()
    sides = [sorted(matrix.flatten(1).shape) for matrix in matrices]
    expected = sum(5 * 2 * m * (2 * m * n + m * m) for m, n in sides)
    assert expected > 0
    assert estimate(recipe)["operations_per_step"] == 12 * vae_cost(recipe).operations + expected


def test_discriminators_need_memory_for_their_heads_and_for_what_they_look_at(tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(*GAN, "vae.losses.adversarial=1")
    heads, cost, figures = discriminator_weights(recipe), vae_cost(recipe), estimate(recipe)
    assert heads.frozen == 27 * 16 + 9 * 16 * 32
    weights = count_parameters(Autoencoder(recipe.vae))
    assert figures["bytes_per_gpu"] == 20 * weights + 16 * heads.trained + 4 * heads.frozen + cost.saved_bytes
    both = discriminator_weights(tiny_recipe(*GAN, "vae.losses.adversarial=1", "vae.losses.adversarial_novel=1"))
    assert both == (2 * heads.trained, heads.frozen)
    assert discriminator_weights(tiny_recipe()) == (0, 0)
    plain = vae_cost(tiny_recipe(*GAN))
    assert cost.operations > plain.operations and cost.saved_bytes > plain.saved_bytes


def test_the_perceptual_network_needs_memory_and_pictures_that_it_can_compare(tiny_recipe: RecipeOf) -> None:
    without, recipe = (tiny_recipe(*LPIPS, f"vae.losses.lpips={weight}") for weight in (0, 1))
    networks = Autoencoder(recipe.vae)
    convolutions = 14_714_688  # of VGG-16 (Simonyan and Zisserman 2015), biases among them
    heads, scaling = 64 + 128 + 256 + 512 + 512, 6
    assert vae_state_bytes(recipe, networks) - vae_state_bytes(without, networks) == 4 * (
        convolutions + heads + scaling
    )
    assert vae_cost(recipe).saved_bytes > vae_cost(without).saved_bytes
    with pytest.raises(RecipeError, match="LPIPS on vgg compares pictures of at least 16 pixels, not 8"):
        estimate(tiny_recipe(*LPIPS, "vae.supervision.kind=crop", "vae.supervision.crop=8"))


@pytest.mark.parametrize(
    ("overrides", "rays"),
    [
        ((), 48),
        (("vae.supervision.kind=crop", "vae.supervision.crop=8"), 3 * 64),
        (("vae.supervision.kind=full",), 3 * 256),
        (("vae.supervision.kind=full", "vae.supervision.resolution=8"), 3 * 64),
    ],
)
def test_rays_are_those_of_a_batch(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, overrides: tuple[str, ...], rays: int
) -> None:
    recipe = tiny_recipe(*overrides)
    assert rays_per_object(recipe) == rays
    task = VaeTask(tiny_shards, [0], [], recipe.vae, 0)
    assert task.batch(0, 0, range(1))["origins"].shape == (1, rays, 3)
