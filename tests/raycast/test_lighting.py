import numpy as np

from ln3d.raycast.lighting import brightness


def test_no_side_is_black_and_none_is_clipped():
    normals = np.random.default_rng(0).normal(size=(50_000, 3)).astype(np.float32)
    light = brightness(normals / np.linalg.norm(normals, axis=1, keepdims=True))
    assert 0.3 < light.min() < 0.5
    assert 0.98 < light.max() <= 1


def test_light_comes_from_above_and_the_front():
    up, down, front, back = brightness(np.float32([[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]))
    assert up > front > back > down
