"""How smooth the rendered surface is."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ln3d.losses.reconstruction import Denominator, at_least_one

_COVERED = 0.5  # opacity from which a pixel's depth is a surface's
_FLAT = 1e-8  # squared world units: neighbours that span less have no normal


def surface_normals(points: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h-1 w-1"]:
    """Return unit normals of the surface through `points`, from each pixel's neighbours to the right and below.

    Of points seen by an OpenCV camera they point away from it. Zero where the three points are one.
    """
    corner = points[..., :-1, :-1]
    across, down = points[..., :-1, 1:] - corner, points[..., 1:, :-1] - corner
    return F.normalize(torch.linalg.cross(across, down, dim=1), dim=1, eps=_FLAT)


def normal_smoothness(
    points: Float[Tensor, "n 3 h w"],
    alpha: Float[Tensor, "n h w"],
    picture: Float[Tensor, "n 3 h w"],
    denominator: Denominator = at_least_one,
) -> Float[Tensor, ""]:
    """Return the mean of 1 - cos of the angle between neighbouring normals, over what is covered; 0 where nothing is.

    `points` are rendered surface points of n pictures, `alpha` their opacity. A pair weighs
    exp(-|difference of the picture there|): an edge of the picture may be one of the surface (Godard et al. 2017,
    eq. 6, there for disparity).
    """
    normals = surface_normals(points)
    covered = (alpha.detach() > _COVERED).to(points.dtype)
    seen = covered[:, :-1, :-1] * covered[:, :-1, 1:] * covered[:, 1:, :-1]
    inner = picture[..., :-1, :-1]
    turns, weights = zip(*(_turns(normals, seen, inner, dim) for dim in (-1, -2)), strict=True)
    total = torch.stack([weight.sum() for weight in weights]).sum()
    return torch.stack(turns).sum() / denominator(total)


def _turns(
    normals: Float[Tensor, "n 3 h w"], seen: Float[Tensor, "n h w"], picture: Float[Tensor, "n 3 h w"], dim: int
) -> tuple[Float[Tensor, ""], Float[Tensor, "n h2 w2"]]:
    """Return the weighted sum of 1 - cos of neighbours along `dim`, and the weights."""
    length = normals.shape[dim] - 1
    one, other = normals.narrow(dim, 0, length), normals.narrow(dim, 1, length)
    edge = (picture.narrow(dim, 1, length) - picture.narrow(dim, 0, length)).abs().mean(dim=1)
    weight = seen.narrow(dim, 0, length) * seen.narrow(dim, 1, length) * torch.exp(-edge)
    return (weight * (1 - (one * other).sum(dim=1))).sum(), weight
