"""Classifier-free guidance (Ho & Salimans 2022): lean towards the condition and away from its absence."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Conditional = Callable[..., Tensor]
"""Velocity of `(z, t, *condition)`, where every tensor has the batch as its first dimension."""


def combine(
    conditional: Float[Tensor, "*shape"], unconditional: Float[Tensor, "*shape"], scale: float
) -> Float[Tensor, "*shape"]:
    """Return s * conditional + (1 - s) * unconditional: s = 1 is the condition alone, s > 1 overshoots it."""
    return scale * conditional + (1 - scale) * unconditional


def guided(
    network: Conditional, condition: Sequence[Tensor], null: Sequence[Tensor], scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the guided velocity as a function of state (b ...) and one time, for the samplers.

    Both passes run as one doubled batch; with `scale` 1 the unconditional pass is skipped.
    `condition` and `null` are tensors of the same shapes, batch first; both may be empty.
    """
    together = [torch.cat(pair) for pair in zip(condition, null, strict=True)]

    def alone(z: Tensor, t: Tensor) -> Tensor:
        return network(z, t.expand(len(z)), *condition)

    def both(z: Tensor, t: Tensor) -> Tensor:
        outputs = network(torch.cat([z, z]), t.expand(2 * len(z)), *together)
        conditional, unconditional = outputs.chunk(2)
        return combine(conditional, unconditional, scale)

    return both if together and scale != 1 else alone
