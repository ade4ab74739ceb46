"""The transfer curve of sRGB (IEC 61966-2-1), both ways. NumPy only, as what draws needs no torch."""

import numpy as np
from jaxtyping import Float

_KNEE_LINEAR, _KNEE_ENCODED = 0.0031308, 0.04045  # below it the curve is a straight line


def srgb_from_linear(linear: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the sRGB values of linear light, both in [0, 1] and of one float type."""
    curve = 1.055 * np.power(np.maximum(linear, _KNEE_LINEAR), 1 / 2.4) - 0.055
    return np.where(linear <= _KNEE_LINEAR, 12.92 * linear, curve)


def linear_from_srgb(encoded: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the linear light of sRGB values, both in [0, 1] and of one float type: undoes `srgb_from_linear`."""
    return np.where(encoded <= _KNEE_ENCODED, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
