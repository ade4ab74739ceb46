"""What stage 1 costs before it is begun: operations and memory, counted on tensors without contents, and hours."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.module_tracker import ModuleTracker

from ln3d.backbones.frozen_maps import AnyFrozen
from ln3d.backbones.frozen_names import untrained_maps
from ln3d.backbones.perceptual import Lpips, untrained_lpips
from ln3d.config.recipe import Recipe
from ln3d.config.training import TrainingConfig
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.models.discriminator import ViewDiscriminators
from ln3d.models.encoder import AlignedEncoder
from ln3d.models.posterior import Posterior
from ln3d.models.views import Views
from ln3d.nn.attention import fused_attention
from ln3d.training.adversarial_step import build_discriminators, contest, view_kinds
from ln3d.training.latent_step import FROZEN
from ln3d.training.muon import orthogonalised
from ln3d.training.optimiser import muon_matrices
from ln3d.training.vae_losses import pictures_of
from ln3d.training.vae_rendering import radiance, training_render
from ln3d.training.vae_step import check_lpips, shown_pictures

GPUS = 8
UTILISATION = 0.4
"""Share of the peak that a well-made training reaches; stated, not measured."""
PEAK = {"bf16": 312e12, "fp32": 19.5e12}
"""Operations per second of an A100, dense (NVIDIA's data sheet); fp32 without TF32, which would blur the geometry."""
PAPER_STEPS, PAPER_DAYS = 800_000, 7
"""LN3Diff: iterations of each stage, and days on 8 A100 for both stages together."""
_STATE_BYTES = 20  # per weight, in fp32: itself, its gradient, AdamW's two moments, the moving average
_STILL_BYTES = 8  # of one that does not learn: itself and the moving average
_HEAD_BYTES = 16  # of one of discriminators, which have no moving average
_MOMENT_BYTES = 4  # Muon has one moment where AdamW has two


class Cost(NamedTuple):
    """The cost of one forward and backward pass."""

    operations: int
    """Multiplications and additions in matrix products and convolutions."""
    saved_bytes: int
    """What the forward pass keeps for the backward pass, weights apart."""


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


_CPU_ATTENTION = {  # the CPU's fused kernel, which the counter does not know by itself
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


class _Untracked(ModuleTracker):
    """Sees no modules: totals are all that is asked for, and its hooks forbid gradients of gradients."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _counter() -> FlopCounterMode:
    counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    counter.mod_tracker = _Untracked()
    return counter


def measured(loss: Callable[[], Tensor], parameters: Iterable[Tensor]) -> Cost:
    """Return the cost of the scalar that `loss` returns and of its gradient; its tensors need no contents.

    Attention is that of GPUs.
    """
    weights = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that no other storage takes its address
        return tensor

    with _counter() as counter, fused_attention():
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            value = loss()
        value.backward()
    return Cost(counter.get_total_flops(), sum(storage.nbytes() for storage in kept.values()))


class _Cast(NamedTuple):
    """The networks of a training step."""

    autoencoder: Autoencoder
    discriminators: ViewDiscriminators | None
    perceptual: Lpips | None


def vae_cost(recipe: Recipe) -> Cost:
    """Return the cost of one object in a training step of stage 1, in the recipe's precision.

    The penalty on discriminators' slopes counts as often as it is computed, and what it keeps counts whole. Where
    passes are accumulated, those without gradient that come before them are counted. With gradient checkpointing the
    second forward pass is counted among the operations, and what it keeps meanwhile is not among the bytes.
    RecipeError where pictures are too small for the perceptual network.
    """
    config = recipe.vae
    frozen = _frozen_network(recipe)
    sloped = frozen is not None and config.discriminators.r1 > 0
    with FakeTensorMode(allow_non_fake_inputs=True):
        cast = _Cast(Autoencoder(config).train(), _discriminators(frozen, recipe), _perceptual(recipe))
        weights = [module for module in (*cast, frozen) if module is not None]
        parameters = [tensor for module in weights for tensor in (*module.parameters(), *module.buffers())]
        plain = measured(lambda: _pass(cast, recipe), parameters)
        dearest = measured(lambda: _pass(cast, recipe, slopes=True), parameters) if sloped else plain
        counted = config.training.accumulate > 1 and config.supervision.kind != "latents"
        before = _forward_operations(lambda: _pass(cast, recipe)) if counted else 0
    slopes = (dearest.operations - plain.operations) // config.discriminators.r1_every
    return Cost(before + plain.operations + slopes, dearest.saved_bytes)


@torch.no_grad()
def _forward_operations(loss: Callable[[], Tensor]) -> int:
    with _counter() as counter:
        loss()
    return int(counter.get_total_flops())


class Heads(NamedTuple):
    """What discriminators consist of, in weights."""

    trained: int
    frozen: int
    """Of the network that they look at."""


NO_HEADS = Heads(0, 0)


def discriminator_weights(recipe: Recipe) -> Heads:
    """Return how many weights the discriminators of a recipe have, and the network behind them; zeros for none."""
    frozen = _frozen_network(recipe)
    if frozen is None:
        return NO_HEADS
    with torch.device("meta"):
        trained = count_parameters(build_discriminators(frozen, recipe.vae, recipe.seed))
    return Heads(trained, sum(tensor.numel() for tensor in (*frozen.parameters(), *frozen.buffers())))


def state_bytes(learning: int, still: int = 0, heads: Heads = NO_HEADS, matrices: int = 0) -> int:
    """Return the bytes of a training's state: of weights that learn, of those that stay, and of discriminators.

    `matrices` says how many of those that learn are updated by Muon.
    """
    networks = _STATE_BYTES * learning + _STILL_BYTES * still - _MOMENT_BYTES * matrices
    return networks + _HEAD_BYTES * heads.trained + 4 * heads.frozen


def vae_state_bytes(recipe: Recipe, networks: Autoencoder) -> int:
    """Return the bytes of the state of stage 1, of whose `networks` a taught encoder alone learns.

    The frozen networks that look at pictures are part of it.
    """
    with torch.device("meta"):
        perceptual = _perceptual(recipe)
    looking = 0 if perceptual is None else 4 * sum(buffer.numel() for buffer in perceptual.buffers())
    taught = recipe.vae.supervision.kind == "latents"
    still = sum(count_parameters(networks.get_submodule(part)) for part in FROZEN) if taught else 0
    learning = networks.encoder if taught else networks
    matrices = muon_weights(learning, recipe.vae.training)
    return looking + state_bytes(count_parameters(networks) - still, still, discriminator_weights(recipe), matrices)


def muon_weights(networks: nn.Module, config: TrainingConfig) -> int:
    """Return how many weights Muon updates; `networks` need no contents."""
    return sum(matrix.numel() for matrix in muon_matrices(networks, config).values())


def orthogonalising_operations(networks: nn.Module, config: TrainingConfig) -> int:
    """Return the operations of Muon in one step, which the processes share; `networks` need no contents."""
    with _counter() as counter:
        for matrix in muon_matrices(networks, config).values():
            orthogonalised(torch.empty(matrix.flatten(1).shape, device="meta"))
    return int(counter.get_total_flops())


def _frozen_network(recipe: Recipe) -> AnyFrozen | None:
    """Return the network that the recipe's discriminators look at, without contents; None where there are none."""
    if not view_kinds(recipe.vae):
        return None
    return untrained_maps(recipe.vae.discriminators.backbone, recipe.vae.discriminators.levels)


def _perceptual(recipe: Recipe) -> Lpips | None:
    """Return the network of the perceptual loss, with zeros for weights; None where there is none."""
    losses = recipe.vae.losses
    if losses.lpips == 0:
        return None
    network = untrained_lpips(losses.lpips_net)
    check_lpips(network, math.isqrt(rays_per_object(recipe) // _supervised(recipe)))
    return network


def _discriminators(frozen: AnyFrozen | None, recipe: Recipe) -> ViewDiscriminators | None:
    if frozen is None:
        return None
    return build_discriminators(frozen.to_empty(device="cpu"), recipe.vae, recipe.seed)


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Return operations per step, bytes on each of 8 GPUs, and hours on 8 A100 at 40 % of their peak.

    Nothing is tuned: operations are counted, the peak is the data sheet's. Beside a training as long as the paper's
    stand the paper's hours, which are for both stages.
    """
    config = recipe.vae.training
    cost = vae_cost(recipe)
    with torch.device("meta"):
        networks = Autoencoder(recipe.vae)
    operations = cost.operations * config.batch + orthogonalising_operations(networks, config)
    speed = GPUS * PEAK[config.precision] * UTILISATION
    figures = {
        "operations_per_step": operations,
        "bytes_per_gpu": vae_state_bytes(recipe, networks)
        + cost.saved_bytes * math.ceil(config.batch / (GPUS * config.accumulate)),
        "hours_on_8_a100": config.steps * operations / speed / 3600,
        "utilisation": UTILISATION,
    }
    if config.steps >= PAPER_STEPS:
        figures["paper_hours_both_stages"] = 24 * PAPER_DAYS
    return figures


def _pass(cast: _Cast, recipe: Recipe, *, slopes: bool = False) -> Tensor:
    """Encode, decode, render and judge one object as a training step does; every output is part of the sum."""
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.vae.training.precision == "bf16"):
        return _outputs(cast, recipe, slopes)


def _outputs(cast: _Cast, recipe: Recipe, slopes: bool) -> Tensor:
    networks, discriminators, perceptual = cast
    config = recipe.vae
    side = config.encoder.resolution
    count = config.encoder.views
    views = Views(
        torch.empty(1, count, 3, side, side),
        torch.empty(1, count, side, side),
        torch.empty(1, count, 4, 4),
        torch.empty(1, count, 3, 3),
    )
    posterior = Posterior.from_parameters(_encoded(networks, views), config.latent.initial_log_variance)
    if config.supervision.kind == "latents":  # the encoder alone
        return posterior.mean.sum() + posterior.log_variance.sum()
    latent = posterior.sample(torch.empty_like(posterior.mean))
    planes = networks.decode(latent)
    origins, hint = torch.empty(1, rays_per_object(recipe), 3), torch.empty(1, rays_per_object(recipe))
    rendered = training_render(networks, planes, origins, origins, config, hint=hint)
    outputs = [*rendered, posterior.mean, posterior.log_variance]
    if config.losses.surface > 0:
        outputs.append(radiance(networks, planes)(origins)[1])
    if perceptual is not None:
        drawn = pictures_of(rendered.colour, config.supervision)
        outputs.append(perceptual(drawn, torch.empty_like(drawn)))
    if discriminators is not None:
        unseen = torch.empty(1, rays_per_object(recipe) // _supervised(recipe), 3)
        imagined = training_render(networks, planes, unseen, unseen, config).colour if config.imagines_views else None
        outputs.extend(_judgements(discriminators, rendered.colour, imagined, recipe, slopes))
    return torch.stack([output.sum() for output in outputs]).sum()


def _judgements(
    discriminators: ViewDiscriminators, colour: Tensor, imagined: Tensor | None, recipe: Recipe, slopes: bool
) -> Iterator[Tensor]:
    """Yield what discriminators tell both sides of rendered rays, with `slopes` at a step whose penalty is due."""
    shown = shown_pictures(torch.empty_like(colour), colour, imagined, recipe.vae.supervision)
    own = recipe.vae.discriminators
    for losses in contest(discriminators, shown, own if slopes else own.model_copy(update={"r1": 0.0}), own.start):
        yield from losses.values()


def _encoded(networks: Autoencoder, views: Views) -> Tensor:
    encoder = networks.encoder
    if not isinstance(encoder, AlignedEncoder):
        return encoder(views)
    # Lifting multiplies no matrices, and how many points it moves depends on the data: begin behind it.
    return encoder.encode_planes(torch.empty(1, *encoder.place.shape))


def rays_per_object(recipe: Recipe) -> int:
    """Return how many rays of an object a training step renders."""
    supervision, views = recipe.vae.supervision, _supervised(recipe)
    side = min(supervision.resolution or recipe.dataset.resolution, recipe.dataset.resolution)
    return {"rays": supervision.rays, "crop": views * supervision.crop**2, "full": views * side**2}[supervision.kind]


def _supervised(recipe: Recipe) -> int:
    return recipe.vae.supervision.input_views + recipe.vae.supervision.novel_views
