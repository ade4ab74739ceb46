"""The names of frozen networks that discriminators can look through, and the networks behind them."""

import logging
from types import MethodType
from typing import Any

import torch

from ln3d.backbones.embeddings import Embedding
from ln3d.backbones.frozen_maps import AnyFrozen, FrozenFilters, FrozenLpips, clip_maps, dinov2_maps, timm_maps
from ln3d.backbones.images import load_backbone, parsed
from ln3d.backbones.perceptual import load_lpips, untrained_lpips
from ln3d.backbones.timm_networks import load_timm, untrained_dinov2, untrained_timm
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.errors import RecipeError

RANDOM = "random"
"""The name of the filters that need no weights."""
_NAMES = (
    f"discriminators look at dinov2, dinov2:MODEL, clip:MODEL, timm:MODEL, lpips:alex, lpips:vgg or {RANDOM}; "
    "all but the last also with =FILE"
)


def load_frozen_maps(name: str, levels: int = 3) -> AnyFrozen:
    """Return the network called `name` as frozen maps of `levels` depths, evenly spread.

    Names are `dinov2[:MODEL][=FILE]`, `clip:MODEL[=FILE]` and `timm:MODEL[=FILE]`, any model of timm that has feature
    maps; `lpips:alex[=FILE]` and `lpips:vgg[=FILE]`; and `random`, the filters that need no weights. FILE is a
    safetensors file of one's own; without it the weights are looked for in the cache.

    Raises:
        RecipeError: no network is called so, or it has fewer levels.
        WeightsError: its weights are missing (the hint names the one command or file) or are not the expected ones.
    """
    check_frozen_maps(name)
    kind, model, file = parsed(name)
    if kind == RANDOM:
        return FrozenFilters(levels)
    if kind == "lpips":
        return FrozenLpips(load_lpips(name.removeprefix("lpips:")), levels)
    if kind == "timm":
        return timm_maps(load_timm(model, file), levels)
    backbone = load_backbone(name)
    assert isinstance(backbone, Embedding)  # what `check_frozen_maps` lets through
    if isinstance(backbone.network, MethodType):  # open_clip embeds pictures by a method of the model with both towers
        both: Any = backbone.network.__self__
        return clip_maps(both.visual, levels)
    return dinov2_maps(backbone.network, levels)


def untrained_maps(name: str, levels: int = 3) -> AnyFrozen:
    """Return what `load_frozen_maps` does without contents, on the meta device, for counting; no file is needed.

    RecipeError as there.
    """
    check_frozen_maps(name)
    kind, model, _ = parsed(name)
    with torch.device("meta"):
        if kind == RANDOM:
            return FrozenFilters(levels).to("meta")
        if kind == "lpips":
            return FrozenLpips(untrained_lpips(model), levels)
        if kind == "timm":
            return timm_maps(untrained_timm(model), levels)
        return dinov2_maps(untrained_dinov2(model), levels) if kind == "dinov2" else clip_maps(_tower(model), levels)


def _tower(model: str) -> Any:
    """Return the picture tower of an open_clip model, without contents."""
    import_torchvision()
    import open_clip

    if model not in open_clip.list_models():
        raise RecipeError(f"open_clip has no model {model!r}", "its names look like ViT-B-32 or ViT-L-14-quickgelu")
    logging.disable(logging.WARNING)  # that it has no pretrained weights
    try:
        return open_clip.create_model(model, device="meta").visual
    finally:
        logging.disable(logging.NOTSET)


def check_frozen_maps(name: str) -> None:
    """Raise RecipeError unless `name` is that of a kind of network which discriminators can look at."""
    kind, model, _ = parsed(name)
    fine = name == RANDOM or kind == "dinov2" or (kind in ("clip", "timm", "lpips") and model)
    if not fine:
        raise RecipeError(f"discriminators cannot look at {name!r}", _NAMES)
