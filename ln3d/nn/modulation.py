"""Adaptive layer normalisation: a condition scales, shifts and gates the tokens (Peebles & Xie 2023, section 3.2)."""

from jaxtyping import Float
from torch import Tensor, nn


def modulate(
    x: Float[Tensor, "b l d"], shift: Float[Tensor, "b #l d"], scale: Float[Tensor, "b #l d"]
) -> Float[Tensor, "b l d"]:
    """Return `x * (1 + scale) + shift`; shift and scale are per token, or per sample with l = 1."""
    return x * (1 + scale) + shift


def zeroed(layer: nn.Linear) -> nn.Linear:
    """Return `layer` with weights and bias set to zero, so that what it feeds starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def plain_norm(width: int) -> nn.LayerNorm:
    """Return a LayerNorm without weights of its own: the modulation that follows it provides them."""
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
