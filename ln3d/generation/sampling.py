"""From seeds and condition tokens to latents: one noise per seed, one ODE per batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ln3d.diffusion.guidance import guided
from ln3d.diffusion.samplers import SAMPLERS, time_grid
from ln3d.models.dit import Denoiser
from ln3d.seeding import generator

_BATCH = 16  # samples that are integrated together; more gains little and costs memory


def noise_of(seed: int, shape: Sequence[int]) -> Float[Tensor, "..."]:
    """Return standard normal numbers that depend on `seed` and `shape` alone, on the CPU."""
    return torch.randn(tuple(shape), generator=generator(seed, "sample"))


@torch.no_grad()
def sample_standardised(
    denoiser: Denoiser,
    noise: Float[Tensor, "n 3 c h w"],
    text: tuple[Float[Tensor, "n l d"], Bool[Tensor, "n l"]] | None,
    *,
    steps: int,
    guidance: float,
    method: str,
) -> Float[Tensor, "n 3 c h w"]:
    """Return standardised latents: `noise` carried from t = 1 to t = 0, in fp32.

    `text` holds frozen tokens and their mask (a row without any is sampled under the null condition);
    it is None for an unconditional denoiser. `method` is a key of `SAMPLERS`.
    """
    parts = []
    for chosen in torch.arange(len(noise)).split(_BATCH):
        condition: tuple[Tensor, ...] = ()
        null: tuple[Tensor, ...] = ()
        if denoiser.conditioner is not None and text is not None:
            tokens, mask = (tensor[chosen] for tensor in text)
            condition = denoiser.conditioner(tokens, mask)
            null = denoiser.conditioner(tokens, torch.zeros_like(mask))
        velocity = guided(denoiser, condition, null, guidance)
        times = time_grid(steps).to(noise.device)
        parts.append(SAMPLERS[method](velocity, noise[chosen], times))
    return torch.cat(parts)
