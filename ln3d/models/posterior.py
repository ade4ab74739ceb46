"""The KL-regularised posterior over tri-plane latents."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_LOG_VARIANCE_RANGE = 20.0


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents (b, 3, c, h, w)."""

    mean: Float[Tensor, "b 3 c h w"]
    log_variance: Float[Tensor, "b 3 c h w"]

    @staticmethod
    def from_parameters(parameters: Float[Tensor, "b 3 c2 h w"], bias: float) -> "Posterior":
        """Split the 2c channels into mean and log-variance; the latter is shifted by `bias` and softly kept in +-20."""
        mean, log_variance = parameters.float().chunk(2, dim=2)
        bounded = _LOG_VARIANCE_RANGE * torch.tanh((log_variance + bias) / _LOG_VARIANCE_RANGE)
        return Posterior(mean, bounded)

    def sample(self, noise: Float[Tensor, "b 3 c h w"]) -> Float[Tensor, "b 3 c h w"]:
        """Return mean + standard deviation * noise (the re-parametrisation of Kingma and Welling 2014)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise
