"""Frozen networks by name: the right kind, local files read strictly, counted without files, refusals at once."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ln3d.backbones import frozen_names
from ln3d.backbones.embeddings import Embedding
from ln3d.backbones.frozen_maps import FrozenFilters, FrozenLpips, FrozenPyramid, FrozenTransformer
from ln3d.backbones.frozen_names import check_frozen_maps, load_frozen_maps, untrained_maps
from ln3d.backbones.images import local_sha256
from ln3d.backbones.perceptual import load_lpips, untrained_lpips
from ln3d.backbones.timm_networks import untrained_timm
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.backbones.weights import file_sha256
from ln3d.errors import RecipeError, WeightsError


class _Clip(nn.Module):
    """Both towers of a CLIP as open_clip has them, of which only that of pictures is here."""

    def __init__(self) -> None:
        super().__init__()
        import_torchvision()
        from open_clip.transformer import VisionTransformer

        self.visual = VisionTransformer(
            image_size=16, patch_size=8, width=16, layers=3, heads=2, mlp_ratio=2.0, output_dim=8
        )

    def encode_image(self, pictures: Tensor) -> Tensor:
        return self.visual(pictures)


@pytest.mark.parametrize("name", ["dinov2:vit_x=f.safetensors", "clip:X=f.safetensors"])
def test_transformers_are_found_by_the_name_of_the_backbone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    network = untrained_timm("test_vit") if name.startswith("dinov2") else _Clip().encode_image
    asked = []

    def load(name: str) -> Embedding:
        asked.append(name)
        return Embedding(name, "", 8, 16, network, (0.5,) * 3, (0.5,) * 3, "cpu")

    monkeypatch.setattr(frozen_names, "load_backbone", load)
    maps = load_frozen_maps(name, 3)
    assert asked == [name] and isinstance(maps, FrozenTransformer)
    assert len(maps(torch.rand(1, 3, 9, 9)).levels) == len(maps.widths) == 3


def test_random_filters_are_asked_for_by_their_name() -> None:
    maps = load_frozen_maps("random", 4)
    assert isinstance(maps, FrozenFilters) and len(maps.widths) == 4


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("head", [False, True], ids=["headless", "with a head"])
def test_a_local_file_of_any_model_of_timm(tmp_path: Path, model: str, head: bool) -> None:
    """What is loaded are the weights in the file, whatever was drawn before; a classifier there is not looked at."""
    import_torchvision()
    import timm

    torch.manual_seed(1)
    network, file = timm.create_model(model, num_classes=7 if head else 0), tmp_path / "own.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    name = f"timm:{model}={file}"
    maps, pictures = load_frozen_maps(name, 2), torch.rand(1, 3, 160, 160)
    assert isinstance(maps, FrozenPyramid)
    found = network.eval().forward_intermediates((pictures - 0.5) / 0.5, intermediates_only=True)
    with torch.no_grad():
        torch.testing.assert_close(maps(pictures).levels[-1], found[-1])
    assert maps.widths == untrained_maps(name, 2).widths
    assert local_sha256(name) == file_sha256(file, "")


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.safetensors"
    with pytest.raises(WeightsError, match="are not here"):
        load_frozen_maps(f"timm:test_resnet={file}")
    save_file({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"own.safetensors does not fit test_resnet") as error:
        load_frozen_maps(f"timm:test_resnet={file}")
    assert "\n" not in str(error.value)
    file.write_bytes(b"not at all")
    with pytest.raises(WeightsError, match=r"own.safetensors does not fit test_resnet"):
        load_frozen_maps(f"timm:test_resnet={file}")
    with pytest.raises(WeightsError, match="is no safetensors file"):
        load_frozen_maps(f"timm:test_resnet={tmp_path / 'own.pth'}")


def test_a_local_file_of_lpips(tmp_path: Path) -> None:
    """Its maps are the convolutions of the file, and nothing is asked of the cache."""
    draw = torch.Generator().manual_seed(0)
    weights = untrained_lpips("alex")
    tensors = {
        re.sub(r"^(conv|head)_(\d)_?", r"\1.\2.", name).rstrip("."): torch.randn(buffer.shape, generator=draw) * 0.02
        for name, buffer in weights.named_buffers()
        if name not in ("mean", "std")
    }
    file = tmp_path / "alex.safetensors"
    save_file(tensors, file)
    maps, pictures = load_frozen_maps(f"lpips:alex={file}", 3), torch.rand(1, 3, 40, 40)
    assert isinstance(maps, FrozenLpips)
    x = (2 * pictures - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
        [0.458, 0.448, 0.450]
    ).view(3, 1, 1)
    first = nn.functional.conv2d(x, tensors["conv.0.weight"], tensors["conv.0.bias"], 4, 2).relu()
    torch.testing.assert_close(maps(pictures).levels[0], first)
    assert maps.network.sha256 == local_sha256(f"lpips:alex={file}") == file_sha256(file, "")
    assert local_sha256("lpips:alex") is None  # the hash of those is written in the program
    with pytest.raises(WeightsError, match=r"alex.safetensors does not fit LPIPS on vgg: conv.0.weight, "):
        load_lpips(f"vgg={file}")
    file.unlink()
    with pytest.raises(WeightsError, match="are not here") as error:
        load_lpips(f"alex={file}")
    assert "ln3d fetch lpips" in error.value.hint


@pytest.mark.parametrize(
    ("name", "widths", "weights"),
    [
        ("dinov2", (384,) * 3, 22_056_192 - 384 * (37**2 - 16**2)),  # timm's count, with positions for 16 x 16 patches
        ("clip:ViT-B-32=somewhere.safetensors", (768,) * 3, 87_849_216),  # 86 M and the projection, as CLIP's paper has
        ("clip:RN50", (64, 512, 2048), 38_316_896 + 53_248),
        ("timm:resnet50", (64, 512, 2048), 23_508_032 + 53_120),  # without the classifier, and what norms have counted
        ("lpips:alex", (64, 384, 256), 2_469_696 + 1152),  # AlexNet's convolutions, and a weight for each channel
        ("lpips:vgg", (64, 256, 512), 14_714_688 + 1472),
        ("random", (16, 32, 64), 27 * 16 + 9 * 16 * 32 + 9 * 32 * 64),
    ],
)
def test_they_are_counted_without_their_files(name: str, widths: tuple[int, ...], weights: int) -> None:
    maps = untrained_maps(name)
    tensors = [
        tensor for tensor in (*maps.parameters(), *maps.buffers()) if tensor.numel() > 3
    ]  # no mean, no deviation
    assert all(tensor.is_meta for tensor in tensors)
    assert maps.widths == widths
    assert sum(tensor.numel() for tensor in tensors) == weights


@pytest.mark.parametrize("name", ["inception", "clip", "clip:", "lpips", "dinov3", "randomly", ""])
def test_names_of_other_kinds_are_refused_at_once(name: str) -> None:
    with pytest.raises(RecipeError, match="discriminators cannot look at") as error:
        check_frozen_maps(name)
    assert "lpips:alex" in error.value.hint


@pytest.mark.parametrize("name", ["dinov2:resnet", "clip:ViT-Z", "clip:", "timm:", "timm:resnot", "lpips:squeeze"])
def test_models_that_there_are_not_cannot_be_counted(name: str) -> None:
    with pytest.raises(RecipeError):
        untrained_maps(name)
