"""Decoded views: on white, smaller where asked, and read once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ln3d.data import pictures as pictures_module
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.geometry.rays import image_rays


def test_colours_are_blended_on_white(tiny_shards: ShardSet) -> None:
    colour, alpha, depth = Pictures(tiny_shards).stack(1, [3, 0])
    assert colour.shape == (2, 16, 16, 3)
    for place, view in enumerate([3, 0]):
        raw = tiny_shards.colour(1, view).astype(np.float64) / 255
        np.testing.assert_allclose(colour[place], 1 + raw[..., 3:] * (raw[..., :3] - 1), atol=1e-6)
        np.testing.assert_allclose(alpha[place], raw[..., 3], atol=1e-6)
        np.testing.assert_array_equal(depth[place], tiny_shards.depth(1, view))
    assert (colour[alpha == 0] == 1).all()


def test_smaller_pictures_are_averages_and_their_depths_are_picked(tiny_shards: ShardSet) -> None:
    pictures = Pictures(tiny_shards)
    colour, alpha, depth = pictures.stack(0, [0, 1])
    small_colour, small_alpha, small_depth = pictures.stack(0, [0, 1], side=8)
    blocks = colour.reshape(2, 8, 2, 8, 2, 3)
    np.testing.assert_allclose(small_colour, blocks.mean(axis=(2, 4)), atol=1e-6)
    np.testing.assert_allclose(small_alpha, alpha.reshape(2, 8, 2, 8, 2).mean(axis=(2, 4)), atol=1e-6)
    candidates = depth.reshape(2, 8, 2, 8, 2).transpose(0, 1, 3, 2, 4).reshape(2, 8, 8, 4)
    assert (candidates == small_depth[..., None]).any(axis=-1).all()
    assert (small_depth > 0).any()


@pytest.mark.parametrize("first", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_picked_pixels_stay_on_their_rays(tiny_shards: ShardSet, first: tuple[int, int]) -> None:
    pictures, (row, column) = Pictures(tiny_shards), first
    colour, _, depth = pictures.stack(0, [2, 5])
    few_colours, few_depths, intrinsics = pictures.picked(0, [2, 5], 2, first)
    np.testing.assert_array_equal(few_colours, colour[:, row::2, column::2])
    np.testing.assert_array_equal(few_depths, depth[:, row::2, column::2])
    camera_to_world, whole = pictures.cameras(0, [2, 5])
    rays = image_rays(camera_to_world, whole, 16)[1].reshape(2, 16, 16, 3)
    few_rays = image_rays(camera_to_world, intrinsics, 8)[1].reshape(2, 8, 8, 3)
    torch.testing.assert_close(few_rays, rays[:, row::2, column::2], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("room", "reads"), [(1 << 20, 2), (30_000, 2), (3_000, 4)])
def test_views_are_read_once_where_a_good_part_of_them_can_be_kept(
    tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch, room: int, reads: int
) -> None:
    """All of them take nine objects x six views x 16 x 16 pixels x 8 bytes: 110,592."""
    seen = []
    read = ShardSet.colour
    monkeypatch.setattr(ShardSet, "colour", lambda shards, i, v: seen.append((i, v)) or read(shards, i, v))
    monkeypatch.setattr(pictures_module, "_CACHE_BYTES", room)
    pictures = Pictures(tiny_shards)
    first, again = (pictures.stack(0, [0, 1]) for _ in range(2))
    assert len(seen) == reads
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_larger_pictures_than_there_are_cannot_be_had(tiny_shards: ShardSet) -> None:
    with pytest.raises(RecipeError, match="views of 16 pixels cannot become 32"):
        Pictures(tiny_shards).stack(0, [0], side=32)


def test_cameras_are_those_of_the_views_in_their_order(tiny_shards: ShardSet) -> None:
    camera_to_world, intrinsics = Pictures(tiny_shards).cameras(2, [4, 1])
    np.testing.assert_array_equal(camera_to_world.numpy(), tiny_shards.camera_to_world(2)[[4, 1]])
    np.testing.assert_array_equal(intrinsics.numpy(), tiny_shards.intrinsics(2)[[4, 1]])


def test_a_view_is_read_once(tiny_shards: ShardSet, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    whole: Callable[[ShardSet, int, int], np.ndarray] = ShardSet.colour

    def counted(shards: ShardSet, i: int, v: int) -> np.ndarray:
        read.append((i, v))
        return whole(shards, i, v)

    monkeypatch.setattr(ShardSet, "colour", counted)
    pictures = Pictures(tiny_shards)
    first = pictures.stack(0, [0, 1])[0]
    np.testing.assert_array_equal(pictures.stack(0, [1, 0])[0], first[::-1])
    assert read == [(0, 0), (0, 1)]
