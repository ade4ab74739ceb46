"""One step of the encoder alone, which is taught posteriors that another one gave: nothing is decoded or rendered."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.losses.kl import divergence_from
from ln3d.models.autoencoder import Autoencoder
from ln3d.training.parts import WHOLE, Part
from ln3d.training.reconstruction import views_of
from ln3d.training.vae_step import VaeTask

FROZEN = ("decoder", "upsampler", "head")
"""What turns latents into pictures: the other VAE's, as it is."""


@dataclass
class LatentTask:
    """The encoder of `vae` as the loop sees it, the rest of whose networks stays as it is.

    `mean` and `log_variance` (n 3 c h w) are the posteriors that it is taught, of every object of the shards in their
    order. Which views it is shown is drawn as for pictures, so it learns to give one object one posterior.
    """

    vae: VaeTask
    mean: Float[Tensor, "n 3 c h w"]
    log_variance: Float[Tensor, "n 3 c h w"]
    weighted = False

    def __post_init__(self) -> None:
        """Freeze all but the encoder."""
        for part in FROZEN:
            self.networks.get_submodule(part).requires_grad_(False)

    @property
    def networks(self) -> Autoencoder:
        """Those of the VAE."""
        return self.vae.networks

    def batch(self, step: int, retries: int, samples: range) -> dict[str, Tensor]:
        """Return the part `samples` of the batch of `step`: what the encoder sees, and `object`, whose it is."""
        return self.vae.batch(step, retries, samples)

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the divergence from the taught posteriors in nats per number, and the error of the mean alone."""
        posterior = self.networks.encode(views_of(batch))
        objects = batch["object"].cpu()
        mean, log_variance = (taught[objects].to(posterior.mean.device) for taught in (self.mean, self.log_variance))
        divergence = divergence_from(posterior.mean, posterior.log_variance, mean, log_variance)
        error = (posterior.mean.detach() - mean).square().mean().sqrt()
        return divergence, {"latent_error": error}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the PSNR of held-out views through the frozen decoder, as stage 1 has it."""
        return self.vae.validate()
