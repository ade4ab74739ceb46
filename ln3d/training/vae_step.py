"""One step of stage 1: encode, sample, decode, render the chosen rays, compare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import FrozenMaps
from ln3d.backbones.frozen_names import check_frozen_maps, load_frozen_maps
from ln3d.backbones.perceptual import Lpips, load_lpips
from ln3d.config.training import TrainingConfig
from ln3d.config.vae import SupervisionConfig, VaeConfig
from ln3d.data.batches import VaeBatches
from ln3d.data.shards import ShardSet
from ln3d.data.subsets import spread
from ln3d.errors import RecipeError
from ln3d.geometry.sampling import Jitter
from ln3d.losses.kl import kl_divergence
from ln3d.losses.reconstruction import psnr_of
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder_start import check_start, start_from_blocks
from ln3d.models.discriminator import Shown, ViewDiscriminators
from ln3d.models.posterior import Posterior
from ln3d.rendering.volume import Rendered
from ln3d.training.adversarial_step import (
    build_discriminators,
    check_pictures,
    contest,
    discriminator_training,
    view_kinds,
)
from ln3d.training.parts import WHOLE, Part
from ln3d.training.reconstruction import evaluation_views, reconstruct, views_of
from ln3d.training.vae_losses import averages_over_hits, loss_weights, pictures_of, render_terms, weighted_sum
from ln3d.training.vae_rendering import radiance, training_render

_VALIDATED = 4  # objects of each split looked at during training


@dataclass
class VaeTask:
    """Stage 1 as the loop sees it; `train` and `validation` are indices into the shards.

    `perceptual` is the network of the perceptual loss, a distance of pictures (b 3 h w) in [0, 1] each from its
    own reference; where it is not given and the recipe asks for it, it is LPIPS. `frozen` is the network that
    discriminators look at; where it is not given and the recipe asks for it, it is the one that the recipe names.
    """

    shards: ShardSet
    train: Sequence[int]
    validation: Sequence[int]
    config: VaeConfig
    seed: int
    perceptual: nn.Module | None = None
    frozen: FrozenMaps | None = None
    networks: Autoencoder = field(init=False)
    discriminators: ViewDiscriminators | None = field(init=False, default=None)
    discriminator_training: TrainingConfig = field(init=False)
    decoder_start: str | None = field(init=False, default=None)
    """Hash of the weights that the decoder's blocks started from, where they did from any."""

    def __post_init__(self) -> None:
        """Build the networks, from the seed and the pretrained blocks that the recipe names.

        Raises RecipeError for crops that are too large, or too small for the frozen networks that look at them, and for
        blocks that do not fit, and WeightsError where weights of these are missing.
        """
        check_networks(self.config)
        side = picture_side(self.config.supervision, self.shards.resolution)
        if self.config.losses.lpips > 0 and self.perceptual is None:
            self.perceptual = load_lpips(self.config.losses.lpips_net)
            check_lpips(self.perceptual, side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.networks = Autoencoder(self.config)
        if self.config.decoder.initial is not None:
            self.decoder_start = start_from_blocks(self.networks.decoder, self.config.decoder.initial)
        self.discriminator_training = discriminator_training(self.config)
        if view_kinds(self.config):
            self.discriminators = self._discriminators(side)
        self.batch = VaeBatches(self.shards, self.train, self.config, self.seed)

    @property
    def weighted(self) -> bool:
        """Whether a term with a weight is a mean over what is hit, and not over samples."""
        return averages_over_hits(self.config.losses)

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the stage-1 losses of a batch, or part of one, and each of them unweighted."""
        posterior = self.networks.encode(views_of(batch))
        latent = posterior.sample(self._noise(posterior, step, part))
        planes = self.networks.decode(latent)
        jitter = part.generators(self.seed, step, "jitter", len(latent))
        rendered = self.look(planes, batch["origins"], batch["directions"], jitter, batch["hint"])
        terms = render_terms(rendered, radiance(self.networks, planes), batch, self.config, part, self.perceptual)
        terms["kl"] = kl_divergence(posterior.mean, posterior.log_variance)
        lessons: dict[str, Tensor] = {}
        if self.discriminators is not None and step >= self.config.discriminators.start:
            shown = self._shown(rendered, planes, batch, step, part)
            fooling, lessons = contest(self.discriminators, shown, self.config.discriminators, step)
            terms.update(fooling)
        total = weighted_sum(terms, loss_weights(self.config.losses, step))
        for lesson in lessons.values():
            total = total + (lesson - lesson.detach())  # without its value: its gradient is the discriminators' alone
        return total, {name: term.detach() for name, term in (terms | lessons).items()}

    def look(
        self,
        planes: Float[Tensor, "b 3 c h w"],
        origins: Float[Tensor, "b r 3"],
        directions: Float[Tensor, "b r 3"],
        jitter: Jitter,
        hint: Float[Tensor, "b r"] | None = None,
    ) -> Rendered:
        """Return what rays see of feature planes in training; `hint` is the depth of the first surface, if known."""
        return training_render(self.networks, planes, origins, directions, self.config, jitter=jitter, hint=hint)

    def _discriminators(self, side: int) -> ViewDiscriminators:
        own = self.config.discriminators
        frozen = load_frozen_maps(own.backbone, own.levels) if self.frozen is None else self.frozen
        check_pictures(frozen, self.config, side)
        return build_discriminators(frozen, self.config, self.seed)

    def _shown(self, rendered: Rendered, planes: Tensor, batch: dict[str, Tensor], step: int, part: Part) -> Shown:
        """Return what discriminators look at, rendering the novel view that no picture shows where there is one."""
        imagined = None
        if self.config.imagines_views:
            origins, directions = batch["imagined_origins"], batch["imagined_directions"]
            jitter = part.generators(self.seed, step, "imagined jitter", len(origins))
            imagined = self.look(planes, origins, directions, jitter).colour
        return shown_pictures(batch["colour"], rendered.colour, imagined, self.config.supervision)

    def _noise(self, posterior: Posterior, step: int, part: Part) -> Float[Tensor, "b 3 c h w"]:
        count, *shape = posterior.mean.shape
        own = part.generators(self.seed, step, "posterior", count)
        return torch.stack([torch.randn(shape, generator=each) for each in own]).to(posterior.mean.device)

    def validate(self) -> dict[str, float]:
        """Return the PSNR in dB of held-out views, on white, of a few training and validation objects."""
        figures = {}
        for name, objects in {"train": self.train, "validation": self.validation}.items():
            if objects:
                figures[f"psnr_{name}"] = self._psnr(spread(objects, _VALIDATED))
        return figures

    def _psnr(self, objects: Sequence[int]) -> float:
        inputs, targets = evaluation_views(self.config, self.shards)
        pictures = self.batch.pictures
        errors = []
        for index in objects:
            colour, _, _ = reconstruct(self.networks, pictures, index, inputs, targets[:1])
            truth, _, _ = pictures.stack(index, targets[:1], None)
            errors.append((colour.cpu() - torch.from_numpy(truth)).square().mean())
        return psnr_of(torch.stack(errors))


def check_networks(config: VaeConfig) -> None:
    """Raise RecipeError for pretrained networks that discriminators cannot look at, or a decoder cannot start from."""
    if view_kinds(config):
        check_frozen_maps(config.discriminators.backbone)
    if config.decoder.initial is not None:
        check_start(config.decoder, config.decoder.initial)


def picture_side(config: SupervisionConfig, stored: int) -> int:
    """Return the side of the supervised pictures where the data's is `stored`; RecipeError for too large a crop."""
    side = min(config.resolution or stored, stored)
    if config.kind == "crop" and config.crop > side:
        raise RecipeError(
            f"a crop of {config.crop} pixels does not fit into views of {side}",
            f"lower vae.supervision.crop to at most {side}, or set vae.supervision.kind=full",
        )
    return config.crop if config.kind == "crop" else side


def check_lpips(network: Lpips, side: int) -> None:
    """Raise RecipeError where LPIPS cannot compare pictures of `side` pixels."""
    if side < network.smallest:
        raise RecipeError(
            f"LPIPS on {network.name} compares pictures of at least {network.smallest} pixels, not {side}",
            "raise vae.supervision.crop, or vae.supervision.resolution where whole views are compared",
        )


def shown_pictures(
    truth: Float[Tensor, "b r 3"],
    colour: Float[Tensor, "b r 3"],
    imagined: Float[Tensor, "b s 3"] | None,
    config: SupervisionConfig,
) -> Shown:
    """Return what discriminators look at: of the supervised views, and of one that is `imagined` instead of novel."""
    views, inputs = config.input_views + config.novel_views, config.input_views
    true, drawn = (
        rearrange(pictures_of(rays, config), "(b v) c h w -> b v c h w", v=views) for rays in (truth, colour)
    )
    if imagined is None:
        novel = drawn[:, inputs:].flatten(0, 1)
    else:
        novel = rearrange(imagined, "b (h w) c -> b c h w", h=math.isqrt(imagined.shape[1]))
    return Shown(true[:, :inputs].flatten(0, 1), drawn[:, :inputs].flatten(0, 1), novel)
