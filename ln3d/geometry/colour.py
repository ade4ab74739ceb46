"""Luma, and colour as a difference from it."""

from jaxtyping import Float
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma Y (ITU-R BT.601)."""


def stretch_chroma(colour: Float[Tensor, "*shape"], gain: float, dim: int = -1) -> Float[Tensor, "*shape"]:
    """Return Y + gain * (colour - Y), Y the luma over the three channels of `dim`: hues differ `gain` times as much.

    Most of the variance of real colours is luma; a loss in plain RGB is content with grey.
    """
    if gain == 1.0:
        return colour
    shape = [1] * colour.ndim
    shape[dim] = 3
    luma = (colour * colour.new_tensor(LUMA).reshape(shape)).sum(dim=dim, keepdim=True)
    return luma + gain * (colour - luma)
