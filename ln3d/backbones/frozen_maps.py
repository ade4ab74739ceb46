"""Frozen vision transformers as pyramids of feature maps, differentiable in the pictures, for discriminators."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import MethodType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ln3d.backbones.embeddings import Embedding
from ln3d.backbones.images import load_backbone
from ln3d.errors import RecipeError

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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


def load_frozen_maps(name: str, levels: int = 3, device: str = "cpu") -> FrozenTransformer:
    """Return the vision transformer called `name` as frozen maps of `levels` depths, evenly spread.

    Names are those of `load_backbone`: `clip:MODEL[=FILE]` or `dinov2[:MODEL][=FILE]`.

    Raises:
        RecipeError: no backbone is called so, or it is no vision transformer.
        WeightsError: its weights are missing (the hint names the one command or file) or are not the expected ones.
    """
    backbone = load_backbone(name, device)
    network: Any = backbone.network if isinstance(backbone, Embedding) else None
    if isinstance(network, MethodType):  # open_clip embeds pictures by a method of the model with both its towers
        visual: Any = getattr(network.__self__, "visual", None)
        if hasattr(visual, "transformer"):
            return clip_maps(visual, levels).to(device)
    elif network is not None:
        return timm_maps(network, levels).to(device)
    raise RecipeError(f"{name} is no vision transformer", "discriminators look at dinov2 or at clip:ViT-...")


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
