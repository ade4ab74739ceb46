"""How close a picture is to the real one: PSNR, SSIM, mask overlap, colour."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ln3d.geometry.colour import LUMA

_SMALLEST_ERROR = 1e-10  # so that equal images score 100 dB instead of infinity, which JSON cannot hold
_GAUSSIAN_SIGMA, _GAUSSIAN_RADIUS = 1.5, 5


def psnr(image: Float[Tensor, "b h w c"], reference: Float[Tensor, "b h w c"]) -> Float[Tensor, " b"]:
    """Return the peak signal-to-noise ratio of each image in dB, at most 100; values range over [0, 1]."""
    return _decibel((image - reference).square().mean(dim=(1, 2, 3)))


def masked_psnr(
    image: Float[Tensor, "b h w c"], reference: Float[Tensor, "b h w c"], mask: Bool[Tensor, "b h w"]
) -> Float[Tensor, " b"]:
    """Return the PSNR of each image in dB over the pixels of `mask` alone; NaN where the mask is empty."""
    error = (image - reference).square().mean(dim=-1) * mask
    return _decibel(error.sum(dim=(1, 2)) / mask.sum(dim=(1, 2)))


def mask_iou(mask: Bool[Tensor, "b h w"], reference: Bool[Tensor, "b h w"]) -> Float[Tensor, " b"]:
    """Return intersection over union of each pair of masks; 1 where both are empty."""
    union = (mask | reference).sum(dim=(1, 2))
    common = (mask & reference).sum(dim=(1, 2))
    return torch.where(union > 0, common / union.clamp(min=1), torch.ones_like(common, dtype=torch.float32))


def luma_chroma(image: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
    """Return (Y, Cb, Cr) of sRGB values in [0, 1], Cb and Cr in [-0.5, 0.5] (ITU-R BT.601, full range)."""
    luma = image @ image.new_tensor(LUMA)
    blue = (image[..., 2] - luma) / 1.772
    red = (image[..., 0] - luma) / 1.402
    return torch.stack([luma, blue, red], dim=-1)


def luma_chroma_psnr(
    image: Float[Tensor, "b h w 3"], reference: Float[Tensor, "b h w 3"], mask: Bool[Tensor, "b h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Return the PSNR in dB inside the mask of the luma and of both colour differences together.

    A grey picture of a coloured object keeps a good luma figure and a good plain PSNR: the second figure is the
    one that shows the lost hue.
    """
    ours, real = luma_chroma(image), luma_chroma(reference)
    return masked_psnr(ours[..., :1], real[..., :1], mask), masked_psnr(ours[..., 1:], real[..., 1:], mask)


def mean_colour(image: Float[Tensor, "b h w 3"], mask: Bool[Tensor, "b h w"]) -> Float[Tensor, "3"]:
    """Return the mean colour of the pixels of `mask`; white where there is none."""
    return image[mask].mean(dim=0) if mask.any() else torch.ones(3, dtype=image.dtype, device=image.device)


def filled(coverage: Float[Tensor, "b h w"], colour: Float[Tensor, "3"]) -> Float[Tensor, "b h w 3"]:
    """Return pictures of an outline filled with one colour, on white: what asks nothing of a model but the outline."""
    return coverage[..., None] * colour + (1 - coverage[..., None])


def ssim(image: Float[Tensor, "b h w c"], reference: Float[Tensor, "b h w c"]) -> Float[Tensor, " b"]:
    """Return the structural similarity of each image, in [-1, 1]; values range over [0, 1].

    Wang et al. 2004, eq. 13: Gaussian window of sigma 1.5 (11 x 11), population covariance, mean over channels and
    over the positions where the window fits. It equals scikit-image with `gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False`.

    Raises:
        ValueError: the images are smaller than the window.
    """
    window = 2 * _GAUSSIAN_RADIUS + 1
    if min(image.shape[1:3]) < window:
        raise ValueError(f"SSIM needs images of at least {window}x{window} pixels, got {tuple(image.shape[1:3])}")
    x, y = (rearrange(i.double(), "b h w c -> (b c) 1 h w") for i in (image, reference))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return rearrange(similarity, "(b c) 1 h w -> b (c h w)", b=len(image)).mean(dim=-1).to(image.dtype)


def _blur(image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 i j"]:
    position = torch.arange(-_GAUSSIAN_RADIUS, _GAUSSIAN_RADIUS + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-0.5 * (position / _GAUSSIAN_SIGMA) ** 2)
    weights = weights / weights.sum()
    rows = F.conv2d(image, rearrange(weights, "k -> 1 1 k 1"))
    return F.conv2d(rows, rearrange(weights, "k -> 1 1 1 k"))


def _decibel(error: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    return -10 * torch.log10(error.clamp(min=_SMALLEST_ERROR))
