"""The KL term of stage 1 and its ramp; the distance of two posteriors."""

import torch
from jaxtyping import Float
from torch import Tensor


def kl_divergence(mean: Float[Tensor, "b *latent"], log_variance: Float[Tensor, "b *latent"]) -> Float[Tensor, ""]:
    """Return KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, summed over the latent, mean over the batch."""
    terms = mean.square() + torch.exp(log_variance) - 1.0 - log_variance
    return 0.5 * terms.flatten(1).sum(dim=1).mean()


def divergence_from(
    mean: Float[Tensor, "b *latent"],
    log_variance: Float[Tensor, "b *latent"],
    target_mean: Float[Tensor, "b *latent"],
    target_log_variance: Float[Tensor, "b *latent"],
) -> Float[Tensor, ""]:
    """Return KL(N(mean, exp(log_variance)) || the target's) in nats per number of the latent, mean over the batch.

    An error of the mean counts in standard deviations of the target: little where the target was not sure itself.
    """
    ratio = log_variance - target_log_variance
    errors = (mean - target_mean).square() * torch.exp(-target_log_variance)
    return 0.5 * (errors + torch.exp(ratio) - 1.0 - ratio).mean()


def kl_weight(step: int, final: float, start: int, end: int, initial: float | None = None) -> float:
    """Return the KL weight at `step`: `initial` until `start`, then linear up to `final` at `end`.

    Without `initial` the ramp begins at max(1e-9, final / 1e4), never above `final`.
    """
    low = min(max(1e-9, final / 1e4), final) if initial is None else initial
    progress = 1.0 if end <= start else min(max((step - start) / (end - start), 0.0), 1.0)
    return low + (final - low) * progress if step >= start else low
