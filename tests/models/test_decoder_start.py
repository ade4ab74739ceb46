"""A decoder that starts from DINOv2's blocks computes what they compute; what does not fit is all named at once."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.backbones.weights import file_sha256
from ln3d.config.vae import DecoderConfig, LatentConfig
from ln3d.errors import RecipeError, WeightsError
from ln3d.models.decoder import Decoder, DecoderBlock
from ln3d.models.decoder_start import check_start, copy_block, start_from_blocks

NAME = "vit_toy_patch14_dinov2"
WIDTH, HEADS, DEPTH = 16, 2, 6
LATENT = LatentConfig(channels=2, resolution=8)
TANH = partial(nn.GELU, approximate="tanh")


def _timm(seed: int = 0, **changes: Any) -> Any:
    """Return a small vision transformer of timm's in which no weight is at its start."""
    import_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(seed)
    sizes = {"img_size": 28, "patch_size": 14, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    network = VisionTransformer(**(sizes | {"num_classes": 0, "init_values": 1.0, "act_layer": TANH} | changes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def _config(**changes: object) -> DecoderConfig:
    return DecoderConfig(**({"patch": 2, "width": WIDTH, "depth": 3, "heads": HEADS} | changes))


@pytest.mark.parametrize("scaled", [True, False], ids=["layer scale", "no layer scale"])
@pytest.mark.parametrize("modulated", [False, True])
def test_a_block_computes_what_dinov2s_does(scaled: bool, modulated: bool) -> None:
    source = _timm(init_values=1.0 if scaled else None).blocks[1]
    block = DecoderBlock(WIDTH, HEADS, in_plane=False, modulated=modulated)
    copy_block(source, block)
    if block.modulation is not None:  # its gates are closed at the start: open them
        block.modulation[1].bias.data.view(6, WIDTH)[[2, 5]] = 1.0
    x = torch.randn(2, 12, WIDTH)
    with torch.no_grad():
        torch.testing.assert_close(block(x, torch.randn(2, 12, WIDTH)), source(x), atol=1e-5, rtol=1e-5)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Any, Path]:
    """Return a small DINOv2 that timm knows by name, and its file."""
    network, file = _timm(), tmp_path / "toy.safetensors"
    save_file(network.state_dict(), file)
    import timm

    is_model, create_model = timm.is_model, timm.create_model

    def created(name: str, pretrained: bool = False, **options: Any) -> Any:
        if name != NAME:
            return create_model(name, pretrained, **options)
        model = _timm(seed=1)
        model.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        if pretrained:
            model.load_state_dict(load_file(options["pretrained_cfg_overlay"]["file"]))
        return model

    monkeypatch.setattr(timm, "is_model", lambda name: name == NAME or is_model(name))
    monkeypatch.setattr(timm, "create_model", created)
    return network, file


def _decoders(name: str, variant: str) -> tuple[Decoder, str]:
    torch.manual_seed(1)
    decoder = Decoder(_config(variant=variant), LATENT)
    return decoder, start_from_blocks(decoder, name)


def _weights(module: Any) -> list[Tensor]:
    return [module.attn.qkv.weight, module.attn.proj.weight, module.mlp.fc1.weight, module.mlp.fc2.weight]


@pytest.mark.parametrize("variant", ["vit", "dit"])
def test_blocks_come_from_all_over_the_file(toy: tuple[Any, Path], variant: str) -> None:
    network, file = toy
    decoder, sha256 = _decoders(f"dinov2:{NAME}={file}", variant)
    assert sha256 == file_sha256(file, "")
    for block, depth in zip(decoder.blocks, (1, 3, 5), strict=True):  # 3 of 6
        qkv, out, up, down = _weights(network.blocks[depth])
        source = network.blocks[depth]
        torch.testing.assert_close(block.attention.qkv.weight, qkv * source.norm1.weight)
        torch.testing.assert_close(block.attention.out.weight, source.ls1.gamma[:, None] * out)
        torch.testing.assert_close(block.feed_forward[0].weight, up * source.norm2.weight)
        torch.testing.assert_close(block.feed_forward[2].weight, source.ls2.gamma[:, None] * down)
    assert all(parameter.requires_grad for parameter in decoder.parameters())


def test_all_else_stays_as_it_was(toy: tuple[Any, Path]) -> None:
    decoder, _ = _decoders(f"dinov2:{NAME}={toy[1]}", "dit")
    torch.manual_seed(1)
    before = Decoder(_config(variant="dit"), LATENT).state_dict()
    changed = {name for name, value in decoder.state_dict().items() if not torch.equal(value, before[name])}
    layers = [f"{layer}.{kind}" for layer in _LAYERS for kind in ("weight", "bias")]
    assert changed == {f"blocks.{index}.{layer}" for index in range(3) for layer in layers}


_LAYERS = ("attention.qkv", "attention.out", "feed_forward.0", "feed_forward.2")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"width": 32, "heads": 4}, "it has a width of 16, not 32; 2 heads, not 4", "width=16 vae.decoder.heads=2"),
        ({"depth": 7}, "it has 6 blocks, fewer than 7", "set vae.decoder.depth=6"),
        (
            {"heads": 4, "depth": 8},
            "it has 2 heads, not 4; 6 blocks, fewer than 8",
            "vae.decoder.heads=2 vae.decoder.depth=6",
        ),
    ],
)
def test_all_that_does_not_fit_is_named_without_a_file(
    toy: tuple[Any, Path], changes: dict[str, int], message: str, hint: str
) -> None:
    with pytest.raises(RecipeError, match=message) as problem:
        check_start(_config(**changes), f"dinov2:{NAME}=/no/such/file.safetensors")
    assert hint in problem.value.hint


def test_gated_feed_forward_layers_do_not_fit() -> None:
    with pytest.raises(RecipeError, match="it has feed-forward layers of another kind") as problem:
        check_start(_config(width=1536, heads=24), "dinov2:vit_giant_patch14_dinov2")
    assert problem.value.hint == "name another model"


@pytest.mark.parametrize("name", ["clip:ViT-B-32", "random", "", "resnet"])
def test_only_dinov2_is_a_start(name: str) -> None:
    with pytest.raises(RecipeError, match="a decoder cannot start from") as problem:
        check_start(_config(), name)
    assert "dinov2[:MODEL][=FILE]" in problem.value.hint


def test_unknown_models_and_missing_files_are_said(toy: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(toy[1].parent / "cache"))
    with pytest.raises(RecipeError, match="timm has no DINOv2 'resnet18'"):
        check_start(_config(), "dinov2:resnet18")
    with pytest.raises(WeightsError, match="not here") as problem:
        _decoders(f"dinov2:{NAME}", "dit")
    assert f"dinov2:{NAME}=FILE" in problem.value.hint


def test_a_decoder_without_blocks_starts_from_nothing() -> None:
    with pytest.raises(ValueError, match="the conv variant has no transformer"):
        _config(variant="conv", initial="dinov2")
