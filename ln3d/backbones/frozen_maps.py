"""Frozen networks as pyramids of feature maps, differentiable in the pictures, for discriminators."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import MethodType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ln3d.backbones.embeddings import DINOV2, Embedding
from ln3d.backbones.images import load_backbone
from ln3d.backbones.perceptual import Lpips, load_lpips, untrained_lpips
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.errors import RecipeError

RANDOM = "random"
"""The name of the filters that need no weights."""
_LPIPS_MAPS = 5
_NAMES = f"discriminators look at dinov2, dinov2:MODEL, clip:ViT-..., lpips:alex, lpips:vgg or {RANDOM}"
_FILTERS = 16  # of the first level; each level after it has twice as many
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SLOPE = 0.2
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


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


class FrozenTransformer(nn.Module):
    """A vision transformer that resizes, normalises and never learns.

    `network` has `forward_intermediates`, as those of timm and open_clip do; `depths` are the blocks whose
    output is taken, and the summary is the first extra token of the last of them.
    """

    mean: Tensor
    deviation: Tensor
    smallest = 1

    def __init__(
        self,
        network: Any,
        width: int,
        side: int,
        depths: Sequence[int],
        statistics: tuple[Sequence[float], Sequence[float]],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.network: Any = network.eval().requires_grad_(False)
        self.side, self.depths, self.options = side, list(depths), dict(options)
        self.widths, self.summary_width = (width,) * len(self.depths), width
        mean, deviation = (torch.tensor(values)[:, None, None] for values in statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def train(self, mode: bool = True) -> "FrozenTransformer":
        """Stay as it is: frozen networks are always evaluated."""
        return self

    def forward(self, pictures: Float[Tensor, "b 3 h w"], *, twice: bool = False) -> Maps:
        """Return feature maps of the chosen blocks and the class token of the last.

        Fused attention has no second derivative: with `twice` attention is written out, slower.
        """
        resized = F.interpolate(pictures, (self.side, self.side), mode="bilinear", antialias=True)
        with sdpa_kernel(SDPBackend.MATH) if twice else nullcontext():
            found = self.network.forward_intermediates(
                (resized - self.mean) / self.deviation, indices=self.depths, intermediates_only=True, **self.options
            )
        return Maps(found["image_intermediates"], found["image_intermediates_prefix"][-1][:, 0])


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


AnyFrozen = FrozenTransformer | FrozenLpips | FrozenFilters


def load_frozen_maps(name: str, levels: int = 3, device: str = "cpu") -> AnyFrozen:
    """Return the network called `name` as frozen maps of `levels` depths, evenly spread.

    Names are those vision transformers of `load_backbone`, `clip:MODEL[=FILE]` or `dinov2[:MODEL][=FILE]`, and
    `lpips:alex`, `lpips:vgg` and `random`, the filters that need no weights.

    Raises:
        RecipeError: no backbone is called so, or it is no vision transformer.
        WeightsError: its weights are missing (the hint names the one command or file) or are not the expected ones.
    """
    if name == RANDOM:
        return FrozenFilters(levels).to(device)
    if name.startswith("lpips:"):
        return FrozenLpips(load_lpips(name.removeprefix("lpips:")), levels).to(device)
    backbone = load_backbone(name, device)
    network: Any = backbone.network if isinstance(backbone, Embedding) else None
    if isinstance(network, MethodType):  # open_clip embeds pictures by a method of the model with both its towers
        visual: Any = getattr(network.__self__, "visual", None)
        if hasattr(visual, "transformer"):
            return clip_maps(visual, levels).to(device)
    elif network is not None:
        return timm_maps(network, levels).to(device)
    raise RecipeError(f"{name} is no vision transformer", _NAMES)


def untrained_maps(name: str, levels: int = 3) -> AnyFrozen:
    """Return what `load_frozen_maps` does without contents, on the meta device, for counting; no file is needed.

    RecipeError as there.
    """
    check_frozen_maps(name)
    kind, _, model = name.partition("=")[0].partition(":")
    with torch.device("meta"):
        if kind == RANDOM:
            return FrozenFilters(levels).to("meta")
        if kind == "lpips":
            return FrozenLpips(untrained_lpips(model), levels)
        return timm_maps(untrained_dinov2(model), levels) if kind == "dinov2" else clip_maps(_tower(model), levels)


def untrained_dinov2(model: str) -> Any:
    """Return timm's DINOv2 `model`, by default the smallest, with random weights; RecipeError for an unknown one."""
    import_torchvision()
    import timm

    if model and ("dinov2" not in model or not timm.is_model(model)):
        raise RecipeError(f"timm has no DINOv2 {model!r}", "its names look like vit_small_patch14_dinov2")
    return timm.create_model(model or DINOV2, img_size=224, num_classes=0)


def _tower(model: str) -> Any:
    """Return the picture tower of an open_clip model, without contents."""
    import_torchvision()
    import open_clip

    if model not in open_clip.list_models():
        raise RecipeError(f"open_clip has no model {model!r}", "its names look like ViT-B-32 or ViT-L-14-quickgelu")
    logging.disable(logging.WARNING)  # that it has no pretrained weights
    try:
        visual = open_clip.create_model(model, device="meta").visual
    finally:
        logging.disable(logging.NOTSET)
    if not hasattr(visual, "transformer"):
        raise RecipeError(f"clip:{model} is no vision transformer", _NAMES)
    return visual


def check_frozen_maps(name: str) -> None:
    """Raise RecipeError unless `name` is that of a kind of network which discriminators can look at."""
    kind, _, model = name.partition("=")[0].partition(":")
    fine = name == RANDOM or kind == "dinov2" or (kind in ("clip", "lpips") and model)
    if not fine:
        raise RecipeError(f"discriminators cannot look at {name!r}", _NAMES)


def timm_maps(network: Any, levels: int = 3) -> FrozenTransformer:
    """Return a vision transformer of timm, such as DINOv2, as frozen maps of `levels` depths, evenly spread."""
    depth, width, side = len(network.blocks), network.embed_dim, network.patch_embed.img_size[0]
    options = {"return_prefix_tokens": True, "output_dict": True}
    return FrozenTransformer(network, width, side, spread_depths(depth, levels), _IMAGENET, options)


def clip_maps(visual: Any, levels: int = 3) -> FrozenTransformer:
    """Return the picture tower of an open_clip model as frozen maps of `levels` depths, evenly spread."""
    depth, width, side = visual.transformer.layers, visual.transformer.width, visual.image_size[0]
    return FrozenTransformer(visual, width, side, spread_depths(depth, levels), _CLIP, {"output_extra_tokens": True})


def spread_depths(depth: int, levels: int) -> list[int]:
    """Return the numbers (from 0) of `levels` blocks evenly spread over `depth`, the last one among them."""
    return [depth * (level + 1) // levels - 1 for level in range(levels)]
