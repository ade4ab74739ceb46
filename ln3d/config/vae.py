"""Recipe sections of `train-vae`: encoder, latent, decoder, field, renderer, losses."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ln3d.config.section import Section
from ln3d.config.training import TrainingConfig


class EncoderConfig(Section):
    """From posed views to the parameters of the tri-plane posterior."""

    kind: Literal["image", "aligned"] = "image"
    """`image`: the paper's conv net per view, cross-view attention, mean over views;
    `aligned`: posed RGB-D views lifted onto the three planes, then a shared conv net and joint attention."""
    views: int = Field(6, ge=1)
    """Input views V."""
    pluecker: bool = True
    """Give the `image` encoder the Pluecker coordinates of every pixel's ray (6 channels)."""
    depth: bool = True
    """Give the `image` encoder the depth along every ray (1 channel)."""
    resolution: int = Field(64, ge=8)
    """Side of the input views (`image`) or of the lifted planes (`aligned`)."""
    patch: int = Field(1, ge=1)
    """Side of the squares that are folded into the channels before the first level."""
    width: int = Field(32, ge=8)
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Width of each level relative to the first; each level after the first halves the resolution."""
    residual_blocks: int = Field(1, ge=1)
    """Residual blocks per level."""
    heads: int = Field(4, ge=1)
    """Attention heads of the middle block."""
    attention_blocks: int = Field(1, ge=1)
    """Attention blocks in the middle."""
    chroma_gain: float = Field(1.0, gt=0)
    """Factor on the colour differences that the encoder sees; above 1 small hues are not drowned."""


class LatentConfig(Section):
    """The KL-regularised tri-plane latent (b, 3, c, h, w)."""

    channels: int = Field(4, ge=1)
    """Channels c of each plane."""
    resolution: int = Field(16, ge=1)
    """Side h = w of each plane."""
    initial_log_variance: float = 0.0
    """Bias of the log-variance at the start."""


class DecoderConfig(Section):
    """Transformer decoder: the latent modulates learnable plane tokens (per-token AdaLN)."""

    variant: Literal["conv", "vit", "dit"] = "dit"
    """`dit`: the latent enters through AdaLN only; `vit`: it is the input sequence; `conv`: no transformer."""
    patch: int = Field(2, ge=1)
    """Side of the latent patches that become tokens."""
    width: int = Field(192, ge=8)
    """Width of the transformer."""
    depth: int = Field(6, ge=1)
    """Blocks; even ones attend within a plane, odd ones across the planes."""
    heads: int = Field(6, ge=1)
    """Attention heads."""
    add_latent: bool = False
    """Also add the latent's tokens to the input sequence of the `dit` variant."""
    in_plane_attention: bool = True
    """Even blocks attend within one plane (otherwise over all three)."""
    cross_plane_attention: bool = True
    """Odd blocks attend over all three planes (otherwise within one plane). Where this and in_plane_attention are
    both off, the planes are stacked in the channels of one token grid."""


class UpsamplerConfig(Section):
    """From token grids to feature planes."""

    kind: Literal["shuffle", "conv"] = "conv"
    """`conv`: nearest doubling and residual convolutions (the paper's); `shuffle`: sub-pixel convolutions (cheap)."""
    width: int = Field(32, ge=4)
    """Channels at the finest level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """Width of each level relative to the finest, finest first; each level after the first doubles the side."""
    unpatch: int = Field(1, ge=1)
    """Side of the patch that every token is linearly unfolded into before the levels."""


class FieldConfig(Section):
    """The tri-plane radiance field: features summed over the planes, then a small MLP."""

    channels: int = Field(32, ge=1)
    """Channels of a feature plane."""
    hidden: int = Field(64, ge=1)
    """Width of the MLP."""
    layers: int = Field(1, ge=1)
    """Hidden layers of the MLP."""
    density_scale: float = Field(1.0, gt=0)
    """Density is density_scale * softplus(raw - density_shift), per world unit."""
    density_shift: float = 1.0
    """See density_scale."""


class RendererConfig(Section):
    """Samples along a ray through the scene box."""

    coarse: int = Field(48, ge=1)
    """Stratified samples per ray."""
    fine: int = Field(24, ge=0)
    """Importance samples per ray."""
    guided_coarse: int = Field(10, ge=1)
    """Training, rays of known depth: stratified samples."""
    guided_fine: int = Field(8, ge=0)
    """Training, rays of known depth: samples around the surface; 0 turns depth guidance off."""
    guided_band: float = Field(0.1, gt=0)
    """Half-width of that neighbourhood in world units."""


class SupervisionConfig(Section):
    """Which pixels are compared."""

    kind: Literal["rays", "crop", "full"] = "rays"
    """`rays`: sparse pixels, foreground-biased; `crop`: a square window; `full`: the whole view."""
    input_views: int = Field(2, ge=0)
    """Supervised views per object that the encoder also saw."""
    novel_views: int = Field(2, ge=0)
    """Supervised views per object that it did not see."""
    rays: int = Field(1536, ge=1)
    """Rays per object of the `rays` kind, over all its supervised views."""
    crop: int = Field(64, ge=8)
    """Side of the `crop` window in pixels."""
    foreground: float = Field(0.875, ge=0, le=1)
    """Probability that a ray or a crop is drawn near the object."""
    resolution: int | None = None
    """Side of the supervised views, where it is smaller than the data's; null keeps the data's."""
    held_out_views: tuple[int, ...] = ()
    """Views of every object that are never an input and never supervised."""


class VaeLossConfig(Section):
    """Weights of the stage-1 losses."""

    l1: float = Field(1.0, ge=0)
    """Absolute colour error."""
    l2: float = Field(0.0, ge=0)
    """Squared colour error."""
    chroma: float = Field(1.0, gt=0)
    """Factor on colour differences from luma before the colour losses."""
    surface: float = Field(0.0, ge=0)
    """Colour error of the field at the surface itself, where depth is known."""
    alpha: float = Field(1.0, ge=0)
    """Absolute coverage error."""
    depth: float = Field(0.5, ge=0)
    """Depth error, foreground only."""
    depth_kind: Literal["absolute", "scale_invariant"] = "absolute"
    """`absolute`: mean absolute error in world units; `scale_invariant`: variance-like error of the logarithms."""
    depth_invariance: float = Field(0.5, ge=0, le=1)
    """Lambda of the scale-invariant error (Eigen et al. 2014, eq. 4): 1 forgets an object's scale, 0 keeps it."""
    smoothness: float = Field(0.0, ge=0)
    """Turn of the rendered surface's normal from pixel to pixel (needs `crop` or `full` supervision)."""
    lpips: float = Field(0.0, ge=0)
    """Perceptual loss (needs `crop` or `full` supervision)."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """Network whose features the perceptual loss compares: AlexNet or VGG-16."""
    adversarial: float = Field(0.0, ge=0)
    """Vision-aided discriminators (need `crop` or `full` supervision)."""
    kl: float = Field(1e-6, ge=0)
    """KL divergence, summed over the latent, mean over the batch (after the ramp)."""
    kl_initial: float | None = Field(None, ge=0)
    """KL weight before the ramp; null is the paper's kl / 10000."""
    kl_start: int = Field(5000, ge=0)
    """Step at which the KL ramp begins."""
    kl_end: int = Field(30000, ge=0)
    """Step at which the KL weight is reached."""


class AugmentationConfig(Section):
    """Colour changes, the same for all views of an object."""

    saturation: float = Field(1.0, ge=1)
    """Largest factor on the saturation; 1 is off."""
    saturation_probability: float = Field(0.6, ge=0, le=1)
    """How often saturation is changed."""
    permutation: float = Field(0.0, ge=0, le=1)
    """How often the colour channels are permuted."""
    until: float = Field(0.7, ge=0, le=1)
    """Share of the training after which there is no augmentation."""


class VaeConfig(Section):
    """Stage 1: the 3D-aware VAE."""

    encoder: EncoderConfig = EncoderConfig()
    latent: LatentConfig = LatentConfig()
    decoder: DecoderConfig = DecoderConfig()
    upsampler: UpsamplerConfig = UpsamplerConfig()
    field: FieldConfig = FieldConfig()
    renderer: RendererConfig = RendererConfig()
    supervision: SupervisionConfig = SupervisionConfig()
    losses: VaeLossConfig = VaeLossConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _pictures_have_neighbours(self) -> Self:
        needing = [name for name in ("smoothness", "lpips", "adversarial") if getattr(self.losses, name) > 0]
        if self.supervision.kind == "rays" and needing:
            raise ValueError(
                f"losses.{' and losses.'.join(needing)} compare pictures, and sparse rays are none: "
                "set supervision.kind to crop or full"
            )
        return self
