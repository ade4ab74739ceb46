"""From token maps to feature planes."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.config.vae import UpsamplerConfig
from ln3d.nn.convolution import ResidualBlock, ShuffleUpsample, Upsample, group_norm


class Upsampler(nn.Module):
    """Double the side once per level after the first; every plane by itself, with shared weights."""

    def __init__(self, config: UpsamplerConfig, width_in: int, channels: int) -> None:
        super().__init__()
        self.unpatch = config.unpatch
        widths = [config.width * m for m in reversed(config.multipliers)]  # coarsest first
        self.entry = nn.Linear(width_in, widths[0] * config.unpatch**2)
        steps: list[nn.Module] = [ResidualBlock(widths[0], widths[0])]
        for coarse, fine in zip(widths[:-1], widths[1:], strict=True):
            if config.kind == "shuffle":
                steps += [ShuffleUpsample(coarse, fine), ResidualBlock(fine, fine)]
            else:
                steps += [Upsample(coarse), ResidualBlock(coarse, fine), ResidualBlock(fine, fine)]
        self.steps = nn.Sequential(*steps)
        self.norm = group_norm(widths[-1])
        self.exit = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, tokens: Float[Tensor, "n h w d"]) -> Float[Tensor, "n c h2 w2"]:
        """Return feature maps of side unpatch * 2^(levels - 1) times the tokens'."""
        unfolded = rearrange(self.entry(tokens), "n h w (r s c) -> n c (h r) (w s)", r=self.unpatch, s=self.unpatch)
        return self.exit(F.silu(self.norm(self.steps(unfolded))))


def upsampling_factor(config: UpsamplerConfig) -> int:
    """Return how many times the side of the tokens the side of the planes is."""
    return int(config.unpatch * 2 ** (len(config.multipliers) - 1))
