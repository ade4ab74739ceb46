"""A whole object through the VAE: which views are looked at, and what its encoder makes of them."""

from collections.abc import Callable

import torch

from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.models.autoencoder import Autoencoder
from ln3d.rendering.volume import render_images
from ln3d.training.reconstruction import encode_object, evaluation_views, reconstruct
from ln3d.training.vae_rendering import radiance

RecipeOf = Callable[..., Recipe]


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


def test_views_of_an_evaluation_are_fixed_and_held_out_where_there_are_such(tiny_recipe: RecipeOf) -> None:
    assert evaluation_views(tiny_recipe().vae, 6) == ([0, 1], [4])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[0, 2, 9]").vae, 6) == ([1, 3], [0, 2])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 6) == ([0, 1], [2, 3, 4, 5])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 2) == ([0, 1], [0, 1])
