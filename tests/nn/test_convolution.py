"""Convolutional blocks: sizes, shortcuts and the places of sub-pixels."""

import pytest
import torch
from torch import nn

from ln3d.nn.convolution import Downsample, ResidualBlock, ShuffleUpsample, Upsample, group_norm


@pytest.mark.parametrize(
    ("channels", "groups"), [(4, 1), (8, 2), (24, 6), (128, 32), (256, 32), (6, 1), (10, 2), (7, 1)]
)
def test_groups_divide_the_channels_and_hold_at_least_four(channels: int, groups: int) -> None:
    norm = group_norm(channels)
    assert norm.num_groups == groups
    assert channels % norm.num_groups == 0


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (ResidualBlock(8, 8), (2, 8, 6, 6)),
        (ResidualBlock(8, 12), (2, 12, 6, 6)),
        (Downsample(8), (2, 8, 3, 3)),
        (Upsample(8), (2, 8, 12, 12)),
        (ShuffleUpsample(8, 5), (2, 5, 12, 12)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_sizes(block: nn.Module, shape: tuple[int, ...]) -> None:
    assert block(torch.randn(2, 8, 6, 6)).shape == shape


def test_a_residual_block_adds_to_its_shortcut() -> None:
    x = torch.randn(1, 8, 4, 4)
    for block in (ResidualBlock(8, 8), ResidualBlock(8, 12)):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
        assert torch.equal(block(x), block.shortcut(x))
    assert torch.equal(ResidualBlock(8, 8).shortcut(x), x)


def test_sub_pixels_are_four_channels_of_their_cell() -> None:
    block, x = ShuffleUpsample(4, 1), torch.randn(1, 4, 3, 3)
    nn.init.dirac_(block.conv.weight)  # four channels out, each a copy of one channel in
    nn.init.zeros_(block.conv.bias)
    torch.testing.assert_close(block(x).reshape(3, 2, 3, 2).permute(1, 3, 0, 2).reshape(4, 3, 3), x[0])
