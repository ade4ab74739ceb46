"""From tokens to feature planes: how large, where, and each plane by itself."""

import pytest
import torch
from torch import nn

from ln3d.config.vae import UpsamplerConfig
from ln3d.models.upsampler import Upsampler, upsampling_factor
from ln3d.nn.convolution import ResidualBlock


def _upsampler(**changes: object) -> Upsampler:
    torch.manual_seed(0)
    return Upsampler(UpsamplerConfig(**({"width": 8, "multipliers": (1, 2)} | changes)), 16, 5).eval()


@pytest.mark.parametrize("kind", ["shuffle", "conv"])
@pytest.mark.parametrize(("multipliers", "unpatch", "factor"), [((1,), 1, 1), ((1, 2), 2, 4), ((1, 2, 2, 4), 1, 8)])
def test_the_side_grows_by_the_factor(kind: str, multipliers: tuple[int, ...], unpatch: int, factor: int) -> None:
    upsampler = _upsampler(kind=kind, multipliers=multipliers, unpatch=unpatch)
    config = UpsamplerConfig(kind=kind, multipliers=multipliers, unpatch=unpatch)
    assert upsampling_factor(config) == factor
    assert upsampler(torch.randn(3, 2, 2, 16)).shape == (3, 5, 2 * factor, 2 * factor)


@pytest.mark.parametrize("kind", ["shuffle", "conv"])
def test_planes_are_worked_on_one_by_one(kind: str) -> None:
    upsampler, tokens = _upsampler(kind=kind), torch.randn(3, 4, 4, 16)
    with torch.no_grad():
        together = upsampler(tokens)
        for plane in range(3):
            torch.testing.assert_close(upsampler(tokens[plane : plane + 1])[0], together[plane], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("unpatch", [1, 2, 4])
def test_a_token_is_unfolded_in_its_own_place(unpatch: int) -> None:
    upsampler, tokens = _upsampler(multipliers=(1,), unpatch=unpatch), torch.randn(1, 4, 4, 16)
    other = tokens.clone()
    other[0, 1, 3] = torch.randn(16) * 5
    for block in (module for module in upsampler.steps if isinstance(module, ResidualBlock)):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
    with torch.no_grad():
        change = (upsampler(other) - upsampler(tokens))[0].abs().sum(dim=0)
    blocks = change.reshape(4, unpatch, 4, unpatch).mean(dim=(1, 3))
    assert divmod(int(blocks.argmax()), 4) == (1, 3)
