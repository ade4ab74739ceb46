"""The transformer decoder: latent planes in, token planes out (LN3Diff++ section 3)."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ln3d.config.vae import DecoderConfig, LatentConfig
from ln3d.errors import RecipeError
from ln3d.nn.attention import FeedForward, SelfAttention
from ln3d.nn.modulation import modulate, plain_norm, zeroed
from ln3d.nn.positions import sincos_2d

_MODULATIONS = 6  # shift, scale and gate, of attention and of the feed-forward layer


class DecoderBlock(nn.Module):
    """Attention within each plane or across all three, then a feed-forward layer.

    With `modulated`, the latent's token at the same place shifts, scales and gates both (AdaLN-zero per
    token, Peebles and Xie 2023, zero-initialised: the block starts as the identity).
    """

    def __init__(self, width: int, heads: int, in_plane: bool, modulated: bool) -> None:
        super().__init__()
        self.in_plane = in_plane
        self.norm1, self.norm2 = plain_norm(width), plain_norm(width)
        self.attention = SelfAttention(width, heads)
        self.feed_forward = FeedForward(width)
        self.modulation = (
            nn.Sequential(nn.SiLU(), zeroed(nn.Linear(width, _MODULATIONS * width))) if modulated else None
        )

    def forward(self, x: Float[Tensor, "b l d"], condition: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        """Return the tokens of the three planes, l = 3 h w, after the block."""
        if self.modulation is None:
            x = x + self._attend(self.norm1(x))
            return x + self.feed_forward(self.norm2(x))
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(_MODULATIONS, dim=-1)
        x = x + gate1 * self._attend(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.feed_forward(modulate(self.norm2(x), shift2, scale2))

    def _attend(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        if not self.in_plane:
            return self.attention(x)
        return rearrange(self.attention(rearrange(x, "b (p l) d -> (b p) l d", p=3)), "(b p) l d -> b (p l) d", p=3)


class Decoder(nn.Module):
    """Latent planes to token planes of width `config.width` and side latent / patch.

    Variants: `dit` starts from a learnable embedding and hears the latent through AdaLN only; `vit` starts
    from the latent; `conv` has no transformer at all. Without in-plane and cross-plane attention both, the three
    planes lie in the channels of one token grid, and a linear layer takes them apart at the end.
    """

    def __init__(self, config: DecoderConfig, latent: LatentConfig, checkpointing: bool = False) -> None:
        super().__init__()
        if latent.resolution % config.patch:
            raise RecipeError(
                f"latent planes of {latent.resolution} cells cannot be cut into patches of {config.patch}",
                "choose vae.decoder.patch to divide vae.latent.resolution",
            )
        self.config, self.checkpointing = config, checkpointing
        self.side = latent.resolution // config.patch
        self.stacked = not (config.in_plane_attention or config.cross_plane_attention)
        self.embed = nn.Linear((3 if self.stacked else 1) * latent.channels * config.patch**2, config.width)
        rows = self.side if self.stacked else 3 * self.side  # the planes one above the other
        grid = sincos_2d(rows, self.side, config.width)
        self.position = nn.Parameter(grid)
        depth = 0 if config.variant == "conv" else config.depth
        self.blocks = nn.ModuleList(
            DecoderBlock(config.width, config.heads, self._in_plane(i), config.variant == "dit") for i in range(depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.unstack = nn.Linear(config.width, 3 * config.width) if self.stacked else None

    def _in_plane(self, index: int) -> bool:
        if self.stacked:
            return False
        even = index % 2 == 0
        return self.config.in_plane_attention if even else not self.config.cross_plane_attention

    def forward(self, latent: Float[Tensor, "b 3 c h w"]) -> Float[Tensor, "b 3 h2 w2 d"]:
        """Return the token planes of a latent."""
        patch = self.config.patch
        tokens = "b (h w) (p r s c)" if self.stacked else "b (p h w) (r s c)"
        patches = rearrange(latent, f"b p c (h r) (w s) -> {tokens}", r=patch, s=patch)
        condition = self.embed(patches)
        start = repeat(self.position, "l d -> b l d", b=latent.shape[0])
        x = start if self.config.variant == "dit" else start + condition
        if self.config.add_latent and self.config.variant == "dit":
            x = x + condition
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, condition, use_reentrant=False)
            else:
                x = block(x, condition)
        if self.unstack is not None:
            return rearrange(self.unstack(self.norm(x)), "b (h w) (p d) -> b p h w d", p=3, h=self.side)
        return rearrange(self.norm(x), "b (p h w) d -> b p h w d", p=3, h=self.side)


def field_head(channels: int, hidden: int, layers: int) -> nn.Sequential:
    """Return the MLP from summed plane features to raw density and raw colour, (..., c) -> (..., 4)."""
    widths = [channels] + [hidden] * layers
    modules: list[nn.Module] = []
    for width_in, width_out in zip(widths[:-1], widths[1:], strict=True):
        modules += [nn.Linear(width_in, width_out), nn.SiLU()]
    head = nn.Linear(hidden, 4)
    nn.init.normal_(head.weight, std=0.5 * hidden**-0.5)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*modules, head)


def count_parameters(module: nn.Module) -> int:
    """Return the number of weights of `module`, counted without touching their values (works on `meta`)."""
    return sum(torch.Size(p.shape).numel() for p in module.parameters())
