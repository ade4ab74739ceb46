"""From frozen tokens to a condition: padding, null, pooling."""

import pytest
import torch

from ln3d.config.diffusion import ConditionConfig
from ln3d.models.conditioners import TEXT_WIDTHS, TextConditioner, build_conditioner


def _conditioner(depth: int) -> TextConditioner:
    torch.manual_seed(0)
    return TextConditioner(context_width=6, width=16, depth=depth, heads=2, tokens=5).eval()


@pytest.mark.parametrize("depth", [0, 2])
def test_padding_is_not_seen(depth: int) -> None:
    conditioner, tokens = _conditioner(depth), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    changed = torch.where(mask[..., None], tokens, torch.full_like(tokens, 9.0))
    before, after = conditioner(tokens, mask), conditioner(changed, mask)
    assert torch.equal(before.mask, mask)
    assert torch.allclose(before.tokens[mask], after.tokens[mask], atol=1e-6)
    assert torch.allclose(before.pooled, after.pooled, atol=1e-6)


@pytest.mark.parametrize("depth", [0, 2])
def test_pooled_is_the_mean_of_the_real_tokens(depth: int) -> None:
    mask = torch.tensor([[True, True, True, False, False]])
    condition = _conditioner(depth)(torch.randn(1, 5, 6), mask)
    assert torch.allclose(condition.pooled[0], condition.tokens[0, :3].mean(dim=0), atol=1e-6)


@pytest.mark.parametrize("depth", [0, 2])
def test_without_real_tokens_there_is_one_null_whatever_the_padding(depth: int) -> None:
    conditioner = _conditioner(depth)
    mask = torch.tensor([[False] * 5, [True] + [False] * 4, [False] * 5])
    condition = conditioner(torch.randn(3, 5, 6), mask)
    assert condition.mask.tolist() == [[True] + [False] * 4] * 3
    assert torch.equal(condition.pooled[0], condition.pooled[2])
    assert not torch.allclose(condition.pooled[0], condition.pooled[1], atol=1e-2)
    condition.pooled[0].sum().backward()
    assert conditioner.null.grad is not None


def test_word_order_matters_only_where_there_is_a_transformer() -> None:
    tokens, mask = torch.randn(1, 3, 6), torch.ones(1, 3, dtype=torch.bool)
    flipped = tokens.flip(1)
    bag, sentence = _conditioner(0), _conditioner(2)
    assert torch.allclose(bag(tokens, mask).pooled, bag(flipped, mask).pooled, atol=1e-6)
    assert not torch.allclose(sentence(tokens, mask).pooled, sentence(flipped, mask).pooled, atol=1e-4)


@pytest.mark.parametrize("name", sorted(TEXT_WIDTHS))
def test_recipe_chooses_the_width_of_the_encoder(name: str) -> None:
    config = ConditionConfig(kind="text", text_encoder=name, tokens=77, depth=1)
    with torch.device("meta"):
        conditioner = build_conditioner(config, width=32, heads=2)
    assert conditioner is not None
    assert conditioner.enter.in_features == TEXT_WIDTHS[name]
    assert build_conditioner(ConditionConfig(kind="none"), width=32, heads=2) is None
