"""Attention and feed-forward layers on sequences `(b, l, d)`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ln3d.errors import RecipeError

_MOST_PAIRS = 1024**2
"""Of a query and a key: with more of them, what the products keep for the backward pass would be too much."""
_always_fused = ContextVar("always_fused", default=False)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Within it, `attend` uses the fused kernel everywhere, as it does on GPUs."""
    token = _always_fused.set(True)
    try:
        yield
    finally:
        _always_fused.reset(token)


def attend(
    query: Float[Tensor, "b h l k"],
    key: Float[Tensor, "b h m k"],
    value: Float[Tensor, "b h m k"],
    visible: Bool[Tensor, "b #h #l m"] | None = None,
) -> Float[Tensor, "b h l k"]:
    """Return softmax(query key^T / sqrt(k)) value, over the keys that are visible.

    By PyTorch's fused kernel, but for half precision with gradients on CPUs: there the backward pass of the fused
    kernel takes up to ten times as long as that of the products (docs/log.md).
    """
    if not _from_products(query, key):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return scores.softmax(dim=-1) @ value


def _from_products(query: Tensor, key: Tensor) -> bool:
    half = query.dtype == torch.bfloat16 or torch.is_autocast_enabled(query.device.type)
    needed = query.device.type == "cpu" and half and torch.is_grad_enabled() and query.requires_grad
    return needed and query.shape[-2] * key.shape[-2] <= _MOST_PAIRS and not _always_fused.get()


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), with optional extra tokens that are only looked at.

    `qk_norm` normalises queries and keys per head (RMS), which keeps the logits of deep networks bounded.
    """

    def __init__(self, width: int, heads: int, qkv_bias: bool = True, qk_norm: bool = False) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.query_norm: nn.Module = nn.RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.key_norm: nn.Module = nn.RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        context: Float[Tensor, "b m d"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
        mask: Bool[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b l d"]:
        """Return what each token of `x` gathers from `x` and, where given, from `context`.

        The context's tokens join the keys and values only (the `joint` mode of the recipe): they are
        projected like the others but produce no output. `mask` (of `x`) and `context_mask` are True where
        a token may be seen; every row needs one.
        """
        length = x.shape[1]
        sequence = x if context is None else torch.cat([x, context], dim=1)
        query, key, value = rearrange(self.qkv(sequence), "b l (three h k) -> three b h l k", three=3, h=self.heads)
        visible = _visible(sequence, length, mask, context_mask)
        gathered = attend(self.query_norm(query[:, :, :length]), self.key_norm(key), value, visible)
        return self.out(rearrange(gathered, "b h l k -> b l (h k)"))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another of any width."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        _check_heads(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b l d"],
        context: Float[Tensor, "b m c"],
        mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b l d"]:
        """Return what each token of `x` gathers from `context`, which may be seen where `mask` is True.

        Every row of `mask` needs one True: attention over nothing has no value.
        """
        query = rearrange(self.query(x), "b l (h k) -> b h l k", h=self.heads)
        key, value = rearrange(self.key_value(context), "b m (two h k) -> two b h m k", two=2, h=self.heads)
        visible = None if mask is None else mask[:, None, None, :]
        gathered = attend(query, key, value, visible)
        return self.out(rearrange(gathered, "b h l k -> b l (h k)"))


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them, `ratio` times wider in the middle."""

    def __init__(self, width: int, ratio: int | float = 4) -> None:
        hidden = round(width * ratio)
        super().__init__(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))


def _visible(sequence: Tensor, length: int, mask: Tensor | None, context_mask: Tensor | None) -> Tensor | None:
    if mask is None and context_mask is None:
        return None
    every = torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)
    own = every[:, :length] if mask is None else mask
    extra = every[:, length:] if context_mask is None else context_mask
    return torch.cat([own, extra], dim=1)[:, None, None, :]


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise RecipeError(f"a width of {width} cannot be divided among {heads} heads", "choose heads that divide width")
