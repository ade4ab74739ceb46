"""Recipe sections of `train-diffusion` and `sample`."""

from typing import Literal

from pydantic import Field

from ln3d.config.section import Section
from ln3d.config.training import TrainingConfig


class DitConfig(Section):
    """Diffusion transformer over the tokens of the three planes."""

    patch: int = Field(2, ge=1)
    """Side of the latent patches that become tokens."""
    width: int = Field(256, ge=8)
    """Width D of the transformer."""
    depth: int = Field(8, ge=1)
    """Blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    modulation: Literal["zero", "single"] = "single"
    """`zero`: every block has its own D -> 6D projection (AdaLN-zero); `single`: one shared, and a table per block."""
    context: Literal["cross", "joint"] = "cross"
    """Condition tokens enter by cross-attention (`cross`) or in the self-attention's sequence (`joint`)."""


class UnetConfig(Section):
    """Denoising U-Net on the rolled-out latent."""

    width: int = Field(320, ge=8)
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level relative to the first."""
    residual_blocks: int = Field(2, ge=1)
    """Residual blocks per level."""
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    """Down-sampling factors at which there is attention."""
    heads: int = Field(8, ge=1)
    """Attention heads."""


class ConditionConfig(Section):
    """What the denoiser listens to."""

    kind: Literal["none", "text", "image"] = "none"
    """`none`: unconditional."""
    text_encoder: Literal["wordllama", "clip"] = "wordllama"
    """`wordllama`: 256-d token embeddings shipped with that package; `clip`: 77 x 768 tokens of ViT-L/14."""
    depth: int = Field(2, ge=0)
    """Blocks of the small trained transformer over the token embeddings."""
    tokens: int = Field(24, ge=1)
    """Longest prompt in tokens."""
    drop: float = Field(0.15, ge=0, lt=1)
    """How often the condition of a sample is replaced by the learned null."""


class SamplerConfig(Section):
    """How samples are drawn by default."""

    method: Literal["euler", "heun"] = "euler"
    """ODE solver."""
    steps: int = Field(25, ge=1)
    """Solver steps."""
    guidance: float = Field(2.0, ge=0)
    """Classifier-free guidance s: s * conditional + (1 - s) * unconditional."""


class DiffusionConfig(Section):
    """Stage 2: latent diffusion."""

    framework: Literal["flow", "ddpm"] = "flow"
    """`flow`: rectified flow, velocity prediction; `ddpm`: variance-preserving diffusion."""
    network: Literal["dit", "unet"] = "dit"
    """Which denoiser."""
    dit: DitConfig = DitConfig()
    unet: UnetConfig = UnetConfig()
    condition: ConditionConfig = ConditionConfig()
    training: TrainingConfig = TrainingConfig()
    sampler: SamplerConfig = SamplerConfig()
    balance: float = Field(0.5, ge=0, le=1)
    """How far rare categories are drawn as often as common ones: 0 by count, 1 all alike."""
