"""Resizing equals the definition of an antialiased bicubic, and clean-fid's own code."""

import warnings

import numpy as np
import pytest

from ln3d.backbones.pixels import resized_clean, resized_plain


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def bicubic_matrix(length: int, side: int) -> np.ndarray:
    """Return the weights (side, length) of Keys' cubic with a = -0.5, widened by the factor where it shrinks."""
    factor = length / side
    wide = max(factor, 1.0)
    centre = (np.arange(side) + 0.5) * factor
    x = np.abs(np.arange(length) + 0.5 - centre[:, None]) / wide
    weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("height", "width", "side"), [(16, 16, 40), (50, 37, 21), (33, 64, 33)])
def test_it_is_an_antialiased_bicubic(height: int, width: int, side: int) -> None:
    images = pictures(2, height, width)
    rows, columns = bicubic_matrix(height, side), bicubic_matrix(width, side)
    expected = np.einsum("ih,nhwc,jw->nijc", rows, images.astype(np.float64), columns).clip(0, 255)
    found = resized_clean(images, side)
    assert found.dtype == np.float32 and found.shape == (2, side, side, 3)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert (found % 1 != 0).any()  # not rounded


def test_its_own_size_changes_nothing() -> None:
    images = pictures(2, 24, 24)
    np.testing.assert_array_equal(resized_clean(images, 24), images)
    np.testing.assert_array_equal(resized_plain(images, 24), images.astype(np.float32) / 255)


def test_plain_resizing_is_that_of_whole_numbers() -> None:
    images = pictures(3, 20, 20)
    found = resized_plain(images, 11)
    assert found.shape == (3, 11, 11, 3) and 0 <= found.min() and found.max() <= 1
    assert np.array_equal(found, np.round(found * 255).astype(np.float32) / 255)
    assert np.abs(found * 255 - resized_clean(images, 11)).mean() < 1  # rounded twice, cut off twice
    with pytest.raises(ValueError, match="20x30 pixels are not square"):
        resized_plain(pictures(1, 30, 20), 11)


def test_clean_fid_does_the_same() -> None:
    from ln3d.backbones.torchvision_import import import_torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        resize = pytest.importorskip("cleanfid.resize").build_resizer("clean")
        images = pictures(2, 128, 96)
        np.testing.assert_array_equal(resized_clean(images, 299), np.stack([resize(image) for image in images]))
