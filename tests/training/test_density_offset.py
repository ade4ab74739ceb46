"""The level of density is found again after it was moved."""

from collections.abc import Callable

import pytest
import torch

from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.models.autoencoder import Autoencoder
from ln3d.training.density_offset import calibrate_density
from ln3d.training.vae_step import evaluation_views, reconstruct


def _networks(recipe: Recipe) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(recipe.vae).eval()


def _error(networks: Autoencoder, pictures: Pictures, view: int) -> float:
    inputs, _ = evaluation_views(networks.config, pictures.shards.views)
    truth = torch.from_numpy(pictures.stack(0, [view], None)[0])
    return float((reconstruct(networks, pictures, 0, inputs, [view])[0] - truth).square().mean())


@pytest.mark.parametrize("moved", [-3.0, 0.0, 2.0])
def test_the_offset_is_the_one_of_least_error(
    tiny_shards: ShardSet, tiny_recipe: Callable[..., Recipe], moved: float
) -> None:
    networks, pictures = _networks(tiny_recipe()), Pictures(tiny_shards)
    bias = networks.head[-1].bias.detach()
    bias[0] += moved
    start = float(bias[0])
    offset = calibrate_density(networks, pictures, [0])
    assert float(bias[0]) == pytest.approx(start + offset)
    inputs, held_out = evaluation_views(networks.config, tiny_shards.views)
    view = next(v for v in range(tiny_shards.views) if v not in {*inputs, *held_out})
    found = _error(networks, pictures, view)
    for other in (-4.0, -1.5, 0.0, 1.0):
        bias[0] = start + other
        assert found <= _error(networks, pictures, view) + 1e-7


def test_nothing_but_the_density_is_touched(tiny_shards: ShardSet, tiny_recipe: Callable[..., Recipe]) -> None:
    networks = _networks(tiny_recipe())
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    calibrate_density(networks, Pictures(tiny_shards), [0, 1])
    changed = {name for name, value in networks.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {"head.2.bias", "head.4.bias"}
    for name in changed:
        assert torch.equal(networks.state_dict()[name][1:], before[name][1:])
