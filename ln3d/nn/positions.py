"""Fixed embeddings of places and of times."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.errors import RecipeError

_HIGHEST_TIME_FREQUENCY = 1000.0  # radians per unit of time: neighbouring steps of a 1000-step grid stay apart


def sincos_2d(h: int, w: int, width: int) -> Float[Tensor, "tokens width"]:
    """Return sine-cosine codes of an h x w grid, row by row, `(h*w, width)` in [-1, 1].

    The first half of the channels codes the row, the second the column, each with geometric wavelengths
    from 2 pi to 20000 pi cells (Vaswani et al. 2017, section 3.5, per axis). Raises RecipeError unless
    4 divides `width`.
    """
    if width % 4:
        raise RecipeError(f"a width of {width} cannot hold 2-D positions", "choose a width that 4 divides")
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    codes = [_waves(place.flatten().double(), frequencies) for place in (rows, columns)]
    return torch.cat(codes, dim=-1).float()


def timestep_embedding(t: Float[Tensor, "b"], width: int) -> Float[Tensor, "b width"]:
    """Return sine-cosine codes of times `t` in [0, 1], unscaled, as `(b, width)` in [-1, 1].

    Frequencies are geometric from 1 to 1000 radians per unit of time, so that the slowest wave orders
    the whole interval and the fastest tells neighbouring solver steps apart. An odd `width` is a ValueError.
    """
    if width % 2:
        raise ValueError(f"sine-cosine codes come in pairs: {width} is odd")
    exponents = torch.linspace(0, 1, width // 2, device=t.device, dtype=torch.float32)
    return _waves(t.float(), torch.exp(exponents * math.log(_HIGHEST_TIME_FREQUENCY)))


def _waves(values: Tensor, frequencies: Tensor) -> Tensor:
    angles = values[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
