"""The stand-in: weights of another implementation give timm's network, and what timm would have given."""

import io
import re
from typing import Any

import numpy as np
import pytest
import torch

from ln3d.backbones.efficientnet import efficientnet_lite0, embedding_of
from ln3d.backbones.foreign import efficientnet_tensors
from ln3d.backbones.images import load_backbone
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.errors import WeightsError

FIRST = (0, 1, 3, 5, 8, 11, 15)  # block of every stage
SEPARABLE = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
INVERTED = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"} | {
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}


@pytest.fixture(scope="module")
def network() -> Any:
    """Return timm's network with weights of which no layer has the usual ones."""
    import_torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand_like(value) + (0.5 if "var" in name else 0))
    return model


def theirs(name: str) -> str:
    """Return what the other implementation calls timm's tensor `name`."""
    found = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.(.*)", name)
    if not found:
        layer, rest = name.split(".", 1)
        return f"{OUTSIDE[layer]}.{rest}"
    stage, place, layer, rest = int(found[1]), int(found[2]), found[3], found[4]
    return f"_blocks.{FIRST[stage] + place}.{(INVERTED if stage else SEPARABLE)[layer]}.{rest}"


def file_of(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)  # noqa: TID251 - what the package holds
    return buffer.getvalue()


def test_their_names_become_timms(network: Any) -> None:
    state = network.state_dict()
    tensors = efficientnet_tensors(file_of({theirs(name): value for name, value in state.items()}))
    assert tensors.keys() == state.keys()
    assert all(np.array_equal(tensors[name], value.numpy()) for name, value in state.items())


def test_features_are_those_before_the_classifier(network: Any) -> None:
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    backbone = embedding_of(tensors, "a" * 64, "cpu")
    assert (backbone.name, backbone.width, backbone.resolution) == ("efficientnet-lite0", 1280, 224)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        expected = network.forward_features((pixels - 0.5) / 0.5).mean(dim=(2, 3))
    np.testing.assert_allclose(backbone.features(images), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["_blocks.16._bn1.bias", "_blocks.0._expand_conv.weight", "_blocks.x", "conv.weight"])
def test_another_layout_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match="not laid out"):
        efficientnet_tensors(file_of({name: torch.zeros(1)}))


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path))
    for load in (efficientnet_lite0, lambda: load_backbone("efficientnet-lite0")):
        with pytest.raises(WeightsError) as problem:
            load()
        assert problem.value.hint == "run: ln3d fetch efficientnet-lite0"
