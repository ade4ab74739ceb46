import numpy as np
import pytest

from ln3d.raycast.textures import TextureAtlas


def look_up(texture, uv, opaque=True, reduction=1):
    atlas = TextureAtlas()
    level = atlas.add(texture, opaque, reduction)
    uv = np.array(uv, np.float32)
    return atlas.sample(np.full(len(uv), level), uv)


@pytest.fixture
def noise():
    return np.random.default_rng(1).integers(0, 256, (6, 8, 4), dtype=np.uint8)


def test_texel_centres_give_the_texel_and_v_runs_up(noise):
    rows, columns = np.mgrid[:6, :8]
    uv = np.stack([(columns + 0.5) / 8, 1 - (rows + 0.5) / 6], -1).reshape(-1, 2)
    np.testing.assert_allclose(look_up(noise, uv)[:, :3] * 255, noise.reshape(-1, 4)[:, :3], atol=0.01)


def test_the_texture_repeats(noise):
    uv = np.random.default_rng(2).random((50, 2))
    np.testing.assert_allclose(look_up(noise, uv), look_up(noise, uv + [3, -2]), atol=2e-4)


def test_between_texels_it_is_bilinear_also_across_the_border(noise):
    middle = look_up(noise, [[0.0, 1 - 0.5 / 6]])[0, :3] * 255
    np.testing.assert_allclose(middle, (noise[0, 0, :3].astype(float) + noise[0, 7, :3]) / 2, atol=0.01)


def test_a_reduced_level_is_the_mean_of_its_texels(noise):
    reduced = look_up(noise, [[0.25, 0.5]], reduction=8)[0, :3] * 255
    np.testing.assert_allclose(reduced, noise[..., :3].reshape(-1, 3).mean(0), atol=0.51)


def test_a_size_that_is_no_multiple_of_the_reduction_keeps_its_place():
    ramp = np.zeros((1, 50, 4), np.uint8)
    ramp[0, :, 0], ramp[..., 3] = np.arange(50) * 5, 255
    u = np.linspace(0.2, 0.8, 20)
    red = look_up(ramp, np.stack([u, np.full(20, 0.5)], 1), reduction=4)[:, 0] * 255
    np.testing.assert_allclose(red, (u * 50 - 0.5) * 5, atol=1.5)


def test_see_through_texels_do_not_bleed():
    texture = np.zeros((2, 2, 4), np.uint8)
    texture[:, 0], texture[:, 1] = (200, 100, 50, 255), (0, 255, 0, 0)
    rgba = look_up(texture, [[0.5, 0.5]], opaque=False, reduction=2)[0]
    np.testing.assert_allclose(rgba[:3] / rgba[3] * 255, [200, 100, 50], atol=2)
    assert rgba[3] == pytest.approx(0.5, abs=0.01)


def test_alpha_of_an_opaque_texture_means_nothing():
    texture = np.full((4, 4, 4), (10, 20, 30, 0), np.uint8)
    np.testing.assert_allclose(look_up(texture, [[0.3, 0.4]], reduction=2)[0] * 255, [10, 20, 30, 255], atol=0.01)


def test_equal_levels_are_stored_once(noise):
    atlas = TextureAtlas()
    first = atlas.add(noise, True, 2)
    assert atlas.add(noise.copy(), True, 2) == first
    assert len({first, atlas.add(noise, False, 2), atlas.add(noise, True, 1), atlas.add(noise ^ 1, True, 2)}) == 4
