"""One step of stage 2: noise the latents, predict the velocity, compare."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.backbones.token_embeddings import TextEncoder
from ln3d.config.diffusion import DiffusionConfig
from ln3d.config.vae import LatentConfig
from ln3d.data.latents import LatentSet
from ln3d.diffusion import flow
from ln3d.models.dit import Denoiser, build_denoiser
from ln3d.seeding import key_seed
from ln3d.training.diffusion_batches import DiffusionBatches
from ln3d.training.parts import WHOLE, Part

_VALIDATED = 128  # samples, in parts of this many:
_PART = 32


@dataclass
class DiffusionTask:
    """Stage 2 as the loop sees it; `train` and `held_out` are indices into the latents."""

    latents: LatentSet
    train: Sequence[int]
    held_out: Sequence[int]
    config: DiffusionConfig
    latent: LatentConfig
    seed: int
    encoder: TextEncoder | None
    """The frozen text encoder; None for an unconditional model."""
    networks: Denoiser = field(init=False)
    batch: DiffusionBatches = field(init=False)
    weighted = False

    def __post_init__(self) -> None:
        """Build the networks, from the seed alone. Raises RecipeError for what is not built."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_seed(self.seed, "denoiser"))
            self.networks = build_denoiser(self.config, self.latent)
        self.batch = self._batches(self.train)

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a batch, or of a part of one; there are no further figures."""
        return flow_losses(self.networks, batch).mean(), {}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss on objects of each split with fixed noise and times: comparable between steps and runs."""
        splits = {"flow_train": self.train, "flow_held_out": self.held_out}
        return {name: self._mean_loss(objects) for name, objects in splits.items() if objects}

    def _mean_loss(self, objects: Sequence[int]) -> float:
        batch = self._batches(objects).fixed(_VALIDATED)
        device = next(self.networks.parameters()).device
        parts = [
            flow_losses(self.networks, {name: tensor[chosen].to(device) for name, tensor in batch.items()})
            for chosen in torch.arange(_VALIDATED).split(_PART)
        ]
        return float(torch.cat(parts).mean())

    def _batches(self, objects: Sequence[int]) -> DiffusionBatches:
        return DiffusionBatches(self.latents, objects, self.config, self.seed, self.encoder)


def flow_losses(denoiser: Denoiser, batch: dict[str, Tensor]) -> Float[Tensor, "b"]:
    """Return the rectified-flow loss of every sample of a batch (see `DiffusionBatches` for its keys)."""
    z = flow.interpolate(batch["data"], batch["noise"], batch["t"])
    condition = denoiser.conditioner(batch["tokens"], batch["mask"]) if denoiser.conditioner is not None else ()
    return flow.loss(denoiser(z, batch["t"], *condition), batch["data"], batch["noise"])
