"""The transformer decoder: an identity at the start, and afterwards planes that meet only where they should."""

import pytest
import torch
from torch import Tensor, nn

from ln3d.config.vae import DecoderConfig, LatentConfig
from ln3d.errors import RecipeError
from ln3d.models.decoder import Decoder, DecoderBlock, count_parameters, field_head

LATENT = LatentConfig(channels=2, resolution=8)
STACKED = {"in_plane_attention": False, "cross_plane_attention": False}


def _awake(module: nn.Module) -> nn.Module:
    """Return `module` without any zeros left, so that every path carries a signal."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return module


def _decoder(*, checkpointing: bool = False, awake: bool = True, **changes: object) -> Decoder:
    config = DecoderConfig(**({"patch": 2, "width": 16, "depth": 2, "heads": 2} | changes))
    torch.manual_seed(0)
    decoder = Decoder(config, LATENT, checkpointing)
    return _awake(decoder) if awake else decoder  # type: ignore[return-value]


def _planes_that_hear(decoder: Decoder, plane: int) -> list[bool]:
    latent = torch.randn(1, 3, 2, 8, 8)
    other = latent.clone()
    other[:, plane] = torch.randn(2, 8, 8)
    with torch.no_grad():
        return [not torch.equal(a, b) for a, b in zip(decoder(latent)[0], decoder(other)[0], strict=True)]


@pytest.mark.parametrize("in_plane", [True, False])
def test_a_modulated_block_starts_as_the_identity(in_plane: bool) -> None:
    block = DecoderBlock(16, 2, in_plane=in_plane, modulated=True)
    x, condition = torch.randn(2, 12, 16), torch.randn(2, 12, 16)
    assert torch.equal(block(x, condition), x)


def test_at_the_start_the_latent_is_not_heard_and_places_pass_through() -> None:
    decoder = _decoder(awake=False)
    tokens = decoder(torch.randn(2, 3, 2, 8, 8))
    expected = nn.functional.layer_norm(decoder.position, (16,), eps=1e-6).reshape(1, 3, 4, 4, 16)
    torch.testing.assert_close(tokens, expected.expand(2, -1, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "everybody"),
    [
        ({"depth": 1}, False),
        ({"depth": 2}, True),
        ({"depth": 2, "cross_plane_attention": False}, False),
        ({"depth": 1, "in_plane_attention": False}, True),
        ({"depth": 1, "variant": "vit"}, False),
        ({"depth": 2, "variant": "vit"}, True),
        ({"variant": "conv"}, False),
        ({"depth": 1, "add_latent": True}, False),
        ({"depth": 1} | STACKED, True),
        ({"variant": "conv"} | STACKED, True),
    ],
)
def test_planes_meet_in_cross_plane_attention_or_where_they_are_stacked(
    changes: dict[str, object], everybody: bool
) -> None:
    decoder = _decoder(**changes)
    for plane in range(3):
        assert _planes_that_hear(decoder, plane) == [everybody or other == plane for other in range(3)]


@pytest.mark.parametrize("in_plane", [True, False])
def test_attention_of_a_block_stays_in_its_plane_or_does_not(in_plane: bool) -> None:
    block = _awake(DecoderBlock(16, 2, in_plane=in_plane, modulated=True))
    x, condition = torch.randn(1, 12, 16), torch.randn(1, 12, 16)
    other = x.clone()
    other[:, 4:8] += torch.randn(4, 16)  # not one number for all channels: the norm would take it away
    with torch.no_grad():
        changed = (block(x, condition) != block(other, condition)).any(dim=-1)[0].reshape(3, 4)
    assert changed.all(dim=1).tolist() == [not in_plane, True, not in_plane]


def test_tokens_lie_where_their_patches_lie() -> None:
    decoder = _decoder(variant="conv")
    latent = torch.randn(1, 3, 2, 8, 8)
    other = latent.clone()
    other[0, 2, :, 2:4, 4:6] += 1
    changed = (decoder(latent) != decoder(other)).any(dim=-1)[0]
    assert torch.nonzero(changed).tolist() == [[2, 1, 2]]


def test_stacked_planes_share_one_grid_and_keep_their_places() -> None:
    decoder = _decoder(variant="conv", **STACKED)
    assert decoder.position.shape == (16, 16)  # 4 x 4 tokens, where three planes apart have 48
    latent = torch.randn(1, 3, 2, 8, 8)
    other = latent.clone()
    other[0, 2, :, 2:4, 4:6] += 1
    changed = (decoder(latent) != decoder(other)).any(dim=-1)[0]
    assert torch.nonzero(changed).tolist() == [[plane, 1, 2] for plane in range(3)]


def _gradients(decoder: Decoder, latent: Tensor) -> dict[str, Tensor]:
    decoder.train()(latent).pow(3).sum().backward()
    return {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("planes", [{}, STACKED], ids=["apart", "stacked"])
@pytest.mark.parametrize("variant", ["dit", "vit"])
def test_checkpointing_changes_no_gradient_and_every_weight_learns(variant: str, planes: dict[str, bool]) -> None:
    latent = torch.randn(2, 3, 2, 8, 8)
    plain = _gradients(_decoder(variant=variant, **planes), latent)
    saving = _gradients(_decoder(variant=variant, checkpointing=True, **planes), latent)
    assert plain.keys() == saving.keys() == dict(_decoder(variant=variant, **planes).named_parameters()).keys()
    for name, gradient in plain.items():
        assert gradient.any(), name
        assert torch.equal(gradient, saving[name]), name


def test_patches_must_tile_the_latent() -> None:
    with pytest.raises(RecipeError, match="latent planes of 8 cells cannot be cut into patches of 3"):
        _decoder(patch=3)


def test_the_head_is_a_small_mlp_from_features_to_density_and_colour() -> None:
    head = field_head(5, 7, 2)
    assert [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)] == [(5, 7), (7, 7), (7, 4)]
    assert head(torch.randn(2, 6, 5)).shape == (2, 6, 4)
    assert count_parameters(head) == 5 * 7 + 7 + 7 * 7 + 7 + 7 * 4 + 4


def test_parameters_are_counted_without_values() -> None:
    with torch.device("meta"):
        empty = _meta_decoder()
    assert count_parameters(empty) == count_parameters(_meta_decoder()) > 0


def _meta_decoder() -> Decoder:
    return Decoder(DecoderConfig(patch=2, width=16, depth=2, heads=2), LATENT)


@pytest.mark.parametrize(
    ("depth", "width", "heads"), [(12, 384, 6), (12, 768, 12), (24, 1024, 16)], ids=["S", "B", "L"]
)
def test_the_sizes_of_dit_have_the_weights_that_a_hand_counts(depth: int, width: int, heads: int) -> None:
    """A block has 6 D^2 for its modulation, 4 D^2 for attention and 8 D^2 for the feed-forward layers, and biases."""
    config = DecoderConfig(patch=2, width=width, depth=depth, heads=heads)
    with torch.device("meta"):
        decoder = Decoder(config, LatentConfig(channels=4, resolution=32))
    blocks = depth * (18 * width**2 + 15 * width)
    around = (4 * 2 * 2 + 1) * width + 3 * 16 * 16 * width + 2 * width  # embedding, positions, the last norm
    assert count_parameters(decoder) == blocks + around
    assert len(decoder.blocks) == depth and decoder.blocks[0].attention.heads == heads
