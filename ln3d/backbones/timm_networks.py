"""Networks of timm by name, with weights from a local safetensors file or without any."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ln3d.backbones.embeddings import DINOV2, found_file, unfit
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.errors import RecipeError


def timm_file(model: str, file: Path | None) -> tuple[Path, str]:
    """Return where the weights of a model of timm are, and their hash; WeightsError for none.

    `file` is a safetensors file, by default `timm-<model>.safetensors` in the cache's folder of weights.
    """
    return found_file(file, f"timm-{model}", f"timm:{model}")


def load_timm(model: str, file: Path | None) -> Any:
    """Return timm's `model` without its classifier, with the weights of `timm_file`: those of its state dict.

    Raises:
        RecipeError: timm knows no such model, or it has no feature maps.
        WeightsError: the file is missing or does not fit; a classifier in it is not looked at.
    """
    path, _ = timm_file(model, file)
    network = untrained_timm(model)
    stated = network.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))
    try:
        tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(heads)}
        network.load_state_dict(tensors)
    except (RuntimeError, SafetensorError, OSError) as problem:
        raise unfit(path, model, problem) from None
    return network


def untrained_timm(model: str) -> Any:
    """Return timm's `model` without its classifier, with random weights; RecipeError as `load_timm`."""
    import_torchvision()
    import timm

    if not model or not timm.is_model(model):
        raise RecipeError(f"timm has no model {model!r}", "its names look like resnet50 or convnext_tiny")
    network = timm.create_model(model, num_classes=0)
    if not hasattr(network, "forward_intermediates"):
        raise RecipeError(f"timm:{model} gives no feature maps", "name another model, such as timm:resnet50=FILE")
    return network


def untrained_dinov2(model: str) -> Any:
    """Return timm's DINOv2 `model`, by default the smallest, with random weights; RecipeError for an unknown one."""
    import_torchvision()
    import timm

    if model and ("dinov2" not in model or not timm.is_model(model)):
        raise RecipeError(f"timm has no DINOv2 {model!r}", "its names look like vit_small_patch14_dinov2")
    return timm.create_model(model or DINOV2, img_size=224, num_classes=0)
