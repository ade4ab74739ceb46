"""Frozen image networks by name: pictures in, one feature vector each out."""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from ln3d.backbones import efficientnet
from ln3d.backbones.embeddings import DINOV2, clip_file, dinov2_embedding, dinov2_file, open_clip_embedding
from ln3d.backbones.inception import Inception
from ln3d.backbones.perceptual import lpips_file
from ln3d.backbones.timm_networks import timm_file
from ln3d.errors import RecipeError

_NAMES = "inception, efficientnet-lite0, clip:MODEL, dinov2, dinov2:MODEL; those of CLIP and DINOv2 also with =FILE"


class ImageBackbone(Protocol):
    """A frozen image network. What is measured with it carries its name and the hash of its weights."""

    @property
    def name(self) -> str:
        """What a table says, such as `inception`, `clip:ViT-B-32`, `dinov2`. Only with `inception` is FID plain FID."""

    @property
    def sha256(self) -> str:
        """Hash of the weights."""

    @property
    def width(self) -> int:
        """Length of a feature vector."""

    @property
    def resolution(self) -> int:
        """Side to which pictures are resized, in pixels."""

    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Return one feature vector per sRGB picture, not normalised, the same in any batch up to rounding."""
        ...


def plain_name(name: str) -> str:
    """Return what a backbone asked for as `name` calls itself, wherever its file lies: its `ImageBackbone.name`."""
    plain = name.partition("=")[0]
    return "dinov2" if plain == f"dinov2:{DINOV2}" else plain


def load_backbone(name: str, device: str = "cpu") -> ImageBackbone:
    """Return the backbone called `name`.

    Names are `inception`, `efficientnet-lite0`, `clip:MODEL[=FILE]` and `dinov2[:MODEL][=FILE]`. FILE is a
    safetensors file of one's own; without it the weights are looked for in the cache.

    Raises:
        RecipeError: no backbone is called so.
        WeightsError: its weights are missing (the hint names the one command or file) or are not the expected ones.
    """
    kind, model, path = parsed(name)
    if name == "inception":
        return Inception(device)
    if name == efficientnet.NAME:
        return efficientnet.efficientnet_lite0(device)
    if kind == "clip" and model:
        return open_clip_embedding(model, path, device)
    if kind == "dinov2":
        return dinov2_embedding(model or DINOV2, path, device)
    raise RecipeError(f"there is no image backbone {name!r}", f"there are: {_NAMES}")


def local_sha256(name: str) -> str | None:
    """Return the hash of the file that a network is read from, where that may be any that somebody put there.

    None for those whose hash is written in the program. WeightsError where there is no such file.
    """
    kind, model, path = parsed(name)
    if kind == "clip":
        return clip_file(model, path)[1]
    if kind == "timm":
        return timm_file(model, path)[1]
    if kind == "lpips":
        return None if path is None else lpips_file(path)[1]
    return dinov2_file(model or DINOV2, path)[1] if kind == "dinov2" else None


def parsed(name: str) -> tuple[str, str, Path | None]:
    """Return the kind of a network, its model and its file; empty and None where they are not stated."""
    plain, _, file = name.partition("=")
    kind, _, model = plain.partition(":")
    return kind, model, Path(file).expanduser() if file else None
