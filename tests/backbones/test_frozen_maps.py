"""Frozen networks as feature maps: right place, right scale, no learning, two derivatives, countable without files."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import (
    FrozenFilters,
    FrozenLpips,
    FrozenMaps,
    FrozenPyramid,
    FrozenTransformer,
    clip_maps,
    dinov2_maps,
    spread_depths,
    timm_maps,
)
from ln3d.backbones.perceptual import Lpips, untrained_lpips
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.errors import RecipeError


class Places(nn.Module):
    """A transformer in name only: block i returns i plus the mean colour of each patch, and a class token of i."""

    def __init__(self, patch: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.patch = patch

    def forward_intermediates(self, x: Tensor, indices: list[int], intermediates_only: bool) -> dict[str, list[Tensor]]:
        assert intermediates_only
        self.seen = x
        patches = self.weight * nn.functional.avg_pool2d(x, self.patch)
        return {
            "image_intermediates": [patches + i for i in indices],
            "image_intermediates_prefix": [torch.full((len(x), 2, 3), float(i)) for i in indices],
        }


def _frozen(statistics: tuple[tuple[float, ...], tuple[float, ...]] = ((0.5,) * 3, (0.25,) * 3)) -> FrozenTransformer:
    return FrozenTransformer(Places(), 3, 16, [1, 3, 5], statistics, {})


def test_pictures_are_resized_and_normalised_and_depths_are_the_chosen_ones() -> None:
    frozen = _frozen()
    maps = frozen(torch.full((2, 3, 7, 7), 0.75))
    torch.testing.assert_close(frozen.network.seen, torch.ones(2, 3, 16, 16))
    assert [level.shape for level in maps.levels] == [(2, 3, 4, 4)] * 3
    assert [level.mean().item() for level in maps.levels] == pytest.approx([2, 4, 6])
    assert maps.summary.tolist() == [[5.0] * 3] * 2
    assert frozen.widths == (3, 3, 3) and frozen.summary_width == 3


def test_it_is_frozen_whatever_it_is_told_and_lets_the_picture_learn() -> None:
    frozen = nn.Sequential(_frozen()).train()[0]
    assert not frozen.network.training
    picture = torch.rand(1, 3, 16, 16, requires_grad=True)
    frozen(picture).levels[0].sum().backward()
    assert picture.grad is not None and picture.grad.abs().min() > 0
    assert [p.grad for p in frozen.parameters()] == [None]


@pytest.mark.parametrize(
    ("depth", "levels", "blocks"), [(12, 3, [3, 7, 11]), (24, 4, [5, 11, 17, 23]), (2, 2, [0, 1]), (5, 1, [4])]
)
def test_depths_are_spread_and_end_with_the_last(depth: int, levels: int, blocks: list[int]) -> None:
    assert spread_depths(depth, levels) == blocks


def _check(maps: FrozenTransformer, patches: int, width: int) -> None:
    picture = torch.rand(2, 3, 20, 20, requires_grad=True)
    found = maps(picture)
    assert [level.shape for level in found.levels] == [(2, width, patches, patches)] * len(maps.widths)
    assert found.summary.shape == (2, width)
    again = maps(picture, twice=True)
    for one, other in zip(found.levels, again.levels, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    (slope,) = torch.autograd.grad(again.summary.square().sum(), picture, create_graph=True)
    slope.square().sum().backward()
    assert picture.grad is not None and picture.grad.isfinite().all() and picture.grad.any()


def _dinov2() -> Any:
    import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(img_size=28, patch_size=14, embed_dim=16, depth=4, num_heads=2, num_classes=0)


def _clip() -> Any:
    import_torchvision()
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(image_size=16, patch_size=8, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=8)


def test_a_transformer_like_dinov2() -> None:
    _check(dinov2_maps(_dinov2(), levels=2), patches=2, width=16)


def test_the_picture_tower_of_open_clip() -> None:
    _check(clip_maps(_clip(), levels=3), patches=2, width=16)


def _resnet() -> Any:
    import_torchvision()
    import timm

    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0).eval()


def test_a_convolutional_network_of_timm_gives_the_outputs_of_its_stages() -> None:
    network = _resnet()
    maps = timm_maps(network, levels=3)
    pictures = torch.rand(2, 3, 48, 40)
    resized = nn.functional.interpolate(pictures, (160, 160), mode="bilinear", antialias=True)
    stem = network.act1(network.bn1(network.conv1((resized - 0.5) / 0.5)))
    x = network.maxpool(stem)
    stages = [x := layer(x) for layer in (network.layer1, network.layer2, network.layer3, network.layer4)]
    found = maps(pictures)
    assert maps.widths == (32, 48, 96) and maps.summary_width == 96
    for level, stage in zip(found.levels, (stem, stages[1], stages[3]), strict=True):
        torch.testing.assert_close(level, stage)
    torch.testing.assert_close(found.summary, stages[3].mean(dim=(2, 3)))


def test_statistics_of_a_batch_are_not_touched() -> None:
    maps = timm_maps(_resnet(), levels=2)
    before = {name: value.clone() for name, value in maps.network.state_dict().items()}
    nn.Sequential(maps).train()(torch.rand(2, 3, 16, 16))
    assert all(torch.equal(before[name], value) for name, value in maps.network.state_dict().items())


def _check_pyramid(maps: FrozenPyramid) -> None:
    picture = torch.rand(2, 3, 20, 20, requires_grad=True)
    found = maps(picture)
    assert tuple(level.shape[1] for level in found.levels) == maps.widths
    assert found.summary.shape == (2, maps.summary_width)
    (slope,) = torch.autograd.grad(maps(picture, twice=True).summary.square().sum(), picture, create_graph=True)
    slope.square().sum().backward()
    assert picture.grad is not None and picture.grad.isfinite().all() and picture.grad.any()
    assert all(p.grad is None for p in maps.parameters())


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_any_network_of_timm_has_two_derivatives_in_the_picture_and_stays_as_it_is(model: str) -> None:
    import_torchvision()
    import timm

    torch.manual_seed(0)
    _check_pyramid(timm_maps(timm.create_model(model, num_classes=0), levels=3))


def test_the_residual_picture_tower_of_open_clip() -> None:
    import_torchvision()
    from open_clip.modified_resnet import ModifiedResNet

    torch.manual_seed(0)
    maps = clip_maps(ModifiedResNet(layers=(1, 1, 1, 1), output_dim=8, heads=2, image_size=32, width=4), levels=2)
    assert isinstance(maps, FrozenPyramid)
    _check_pyramid(maps)


def test_more_levels_than_a_network_has_are_refused() -> None:
    with pytest.raises(RecipeError, match="ResNet has 5 feature maps, not 6") as error:
        timm_maps(_resnet(), levels=6)
    assert "at most 5" in error.value.hint


def _lpips() -> Lpips:
    """Return AlexNet as LPIPS has it, with random weights."""
    network, draw = untrained_lpips("alex"), torch.Generator().manual_seed(0)
    for name, buffer in network.named_buffers():
        if name.endswith("weight"):
            buffer.normal_(0, (2 / buffer[0].numel()) ** 0.5, generator=draw)
    return network


def test_the_maps_of_lpips_are_those_that_it_compares() -> None:
    network, pictures = _lpips(), torch.rand(2, 3, 40, 40)
    found, maps = list(network.maps(pictures)), FrozenLpips(network, 3)
    assert maps.widths == (64, 384, 256) and maps.summary_width == 256 and maps.smallest == 31
    seen = maps(pictures)
    assert all(torch.equal(level, found[depth]) for level, depth in zip(seen.levels, [0, 2, 4], strict=True))
    torch.testing.assert_close(seen.summary, found[4].mean(dim=(2, 3)))


def test_random_filters_are_always_the_same_and_keep_their_scale() -> None:
    torch.manual_seed(1)
    one = FrozenFilters(3)
    torch.manual_seed(2)
    other, pictures = FrozenFilters(3), torch.rand(4, 3, 32, 32)
    assert isinstance(one, FrozenMaps)
    levels, again = one(pictures).levels, other(pictures).levels
    assert all(torch.equal(level, same) for level, same in zip(levels, again, strict=True))
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert all(0.2 < level.std() / (2 * pictures - 1).std() < 5 for level in levels)
    assert one(torch.rand(1, 3, one.smallest, one.smallest)).levels[-1].shape[-2:] == (1, 1)


@pytest.mark.parametrize("maps", [FrozenFilters(2), FrozenLpips(_lpips(), 2)], ids=["random", "lpips"])
def test_convolutions_stay_as_they_are_and_have_two_derivatives_in_the_picture(maps: FrozenFilters) -> None:
    assert list(maps.train().parameters()) == []
    assert not any(buffer.requires_grad for buffer in maps.buffers())
    picture = torch.rand(1, 3, 40, 40, requires_grad=True)
    (slope,) = torch.autograd.grad(maps(picture, twice=True).summary.square().sum(), picture, create_graph=True)
    slope.square().sum().backward()
    assert picture.grad is not None and picture.grad.isfinite().all() and picture.grad.any()
