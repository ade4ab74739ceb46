"""A whole object through the VAE: which views are looked at, and what its encoder makes of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ln3d.config.recipe import Recipe
from ln3d.config.render import CameraConfig
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.vectors import unit
from ln3d.models.autoencoder import Autoencoder
from ln3d.rendering.volume import render_images
from ln3d.training.reconstruction import encode_object, evaluation_views, reconstruct
from ln3d.training.vae_rendering import radiance

RecipeOf = Callable[..., Recipe]
CORNERS = np.array([[0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], np.float32)
"""Directions to six cameras, two of them opposite each other in front."""


def _networks(tiny_recipe: RecipeOf) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(tiny_recipe().vae).eval()


def test_an_object_is_encoded_from_its_views_without_augmentation(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    networks, pictures = _networks(tiny_recipe), Pictures(tiny_shards)
    one, again = (encode_object(networks, pictures, 3, [0, 1]) for _ in range(2))
    assert one.mean.shape == (1, 3, 2, 4, 4)
    assert torch.equal(one.mean, again.mean)
    torch.testing.assert_close(encode_object(networks, pictures, 3, [1, 0]).mean, one.mean, atol=1e-4, rtol=1e-4)


def test_a_reconstruction_is_rendered_from_the_mean_of_the_posterior(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    networks, pictures = _networks(tiny_recipe), Pictures(tiny_shards)
    together = reconstruct(networks, pictures, 3, [0, 1], [4, 2])
    assert [tuple(one.shape) for one in together] == [(2, 16, 16, 3), (2, 16, 16), (2, 16, 16)]
    with torch.no_grad():
        field = radiance(networks, networks.decode(encode_object(networks, pictures, 3, [0, 1]).mean))
        for place, view in enumerate([4, 2]):
            cameras = map(torch.as_tensor, pictures.cameras(3, [view]))
            alone = render_images(field, *cameras, 16, networks.config.renderer)
            for whole, own in zip(together, alone, strict=True):
                torch.testing.assert_close(whole[place], own[0], atol=1e-5, rtol=1e-5)


def test_views_of_an_evaluation_are_fixed_and_held_out_where_there_are_such(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(held_out: str, views: int = 6) -> tuple[list[int], list[int]]:
        monkeypatch.setattr(tiny_shards, "views", views)
        return evaluation_views(tiny_recipe(f"vae.supervision.held_out_views={held_out}").vae, tiny_shards)

    monkeypatch.setattr(tiny_shards, "eyes", lambda index: CORNERS)
    assert chosen("[4]") == ([0, 1], [4])
    assert chosen("[0, 2, 9]") == ([1, 3], [0, 2])
    assert chosen("[]") == ([0, 1], [2, 3, 4, 5])
    assert chosen("[]", views=2) == ([0, 1], [0, 1])


def test_the_encoder_sees_objects_from_all_sides_whatever_the_order_of_the_cameras(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a ring that is walked around they are no neighbours; of views that come spread out they are the first."""

    def chosen(layout: str, views: int, held_out: str) -> tuple[list[int], list[int]]:
        monkeypatch.setattr(tiny_shards, "views", views)
        monkeypatch.setattr(tiny_shards, "eyes", lambda index: _eyes(layout, views))
        values = (f"vae.supervision.held_out_views={held_out}", "vae.encoder.views=4", "dataset.cameras.views=16")
        return evaluation_views(tiny_recipe(*values).vae, tiny_shards)

    assert chosen("orbit", 8, "[5]") == ([0, 4, 2, 6], [5])
    assert chosen("orbit", 8, "[]") == ([0, 4, 2, 6], [1, 3, 5, 7])
    for layout in ("sphere", "upper"):
        for views in (4, 6, 16, 17, 24, 34, 58):
            assert chosen(layout, views, "[90]")[0] == [0, 1, 2, 3]
        assert chosen(layout, 34, "[5, 9]") == ([0, 1, 2, 3], [5, 9])


def _eyes(layout: str, views: int) -> np.ndarray:
    poses, _ = camera_set(CameraConfig.model_validate({"layout": layout, "views": views, "elevation": 20}))
    return unit(poses[:, :3, 3])
