"""Attention against its definition, and what masks and context may and may not change."""

import pytest
import torch
from torch import nn

from ln3d.errors import RecipeError
from ln3d.nn import attention
from ln3d.nn.attention import CrossAttention, FeedForward, SelfAttention, attend, fused_attention


def _by_definition(layer: SelfAttention, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Softmax attention head by head, written out."""
    query, key, value = layer.qkv(seen).chunk(3, dim=-1)
    query = layer.qkv(x).chunk(3, dim=-1)[0]
    size = x.shape[-1] // layer.heads
    heads = []
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        logits = query[..., part] @ key[..., part].transpose(1, 2) / size**0.5
        heads.append(logits.softmax(dim=-1) @ value[..., part])
    return layer.out(torch.cat(heads, dim=-1))


def test_self_attention_is_what_its_definition_says() -> None:
    layer, x = SelfAttention(16, 4), torch.randn(2, 5, 16)
    assert torch.allclose(layer(x), _by_definition(layer, x, x), atol=1e-6)


def test_context_joins_keys_and_values_only() -> None:
    layer, x, context = SelfAttention(16, 2), torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    expected = _by_definition(layer, x, torch.cat([x, context], dim=1))
    assert torch.allclose(layer(x, context), expected, atol=1e-6)


def test_masked_tokens_do_not_exist() -> None:
    layer, x, context = SelfAttention(16, 2, qk_norm=True), torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    mask = torch.tensor([[True, True, False]]).expand(2, 3)
    assert torch.allclose(layer(x, context, mask), layer(x, context[:, :2]), atol=1e-6)
    own = torch.tensor([[True, True, True, True, False]]).expand(2, 5)
    assert torch.allclose(layer(x, mask=own)[:, :4], layer(x[:, :4]), atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_products_are_what_the_fused_kernel_is(masked: bool) -> None:
    """In half precision, with gradients, where CPUs take the products; their sum's gradients as well."""
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (5, 7, 7)]
    visible = torch.rand(2, 1, 1, 7) < 0.6 if masked else None
    weights = torch.randn(2, 3, 5, 8)

    def values() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            gathered = attend(*inputs, visible)
        return [gathered.detach().float(), *torch.autograd.grad((gathered.float() * weights).sum(), inputs)]

    exact = nn.functional.scaled_dot_product_attention(*inputs, visible)
    exact_values = [exact.detach(), *torch.autograd.grad((exact * weights).sum(), inputs)]
    with fused_attention():
        fused = values()
    products = values()
    assert any(not torch.equal(a, b) for a, b in zip(products, fused, strict=True))  # other operations
    for ours, theirs, true in zip(products, fused, exact_values, strict=True):
        assert (ours - true).abs().max() < 2 * max(float((theirs - true).abs().max()), 0.01)


def test_the_fused_kernel_is_taken_without_gradients_in_full_precision_and_for_many_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = torch.randn(1, 1, 4, 8, requires_grad=True)
    taken: list[bool] = []
    fused = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        attention.F, "scaled_dot_product_attention", lambda *a, **k: taken.append(True) or fused(*a, **k)
    )
    attend(query, query, query)
    with torch.autocast("cpu", torch.bfloat16):
        attend(query, query, query)
        assert len(taken) == 1
        attend(query.detach(), query.detach(), query.detach())
        with torch.no_grad():
            attend(query, query, query)
        many = torch.zeros(1, 1, 1025, 2, requires_grad=True)
        attend(many, many, many)
    assert len(taken) == 4


def test_self_attention_does_not_know_the_order_of_tokens() -> None:
    layer, x, order = SelfAttention(16, 2), torch.randn(1, 6, 16), torch.randperm(6)
    assert torch.allclose(layer(x)[:, order], layer(x[:, order]), atol=1e-6)


def test_cross_attention_ignores_masked_tokens() -> None:
    layer, x, context = CrossAttention(16, 8, 2), torch.randn(2, 5, 16), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, True, False], [True, True, True, False]])
    assert torch.allclose(layer(x, context, mask), layer(x, context[:, :3]), atol=1e-6)


def test_feed_forward_widens_by_its_ratio() -> None:
    assert FeedForward(8, 4)[0].out_features == 32


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(RecipeError, match="10 cannot be divided among 4 heads"):
        SelfAttention(10, 4)
