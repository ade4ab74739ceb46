"""How bright a surface is: lamps fixed in the world, so that a point looks the same from everywhere."""

import numpy as np
from numpy.typing import NDArray

# A warm sun, say, would hide the colour of the object: all lamps are white.
LAMPS = (
    ((0.5, 0.75, 0.65), 0.55),  # key: above, in front, to the right
    ((-0.8, 0.35, 0.35), 0.20),  # fill: to the left
    ((0.1, 0.45, -0.9), 0.12),  # back
)
"""(direction towards the lamp in world axes, any length; share of the light)."""
_AMBIENT = 0.358  # the brightest side is just below 1, so that no colour is ever clipped
_DIRECTIONS = np.array([lamp[0] for lamp in LAMPS], np.float32)
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)


def brightness(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the factor on the surface colour, (...) in (0, 1], for unit `normals` (..., 3) in world axes.

    Half-Lambert, squared: ((1 + n.l) / 2)^2 per lamp, so that no side is black and the shape shows everywhere.
    """
    total = np.full(normals.shape[:-1], _AMBIENT, np.float32)
    for direction, (_, share) in zip(_DIRECTIONS, LAMPS, strict=True):
        # Written out: a matrix product of BLAS may differ in the last bit from machine to machine.
        cosine = normals[..., 0] * direction[0] + normals[..., 1] * direction[1] + normals[..., 2] * direction[2]
        total += np.float32(share) * np.square(np.float32(0.5) + np.float32(0.5) * cosine)
    return total
