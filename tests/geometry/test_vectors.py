"""Lengths of vectors."""

import numpy as np

from ln3d.geometry.vectors import unit


def test_vectors_keep_their_direction_and_lose_their_length() -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 7, 3)) * 10
    scaled = unit(vectors)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(scaled * np.linalg.norm(vectors, axis=-1, keepdims=True), vectors, rtol=1e-12)
    assert unit(np.float32([[3, 0, 4]])).dtype == np.float32


def test_what_has_no_length_stays_as_it_is() -> None:
    np.testing.assert_array_equal(unit(np.zeros((2, 3))), np.zeros((2, 3)))
