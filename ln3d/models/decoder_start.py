"""A transformer decoder that starts from the blocks of a pretrained DINOv2 instead of random ones."""

from typing import Any

import torch
from torch import Tensor, nn

from ln3d.backbones.embeddings import Embedding
from ln3d.backbones.frozen_maps import spread_depths
from ln3d.backbones.images import load_backbone
from ln3d.backbones.timm_networks import untrained_dinov2
from ln3d.config.vae import DecoderConfig
from ln3d.errors import RecipeError
from ln3d.models.decoder import Decoder, DecoderBlock


def start_from_blocks(decoder: Decoder, name: str) -> str:
    """Copy attention and feed-forward layers of DINOv2's blocks into `decoder`; return the hash of its weights.

    `name` is `dinov2[:MODEL][=FILE]`, see `load_backbone`. The blocks are evenly spread over DINOv2's depth. Its
    norms' weights and its layer scales are folded into the layers beside them, so that a block without modulation
    computes what DINOv2's does, but for GELU's approximation. RecipeError where sizes do not fit, WeightsError where
    the file is missing.
    """
    check_start(decoder.config, name)
    backbone = load_backbone(name)
    assert isinstance(backbone, Embedding)  # what `check_start` lets through
    network: Any = backbone.network
    blocks: Any = decoder.blocks
    for block, depth in zip(blocks, spread_depths(len(network.blocks), len(blocks)), strict=True):
        copy_block(network.blocks[depth], block)
    return backbone.sha256


def check_start(config: DecoderConfig, name: str) -> None:
    """Raise RecipeError, naming all that does not fit, where a decoder cannot start from `name`; no file is needed."""
    kind, _, model = name.partition("=")[0].partition(":")
    if kind != "dinov2":
        raise RecipeError(f"vae.decoder.initial: a decoder cannot start from {name!r}", "use dinov2[:MODEL][=FILE]")
    with torch.device("meta"):
        network = untrained_dinov2(model)
    misfits, remedies = _misfits(network, config)
    if misfits:
        raise RecipeError(
            f"vae.decoder.initial: {name.partition('=')[0]} does not fit the decoder: it has {'; '.join(misfits)}",
            f"set {' '.join(remedies)}" if remedies else "name another model",
        )


@torch.no_grad()
def copy_block(source: Any, block: DecoderBlock) -> None:
    """Copy what a block of timm's vision transformer multiplies; its norms and layer scales become part of it."""
    _copy(source.attn.qkv, block.attention.qkv, norm=source.norm1)
    _copy(source.attn.proj, block.attention.out, scale=source.ls1)
    up, _, down = block.feed_forward
    _copy(source.mlp.fc1, up, norm=source.norm2)
    _copy(source.mlp.fc2, down, scale=source.ls2)


def _copy(source: nn.Linear, layer: Any, norm: Any = None, scale: Any = None) -> None:
    """Copy a linear layer behind a norm with weights, or before a layer scale, as one without either."""
    weight: Tensor = source.weight
    bias: Tensor = source.bias
    if norm is not None:
        weight, bias = weight * norm.weight, bias + weight @ norm.bias
    gamma: Tensor | None = getattr(scale, "gamma", None)  # identities have none
    if gamma is not None:
        weight, bias = gamma[:, None] * weight, gamma * bias
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def _misfits(network: Any, config: DecoderConfig) -> tuple[list[str], list[str]]:
    """Return what of `network` does not fit, and the settings with which it would."""
    block, blocks = network.blocks[0], len(network.blocks)
    misfits, remedies = [], []
    if network.embed_dim != config.width:
        misfits.append(f"a width of {network.embed_dim}, not {config.width}")
        remedies.append(f"vae.decoder.width={network.embed_dim}")
    if block.attn.num_heads != config.heads:
        misfits.append(f"{block.attn.num_heads} heads, not {config.heads}")
        remedies.append(f"vae.decoder.heads={block.attn.num_heads}")
    if blocks < config.depth:
        misfits.append(f"{blocks} blocks, fewer than {config.depth}")
        remedies.append(f"vae.decoder.depth={blocks}")
    wide = 4 * network.embed_dim
    if (block.mlp.fc1.out_features, block.mlp.fc2.in_features) != (wide, wide):
        return [*misfits, "feed-forward layers of another kind"], []
    return misfits, remedies
