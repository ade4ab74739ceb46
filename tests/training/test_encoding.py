"""An object is encoded from fixed views, the same way every time."""

from collections.abc import Callable

import torch

from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.training.encoding import encode_object, evaluation_views
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
TaskOf = Callable[[Recipe], VaeTask]


def test_an_object_is_encoded_from_its_views_without_augmentation(
    task_of: TaskOf, tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    task, pictures = task_of(tiny_recipe()), Pictures(tiny_shards)
    task.networks.eval()
    one, again = (encode_object(task.networks, pictures, 3, [0, 1]) for _ in range(2))
    assert one.mean.shape == (1, 3, 2, 4, 4)
    assert torch.equal(one.mean, again.mean)
    torch.testing.assert_close(encode_object(task.networks, pictures, 3, [1, 0]).mean, one.mean, atol=1e-4, rtol=1e-4)


def test_views_of_an_evaluation_are_fixed_and_held_out_where_there_are_such(tiny_recipe: RecipeOf) -> None:
    assert evaluation_views(tiny_recipe().vae, 6) == ([0, 1], [4])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[0, 2, 9]").vae, 6) == ([1, 3], [0, 2])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 6) == ([0, 1], [2, 3, 4, 5])
    assert evaluation_views(tiny_recipe("vae.supervision.held_out_views=[]").vae, 2) == ([0, 1], [0, 1])
