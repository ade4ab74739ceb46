"""Image backbones by name: CLIP and DINOv2 equal their own libraries; what is missing or unknown is said clearly."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ln3d.backbones import embeddings
from ln3d.backbones.images import ImageBackbone, load_backbone
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.backbones.weights import file_sha256
from ln3d.errors import RecipeError, WeightsError

TOWER = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
WORDS = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about weights that are random
        import_torchvision()
        yield


def pictures(count: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Any:
    """Return a small CLIP, known to open_clip as ln3d-tiny, and its preprocessing; its weights are in tmp_path."""
    import open_clip

    (tmp_path / "ln3d-tiny.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": TOWER, "text_cfg": WORDS}))
    open_clip.add_model_config(tmp_path / "ln3d-tiny.json")
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("ln3d-tiny")
    save_file(model.state_dict(), tmp_path / "tiny.safetensors")
    return model.eval(), preprocess


def check(backbone: ImageBackbone, network: Any, preprocess: Any) -> None:
    images = pictures(3)
    with torch.inference_mode():
        expected = network(torch.stack([preprocess(Image.fromarray(image)) for image in images])).numpy()
    found = backbone.features(images)
    assert found.dtype == np.float32 and found.shape == (3, backbone.width)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backbone.features(images[1:2])[0], found[1], rtol=1e-4, atol=1e-5)
    with pytest.raises((ValueError, TypeError), match="not square"):
        backbone.features(images[:, :20])


def check_words(backbone: Any, model: Any) -> None:
    import open_clip

    words = ["a red chair", "", "a sailing ship with three masts, " * 9]
    found = backbone.text_features(words)
    with torch.inference_mode():
        expected = model.encode_text(open_clip.tokenize(words, context_length=16)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_clip_is_open_clip(tiny_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, preprocess = tiny_clip
    file = tmp_path / "tiny.safetensors"
    backbone = load_backbone(f"clip:ln3d-tiny={file}")
    assert (backbone.name, backbone.width, backbone.resolution) == ("clip:ln3d-tiny", 24, 32)
    assert backbone.sha256 == file_sha256(file, "")
    monkeypatch.setattr(embeddings, "_BATCH", 2)
    check(backbone, model.encode_image, preprocess)
    check_words(backbone, model)

    with pytest.raises(WeightsError, match="not here") as problem:
        load_backbone("clip:ln3d-tiny")
    assert "clip:ln3d-tiny=FILE" in problem.value.hint
    cached = tmp_path / "cache" / "weights" / "clip-ln3d-tiny.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(file.read_bytes())
    assert load_backbone("clip:ln3d-tiny").sha256 == backbone.sha256

    save_file({"other": torch.ones(2)}, file)
    with pytest.raises(WeightsError, match="does not fit ln3d-tiny"):
        load_backbone(f"clip:ln3d-tiny={file}")
    with pytest.raises(WeightsError, match="no safetensors"):
        load_backbone("clip:ln3d-tiny=weights.pt")


def test_dinov2_is_timm_at_224_pixels(tmp_path: Path) -> None:
    import timm
    from torchvision import transforms

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0).eval()  # made for 518 pixels
    file = tmp_path / "dino.safetensors"
    save_file(network.state_dict(), file)
    network.set_input_size(224)
    backbone = load_backbone(f"dinov2={file}")
    assert (backbone.name, backbone.width, backbone.resolution) == ("dinov2", 384, 224)
    assert not hasattr(backbone, "text_features")
    preprocess = transforms.Compose(
        [
            transforms.Resize(224, transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    check(backbone, network, preprocess)


def test_missing_weights_name_the_remedy() -> None:
    with pytest.raises(WeightsError) as problem:
        load_backbone("inception")
    assert problem.value.hint == "run: ln3d fetch inception"
    with pytest.raises(WeightsError) as problem:
        load_backbone("dinov2")
    assert "dinov2=FILE" in problem.value.hint and "dinov2-vit_small_patch14_dinov2" in problem.value.message


@pytest.mark.parametrize("name", ["", "clip", "clip:", "inception:v4", "resnet", "Inception", "inception=x.pt"])
def test_unknown_names_are_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(RecipeError, match="no image backbone") as problem:
        load_backbone(name)
    assert "inception" in problem.value.hint and "clip:MODEL" in problem.value.hint


@pytest.mark.parametrize("name", ["clip:no-such-model", "dinov2:no-such-model", "dinov2:resnet18"])
def test_unknown_models_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="has no"):
        load_backbone(name)
