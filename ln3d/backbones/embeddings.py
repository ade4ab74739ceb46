"""CLIP by open_clip and DINOv2 by timm, with weights from a local safetensors file: one embedding a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32, UInt8
from torch import Tensor

from ln3d.backbones.pixels import resized_plain
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.backbones.weights import file_sha256
from ln3d.cache import weights_folder
from ln3d.errors import RecipeError, WeightsError

_BATCH = 32


@dataclass(frozen=True)
class Embedding:
    """A network that embeds square pictures; an `ImageBackbone`."""

    name: str
    sha256: str
    width: int
    resolution: int
    network: Callable[[Tensor], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str

    @torch.inference_mode()
    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Return one embedding per square sRGB picture; ValueError for pictures that are not square."""
        out = np.empty((len(images), self.width), dtype=np.float32)
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        for start in range(0, len(images), _BATCH):
            pixels = torch.from_numpy(resized_plain(images[start : start + _BATCH], self.resolution))
            pixels = rearrange((pixels - mean) / std, "b h w c -> b c h w").to(self.device)
            out[start : start + _BATCH] = self.network(pixels).float().cpu().numpy()
        return out


@dataclass(frozen=True)
class TextEmbedding(Embedding):
    """A network that embeds texts as well, beside the pictures that they describe."""

    text_network: Callable[[Sequence[str]], Tensor]

    @torch.inference_mode()
    def text_features(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one embedding per text, to be compared with those of pictures by their cosine."""
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        return np.concatenate([self.text_network(batch).float().cpu().numpy() for batch in batches])


def open_clip_embedding(model: str, file: Path | None, device: str) -> TextEmbedding:
    """Return the CLIP that open_clip calls `model`.

    `file` is a safetensors file in open_clip's layout, by default `clip-<model>.safetensors` in the cache's folder of
    weights. Weights that OpenAI published belong to the models called `...-quickgelu`.

    Raises:
        RecipeError: open_clip knows no such model.
        WeightsError: the file is missing or does not fit.
    """
    import_torchvision()
    import open_clip

    if model not in open_clip.list_models():
        raise RecipeError(f"open_clip has no model {model!r}", "its names look like ViT-B-32 or ViT-L-14-quickgelu")
    path, digest = clip_file(model, file)
    try:
        network = open_clip.create_model(model, pretrained=str(path), device=device).eval()
    except (RuntimeError, ValueError, OSError) as problem:
        raise unfit(path, model, problem) from None
    config, visual = open_clip.get_model_config(model), network.visual
    side = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    tokens = open_clip.get_tokenizer(model)
    return TextEmbedding(
        f"clip:{model}",
        digest,
        config["embed_dim"],
        side,
        network.encode_image,
        tuple(visual.preprocess_cfg["mean"]),
        tuple(visual.preprocess_cfg["std"]),
        device,
        lambda texts: network.encode_text(tokens(list(texts)).to(device)),
    )


def dinov2_embedding(model: str, file: Path | None, device: str) -> Embedding:
    """Return the DINOv2 that timm calls `model`: its normalised class token, pictures at 224 x 224.

    `file` is a safetensors file in timm's layout, by default `dinov2-<model>.safetensors` in the cache's folder of
    weights.

    Raises:
        RecipeError: timm knows no such model.
        WeightsError: the file is missing or does not fit.
    """
    import_torchvision()
    import timm

    if "dinov2" not in model or not timm.is_model(model):
        raise RecipeError(f"timm has no DINOv2 {model!r}", "its names look like vit_small_patch14_dinov2")
    path, digest = dinov2_file(model, file)
    try:
        network: Any = timm.create_model(
            model, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, img_size=224, num_classes=0
        )
    except (RuntimeError, ValueError, KeyError, OSError) as problem:
        raise unfit(path, model, problem) from None
    network = network.eval().requires_grad_(False).to(device)
    config = network.pretrained_cfg
    name = "dinov2" if model == DINOV2 else f"dinov2:{model}"
    return Embedding(name, digest, network.num_features, 224, network, config["mean"], config["std"], device)


DINOV2 = "vit_small_patch14_dinov2"


def clip_file(model: str, file: Path | None) -> tuple[Path, str]:
    """Return where the weights of a CLIP are, see `open_clip_embedding`, and their hash; WeightsError for none."""
    return found_file(file, f"clip-{model}", f"clip:{model}")


def dinov2_file(model: str, file: Path | None) -> tuple[Path, str]:
    """Return where the weights of a DINOv2 are, see `dinov2_embedding`, and their hash; WeightsError for none."""
    return found_file(file, f"dinov2-{model}", "dinov2" if model == DINOV2 else f"dinov2:{model}")


def found_file(file: Path | None, name: str, backbone: str) -> tuple[Path, str]:
    """Return `file`, by default `name`.safetensors in the cache, and its hash; WeightsError where it is not there.

    `backbone` is what a recipe calls the network.
    """
    path = file or weights_folder() / f"{name}.safetensors"
    return own_file(path, f"no package ships them: put a safetensors file there, or name yours: {backbone}=FILE")


def own_file(path: Path, remedy: str) -> tuple[Path, str]:
    """Return a safetensors file of one's own and its hash; WeightsError, with `remedy`, where it is not there."""
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} is no safetensors file", "other formats can hold code and are not opened")
    return path, file_sha256(path, remedy)


def unfit(path: Path, model: str, problem: Exception) -> WeightsError:
    """Return the error of a file whose weights are not those of `model`, with the first line of the `problem`."""
    first = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return WeightsError(f"{path} does not fit {model}: {first}", "take the file that belongs to this model")
