"""Radiance fields: what a point of the scene box is made of."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ln3d.geometry.planes import sample_planes

Field = Callable[[Float[Tensor, "b n 3"]], tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]]
"""Points in the world -> (density per world unit, at least 0; sRGB colour in [0, 1]), both fp32.

The colour may be outside by up to 0.001; whoever stores it clips it."""

_COLOUR_REACH = 1.002
"""Colours are a sigmoid stretched by this, so that 0 and 1 are within reach (EG3D)."""
_PIECE = 65_536  # points per object that are computed again at once


def triplane_field(
    planes: Float[Tensor, "b 3 c h w"], head: nn.Module, density_scale: float, density_shift: float
) -> Field:
    """Return the field of feature planes and a `head` (b n c) -> (b n 4) of raw density and colour.

    Density is `density_scale` * softplus(raw - `density_shift`), 0 outside the box [-1, 1]^3. The head
    runs under the caller's autocast; everything else is fp32.
    """
    planes = planes.float()

    def field(points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
        raw = head(sample_planes(planes, points)).float()
        return activated(raw, points, density_scale, density_shift)

    return field


def checkpointed(field: Field) -> Field:
    """Return `field`, computed again in the backward pass, piece by piece: meanwhile only the points are kept."""

    def pieces(points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
        found = [checkpoint(field, some, use_reentrant=False) for some in points.split(_PIECE, dim=1)]
        density, colour = zip(*found, strict=True)
        return torch.cat(density, dim=1), torch.cat(colour, dim=1)

    return pieces


def activated(
    raw: Float[Tensor, "b n 4"], points: Float[Tensor, "b n 3"], density_scale: float, density_shift: float
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
    """Return density and colour of what a head says of `points`, as `triplane_field` defines them."""
    inside = points.abs().amax(dim=-1) <= 1
    density = torch.where(inside, density_scale * F.softplus(raw[..., 0] - density_shift), 0)
    colour = torch.sigmoid(raw[..., 1:]) * _COLOUR_REACH - (_COLOUR_REACH - 1) / 2
    return density, colour
