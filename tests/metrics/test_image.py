"""Image metrics against scikit-image, closed forms and invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.metrics.image import (
    filled,
    luma_chroma,
    luma_chroma_psnr,
    mask_iou,
    masked_psnr,
    mean_colour,
    psnr,
    ssim,
)


def _pair(seed: int = 0, size: int = 32, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real = torch.rand(2, size, size + 5, 3, generator=generator)
    return (real + noise * torch.randn(real.shape, generator=generator)).clamp(0, 1), real


@given(error=st.floats(1e-4, 1))
def test_psnr_of_a_constant_error_is_minus_20_log10(error: float) -> None:
    real = torch.zeros(1, 4, 4, 3, dtype=torch.float64)
    assert math.isclose(psnr(real + error, real).item(), -20 * math.log10(error), abs_tol=1e-9)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_psnr_and_ssim_equal_scikit_image(noise: float) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    ours, real = _pair(3, noise=noise)
    for i in range(2):
        a, b = real[i].double().numpy(), ours[i].double().numpy()
        peer = metrics.peak_signal_noise_ratio(a, b, data_range=1)
        assert psnr(ours, real)[i].item() == pytest.approx(peer, abs=1e-4)
        peer = metrics.structural_similarity(
            a, b, data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(ours.double(), real.double())[i].item() == pytest.approx(peer, abs=1e-10)


def test_equal_images_score_best() -> None:
    _, real = _pair()
    assert psnr(real, real).tolist() == [100, 100]
    torch.testing.assert_close(ssim(real, real), torch.ones(2))


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(1, 10, 20, 3), torch.zeros(1, 10, 20, 3))


def test_masked_psnr_ignores_what_is_outside() -> None:
    ours, real = _pair()
    mask = torch.zeros(ours.shape[:3], dtype=torch.bool)
    mask[:, 5:20, 7:11] = True
    vandalised = torch.where(mask[..., None], ours, 1 - real)
    torch.testing.assert_close(masked_psnr(vandalised, real, mask), masked_psnr(ours, real, mask))
    torch.testing.assert_close(masked_psnr(ours, real, mask), psnr(ours[:, 5:20, 7:11], real[:, 5:20, 7:11]))
    assert masked_psnr(ours, real, torch.zeros_like(mask)).isnan().all()


def test_mask_iou_counts_pixels() -> None:
    mask, real = torch.zeros(2, 4, 4, dtype=torch.bool), torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, :2], real[0, 1:3] = True, True
    assert mask_iou(mask, real).tolist() == [pytest.approx(1 / 3), 1.0]


def test_grey_has_no_chroma_and_primaries_have_their_textbook_values() -> None:
    grey = torch.linspace(0, 1, 5)[:, None].expand(5, 3)
    torch.testing.assert_close(luma_chroma(grey)[:, 1:], torch.zeros(5, 2), atol=1e-6, rtol=0)
    red, blue = luma_chroma(torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
    np.testing.assert_allclose(red, [0.299, -0.168736, 0.5], atol=1e-5)
    np.testing.assert_allclose(blue, [0.114, 0.5, -0.081312], atol=1e-5)


def test_a_greyed_picture_loses_chroma_only() -> None:
    _, real = _pair()
    grey = luma_chroma(real)[..., :1].expand_as(real)
    luma, chroma = luma_chroma_psnr(grey, real, torch.ones(real.shape[:3], dtype=torch.bool))
    assert (luma > 90).all()
    assert (chroma < 20).all()


def test_an_outline_in_one_colour_errs_by_the_spread_of_the_colours() -> None:
    real, mask = torch.ones(1, 4, 4, 3, dtype=torch.float64), torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, 1:3] = True
    real[:, 1], real[:, 2] = 0.2, 0.6
    mean = mean_colour(real, mask)
    assert mean.tolist() == pytest.approx([0.4, 0.4, 0.4])
    coverage = mask.double()
    assert masked_psnr(filled(coverage, mean), real, mask).item() == pytest.approx(-20 * math.log10(0.2))
    assert psnr(filled(coverage, mean), real).item() == pytest.approx(-10 * math.log10(0.2**2 / 2))
    half = filled(coverage / 2, mean)
    assert (half[mask] == 0.7).all() and (half[~mask] == 1).all()
    assert mean_colour(real, torch.zeros_like(mask)).tolist() == [1, 1, 1]
