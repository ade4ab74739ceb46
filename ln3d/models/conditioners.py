"""What the denoiser listens to: frozen text tokens become condition tokens of its own width."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ln3d.config.diffusion import ConditionConfig
from ln3d.errors import RecipeError
from ln3d.nn.attention import FeedForward, SelfAttention

TEXT_WIDTHS = {"wordllama": 256, "clip": 768}
"""Width of the tokens that each text encoder yields."""


class Condition(NamedTuple):
    """What enters the denoiser, batch first: `tokens` (b l d), `mask` (b l) True where real, `pooled` (b d)."""

    tokens: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]
    pooled: Float[Tensor, "b d"]


class TextConditioner(nn.Module):
    """A small trained transformer over frozen token embeddings, with a learned null.

    A sample without any real token (no prompt, an empty one, or a dropped one) is the null: one learned
    token. With `depth` 0 there is only a two-layer MLP per token, for encoders that have attended already.
    """

    def __init__(self, context_width: int, width: int, depth: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.enter: nn.Module = nn.Linear(context_width, width)
        if depth == 0:
            self.enter = nn.Sequential(nn.Linear(context_width, width), nn.GELU(), nn.Linear(width, width))
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.places = nn.Parameter(torch.randn(tokens, width) * 0.02) if depth else None
        self.blocks = nn.ModuleList(TextBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "b l c"], mask: Bool[Tensor, "b l"]) -> Condition:
        """Return the condition of each sample; where `mask` (True for a real token) is False throughout, the null."""
        absent = ~mask.any(dim=1)
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        mask = torch.where(absent[:, None], first, mask)
        x = self.enter(tokens)
        if self.places is not None:
            x = x + self.places[: x.shape[1]]
        x = torch.where(absent[:, None, None], self.null.to(x.dtype), x)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        weights = mask.to(x.dtype) / mask.sum(dim=1, keepdim=True)
        return Condition(x, mask, torch.einsum("bld,bl->bd", x, weights))


class TextBlock(nn.Module):
    """Pre-norm transformer block that sees real tokens only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Return `x` after attention among the tokens where `mask` is True, and a feed-forward layer."""
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.feed_forward(self.forward_norm(x))


def build_conditioner(config: ConditionConfig, width: int, heads: int) -> TextConditioner | None:
    """Return the conditioner a recipe asks for, None for an unconditional model; RecipeError if it is not built."""
    if config.kind == "none":
        return None
    if config.kind != "text":
        raise RecipeError(
            f"diffusion.condition.kind `{config.kind}` is not built yet", "use `text` or `none` for the time being"
        )
    return TextConditioner(TEXT_WIDTHS[config.text_encoder], width, config.depth, heads, config.tokens)
