"""Frozen networks as pyramids of feature maps, differentiable in the pictures, for discriminators."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ln3d.backbones.perceptual import Lpips
from ln3d.errors import RecipeError

_LPIPS_MAPS = 5
_FILTERS = 16  # of the first level; each level after it has twice as many
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SLOPE = 0.2
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of the three channels of sRGB pictures in [0, 1]."""


class Maps(NamedTuple):
    """What a frozen network makes of b pictures, from its shallow to its deep levels."""

    levels: list[Float[Tensor, "b d h w"]]
    """Feature maps."""
    summary: Float[Tensor, "b d"]
    """One vector for the whole picture."""


@runtime_checkable
class FrozenMaps(Protocol):
    """A frozen network whose features are differentiable in the pictures."""

    widths: tuple[int, ...]
    """Channels of each level."""
    summary_width: int
    """Length of the summary."""
    smallest: int
    """Side of the smallest pictures that it can look at."""

    def __call__(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return the features of sRGB pictures in [0, 1]; with `twice` they can be differentiated twice."""
        ...


class _FrozenNetwork(nn.Module):
    """A network of timm or open_clip, which has `forward_intermediates`, that resizes, normalises and never learns."""

    mean: Tensor
    deviation: Tensor
    smallest = 1

    def __init__(self, network: Any, side: int, statistics: Statistics) -> None:
        super().__init__()
        self.network: Any = network.eval().requires_grad_(False)
        self.side = side
        mean, deviation = (torch.tensor(values)[:, None, None] for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Stay as it is: frozen networks are always evaluated."""
        return self

    def prepared(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Return pictures as the network wants them."""
        resized = F.interpolate(pictures, (self.side, self.side), mode="bilinear", antialias=True)
        return (resized - self.mean) / self.deviation


class FrozenTransformer(_FrozenNetwork):
    """A vision transformer: `depths` are the blocks whose output is taken, and the summary is the class token of the
    last of them, its first extra token."""

    def __init__(
        self,
        network: Any,
        width: int,
        side: int,
        depths: Sequence[int],
        statistics: Statistics,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(network, side, statistics)
        self.depths, self.options = list(depths), dict(options)
        self.widths, self.summary_width = (width,) * len(self.depths), width

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return feature maps of the chosen blocks and the class token of the last."""
        with _attention(twice):
            found = self.network.forward_intermediates(
                self.prepared(pictures), indices=self.depths, intermediates_only=True, **self.options
            )
        return Maps(found["image_intermediates"], found["image_intermediates_prefix"][-1][:, 0])


class FrozenPyramid(_FrozenNetwork):
    """Any other network, convolutional or not: maps of `levels` of its stages, evenly spread, and the mean over the
    last one. RecipeError where it has fewer."""

    def __init__(self, network: Any, side: int, levels: int, statistics: Statistics) -> None:
        super().__init__(network, side, statistics)
        blank = torch.zeros(1, 3, side, side, device=next(self.network.parameters()).device)
        with torch.no_grad():
            widths = [found.shape[1] for found in self._stages(blank)]
        if levels > len(widths):
            raise RecipeError(
                f"{type(network).__name__} has {len(widths)} feature maps, not {levels}",
                f"lower vae.discriminators.levels to at most {len(widths)}",
            )
        self.depths = spread_depths(len(widths), levels)
        self.widths, self.summary_width = tuple(widths[depth] for depth in self.depths), widths[-1]

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return the chosen maps and the mean over the last one."""
        with _attention(twice):
            found = self._stages(self.prepared(pictures))
        return Maps([found[depth] for depth in self.depths], found[-1].mean(dim=(2, 3)))

    def _stages(self, pictures: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b d h w"]]:
        found = self.network.forward_intermediates(pictures, intermediates_only=True)
        return found["image_intermediates"] if isinstance(found, dict) else found


def _attention(twice: bool) -> AbstractContextManager[None]:
    """Return how attention is computed: fused, or written out and slower, as fused has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH) if twice else nullcontext()


class FrozenLpips(nn.Module):
    """The convolutions that LPIPS compares pictures by: pictures keep their size, and nothing learns."""

    def __init__(self, network: Lpips, levels: int) -> None:
        super().__init__()
        self.network, self.depths, self.smallest = network, spread_depths(_LPIPS_MAPS, levels), network.smallest
        self.widths = tuple(network.widths[depth] for depth in self.depths)
        self.summary_width = self.widths[-1]

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return the chosen maps, which can always be differentiated twice, and the mean over the last one."""
        found = list(self.network.maps(pictures))
        return Maps([found[depth] for depth in self.depths], found[-1].mean(dim=(2, 3)))


class FrozenFilters(nn.Module):
    """Random convolutions, always the same, that halve the side level by level.

    They need no weights, and see edges and colours but no meaning: for trying things out.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.widths = tuple(_FILTERS << level for level in range(levels))
        self.summary_width, self.smallest = self.widths[-1], 1 << levels
        draw = torch.Generator().manual_seed(0)
        for level, (inputs, outputs) in enumerate(zip((3, *self.widths), self.widths, strict=False)):
            filters = torch.randn(outputs, inputs, 3, 3, generator=draw, device="cpu") * (2 / (9 * inputs)) ** 0.5
            self.register_buffer(f"filters_{level}", filters, persistent=False)

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return one map per level, which can always be differentiated twice, and the mean over the last one."""
        levels, x = [], 2 * pictures - 1
        for level in range(len(self.widths)):
            x = F.leaky_relu(F.conv2d(x, self.get_buffer(f"filters_{level}"), stride=2, padding=1), _SLOPE)
            levels.append(x)
        return Maps(levels, x.mean(dim=(2, 3)))


AnyFrozen = FrozenTransformer | FrozenPyramid | FrozenLpips | FrozenFilters


def dinov2_maps(network: Any, levels: int = 3) -> FrozenTransformer:
    """Return a vision transformer of timm, such as DINOv2, as frozen maps of `levels` depths, evenly spread."""
    depth, width, side = len(network.blocks), network.embed_dim, network.patch_embed.img_size[0]
    options = {"return_prefix_tokens": True, "output_dict": True}
    return FrozenTransformer(network, width, side, spread_depths(depth, levels), _IMAGENET, options)


def clip_maps(visual: Any, levels: int = 3) -> FrozenTransformer | FrozenPyramid:
    """Return the picture tower of an open_clip model as frozen maps of `levels` depths, evenly spread."""
    size = visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    if not hasattr(visual, "transformer"):  # a ResNet, or a network of timm
        stated = getattr(visual, "preprocess_cfg", None)
        return FrozenPyramid(visual, side, levels, (stated["mean"], stated["std"]) if stated else _CLIP)
    depth, width = visual.transformer.layers, visual.transformer.width
    return FrozenTransformer(visual, width, side, spread_depths(depth, levels), _CLIP, {"output_extra_tokens": True})


def timm_maps(network: Any, levels: int = 3) -> FrozenPyramid:
    """Return a network of timm as frozen maps of `levels` of its stages; RecipeError where it has fewer."""
    stated = network.pretrained_cfg
    return FrozenPyramid(network, stated["input_size"][-1], levels, (stated["mean"], stated["std"]))


def spread_depths(depth: int, levels: int) -> list[int]:
    """Return the numbers (from 0) of `levels` blocks evenly spread over `depth`, the last one among them."""
    return [depth * (level + 1) // levels - 1 for level in range(levels)]
