"""The paper's encoder: a conv net per view, attention across the views, mean over the views."""

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ln3d.config.vae import EncoderConfig
from ln3d.models.lifting import lift, lifted_channels
from ln3d.models.views import Views
from ln3d.nn.attention import SelfAttention
from ln3d.nn.convolution import Downsample, ResidualBlock, group_norm


def input_channels(config: EncoderConfig) -> int:
    """Return the channels per view: RGB 3, Pluecker 6, depth 1 (paper section 1.3 of the supplement)."""
    return 3 + 6 * config.pluecker + 1 * config.depth


class SpatialAttention(nn.Module):
    """Self-attention over the pixels of all views of an object at once."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.attention = SelfAttention(width, heads)

    def forward(self, x: Float[Tensor, "n c h w"], group: int) -> Float[Tensor, "n c h w"]:
        """Attend among each `group` of neighbouring maps (the views, or the planes, of one object)."""
        h, w = x.shape[-2:]
        tokens = rearrange(self.norm(x), "(b v) c h w -> b (v h w) c", v=group)
        return x + rearrange(self.attention(tokens), "b (v h w) c -> (b v) c h w", v=group, h=h, w=w)


class ConvTrunk(nn.Module):
    """Levels of residual blocks, each but the first at half the side; then a middle with joint attention."""

    def __init__(self, channels: int, config: EncoderConfig) -> None:
        super().__init__()
        width = config.width * config.multipliers[0]
        self.entry = nn.Sequential(
            nn.PixelUnshuffle(config.patch), nn.Conv2d(channels * config.patch**2, width, 3, padding=1)
        )
        levels: list[nn.Module] = []
        for index, multiplier in enumerate(config.multipliers):
            if index:
                levels.append(Downsample(width))
            for _ in range(config.residual_blocks):
                levels.append(ResidualBlock(width, config.width * multiplier))
                width = config.width * multiplier
        self.levels = nn.Sequential(*levels)
        self.before = ResidualBlock(width, width)
        self.attention = nn.ModuleList(SpatialAttention(width, config.heads) for _ in range(config.attention_blocks))
        self.after = nn.ModuleList(ResidualBlock(width, width) for _ in range(config.attention_blocks))
        self.norm = group_norm(width)
        self.width = width

    def forward(self, x: Float[Tensor, "n c_in h w"], group: int) -> Float[Tensor, "n c_out h2 w2"]:
        """Return feature maps at 1 / (patch * 2^(levels - 1)) of the side; `group` maps of an object see each other."""
        return self.behind_entry(self.entry(x), group)

    def behind_entry(self, x: Float[Tensor, "n c h w"], group: int) -> Float[Tensor, "n c_out h2 w2"]:
        """Return what `forward` makes of what `entry` made."""
        x = self.before(self.levels(x))
        for attention, block in zip(self.attention, self.after, strict=True):
            x = block(attention(x, group))
        return F.silu(self.norm(x))


class ImageEncoder(nn.Module):
    """Views to posterior parameters: the same weights for every view, any number of views, any order.

    The latent is laid out (plane, channel), planes in the order xy, yz, zx.
    """

    def __init__(self, config: EncoderConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = ConvTrunk(input_channels(config), config)
        self.exit = nn.Conv2d(self.trunk.width, 3 * 2 * latent_channels, 3, padding=1)

    def forward(self, views: Views) -> Float[Tensor, "b 3 c2 h w"]:
        """Return mean and log-variance stacked on the channels, from V posed views."""
        count = views.colour.shape[1]
        features = self.trunk(self._stack(views), group=count)
        per_view = rearrange(self.exit(features), "(b v) (p c) h w -> b v p c h w", v=count, p=3)
        return per_view.mean(dim=1)

    def _stack(self, views: Views) -> Float[Tensor, "n c h w"]:
        parts = [2.0 * views.stretched_colour(self.config.chroma_gain) - 1.0]
        if self.config.pluecker:
            parts.append(views.pluecker())
        if self.config.depth:
            parts.append(views.depth[:, :, None])
        return rearrange(torch.cat(parts, dim=2), "b v c h w -> (b v) c h w")


class AlignedEncoder(nn.Module):
    """Lifted planes to posterior parameters: a shared conv net per plane, joint attention over the planes.

    Not the paper's: every latent cell starts from what the views saw at its own place in space, so that
    the net need not learn the geometry of projection.
    """

    def __init__(self, config: EncoderConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        channels, side = lifted_channels(config.slabs), config.resolution
        self.trunk = ConvTrunk(channels, config)
        self.place = nn.Parameter(torch.zeros(3, channels, side, side))
        self.exit = nn.Conv2d(self.trunk.width, 2 * latent_channels, 3, padding=1)

    def forward(self, views: Views) -> Float[Tensor, "b 3 c2 h w"]:
        """Return mean and log-variance stacked on the channels, from V posed RGB-D views."""
        planes = lift(views, self.config.resolution, self.config.chroma_gain, self.config.slabs)
        return self.encode_planes(planes)

    def encode_planes(self, planes: Float[Tensor, "b 3 c h w"]) -> Float[Tensor, "b 3 c2 h2 w2"]:
        """Return mean and log-variance stacked on the channels, from lifted planes."""
        # conv(planes + place) as a sum of two: so the many planes need no gradient, and the places are there once.
        fold, convolution = self.trunk.entry
        places = F.conv2d(fold(self.place), convolution.get_parameter("weight"), padding=1)
        entered = self.trunk.entry(rearrange(planes, "b p c h w -> (b p) c h w"))
        entered = entered + repeat(places, "p c h w -> (b p) c h w", b=len(planes))
        features = self.trunk.behind_entry(entered, group=3)
        return rearrange(self.exit(features), "(b p) c h w -> b p c h w", p=3)
