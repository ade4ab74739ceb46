"""Lengths of vectors."""

import numpy as np
from jaxtyping import Float


def unit(vectors: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Return the vectors divided by their lengths; zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Float[np.ndarray, "*n d"] = vectors / np.maximum(lengths, 1e-12)
    return scaled
