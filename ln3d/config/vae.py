"""Recipe sections of `train-vae`: encoder, latent, decoder, field, renderer, losses."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ln3d.config.section import Section
from ln3d.config.training import TrainingConfig


class EncoderConfig(Section):
    """From posed views to the parameters of the tri-plane posterior."""

    kind: Literal["image", "aligned"] = "image"
    """`image`: the paper's conv net per view, cross-view attention, mean over views;
    `aligned`: posed RGB-D views lifted onto the three planes, then a shared conv net and joint attention."""
    views: int = Field(6, ge=1)
    """Input views V."""
    choice: Literal["any", "spread"] = "any"
    """Which views of an object the encoder sees in training: `any`, or `spread`, some that are far apart, as those
    are that `encode` and `eval` take."""
    pluecker: bool = True
    """Give the `image` encoder the Pluecker coordinates of every pixel's ray (6 channels)."""
    depth: bool = True
    """Give the `image` encoder the depth along every ray (1 channel)."""
    resolution: int = Field(64, ge=8)
    """Side of the input views (`image`) or of the lifted planes (`aligned`)."""
    slabs: int = Field(0, ge=0)
    """Slabs across each lifted plane, of which the `aligned` encoder sees colour and occupancy one by one; with 0 it
    sees what is outermost on either side, and nothing in between."""
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
    """Transformer decoder: the latent modulates learnable plane tokens (per-token AdaLN). DiT's sizes S, B and L are
    widths of 384, 768 and 1024 with 12, 12 and 24 blocks of 6, 12 and 16 heads."""

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
    initial: str | None = None
    """Where attention and feed-forward layers start: `dinov2[:MODEL][=FILE]`, evenly spread blocks of timm's DINOv2 of
    the same width and heads (its smallest: 384 and 6); null draws them. --init-from has a decoder, which is taken."""

    @model_validator(mode="after")
    def _something_starts(self) -> Self:
        if self.initial is not None and self.variant == "conv":
            raise ValueError("the conv variant has no transformer: leave out decoder.initial")
        return self


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
    search: bool = False
    """Training, rays without known depth: coarse samples have no gradient and do not count, they only say where the
    fine ones go. Several times faster."""
    guided_coarse: int = Field(10, ge=1)
    """Training, rays of known depth: stratified samples."""
    guided_fine: int = Field(8, ge=0)
    """Training, rays of known depth: samples around the surface; 0 turns depth guidance off."""
    guided_band: float = Field(0.1, gt=0)
    """Half-width of that neighbourhood in world units."""


class SupervisionConfig(Section):
    """Which pixels are compared."""

    kind: Literal["rays", "crop", "full", "latents"] = "rays"
    """`rays`: sparse pixels, foreground-biased; `crop`: a square window; `full`: the whole view; `latents`: none, the
    encoder alone learns the latents of another VAE, whose other weights stay (`--init-from`, after `encode`)."""
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
    near_miss: float = Field(2.0, gt=0)
    """How often a pixel just outside an outline is drawn, where one just inside has 2 and one well inside 1. At 2 both
    sides count alike; below, density grows over outlines, since what it hides there is seldom looked at."""
    resolution: int | None = None
    """Side of the supervised views, where it is smaller than the data's; null keeps the data's."""
    held_out_views: tuple[int, ...] = ()
    """Views of every object that are never an input and never supervised."""
    known_views: int | None = Field(None, ge=1)
    """How many views of an object, always the same ones of the others, training ever sees; null is all."""


def _lpips_name(name: str) -> str:
    if name.partition("=")[0] not in ("alex", "vgg") or name.endswith("="):
        raise ValueError("use alex or vgg, or one of them with a file of weights: alex=FILE")
    return name


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
    lpips_net: Annotated[str, AfterValidator(_lpips_name)] = "alex"
    """Network whose features the perceptual loss compares: AlexNet (`alex`) or VGG-16 (`vgg`), both with =FILE for
    weights of one's own."""
    adversarial: float = Field(0.0, ge=0)
    """Fooling the discriminator to which pictures of input views are real and their renders are not (needs `crop` or
    `full` supervision)."""
    adversarial_novel: float = Field(0.0, ge=0)
    """Fooling the discriminator to which renders of input views are real and those of novel views are not (likewise).
    Where no novel view is supervised, one is rendered from another object's camera."""
    kl: float = Field(1e-6, ge=0)
    """KL divergence, summed over the latent, mean over the batch (after the ramp)."""
    kl_initial: float | None = Field(None, ge=0)
    """KL weight before the ramp; null is the paper's kl / 10000."""
    kl_start: int = Field(5000, ge=0)
    """Step at which the KL ramp begins."""
    kl_end: int = Field(30000, ge=0)
    """Step at which the KL weight is reached."""


class DiscriminatorConfig(Section):
    """Vision-aided discriminators: small heads that learn, on a frozen network that sees the pictures for them."""

    backbone: str = "dinov2"
    """The frozen network: `dinov2[:MODEL]` or any other `timm:MODEL` of timm, `clip:MODEL` of open_clip, `lpips:alex`
    or `lpips:vgg`, all with =FILE for weights of one's own; `random`, filters that need no weights."""
    levels: int = Field(3, ge=1, le=5)
    """Depths of the frozen network that have a head, evenly spread; one more head judges its summary."""
    hidden: int = Field(64, ge=4)
    """Width of a head."""
    loss: Literal["non_saturating", "hinge"] = "non_saturating"
    """What both sides minimise: `non_saturating`, the paper's, is the cross entropy; `hinge` stops at a margin."""
    start: int = Field(0, ge=0)
    """Step at which they begin to learn and to be listened to."""
    learning_rate: float = Field(2e-4, gt=0)
    """AdamW's for the discriminator of input views, all the time."""
    novel_learning_rate: float = Field(1e-4, gt=0)
    """AdamW's for the discriminator of novel views, all the time."""
    betas: tuple[float, float] = (0.0, 0.999)
    """AdamW's moment decays."""
    r1: float = Field(0.0, ge=0)
    """Gamma of the penalty on slopes at real pictures (R1); 0 is none."""
    r1_every: int = Field(16, ge=1)
    """Steps between two computations of the penalty, which then counts as often."""


class AugmentationConfig(Section):
    """Other colours and proportions, the same for all views of an object."""

    saturation: float = Field(1.0, ge=1)
    """Largest factor on the saturation; 1 is off."""
    saturation_probability: float = Field(0.6, ge=0, le=1)
    """How often saturation is changed."""
    permutation: float = Field(0.0, ge=0, le=1)
    """How often the colour channels are permuted."""
    mirror: float = Field(0.0, ge=0, le=1)
    """How often an object is mirrored, left and right exchanged."""
    stretch: float = Field(1.0, ge=1)
    """Largest ratio by which an object's width, height and depth are changed; 1 is off."""
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
    discriminators: DiscriminatorConfig = DiscriminatorConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _pictures_have_neighbours(self) -> Self:
        names = ("smoothness", "lpips", "adversarial", "adversarial_novel")
        needing = [name for name in names if getattr(self.losses, name) > 0]
        none = {"rays": "sparse rays", "latents": "latents"}.get(self.supervision.kind)
        if none and needing:
            raise ValueError(
                f"losses.{' and losses.'.join(needing)} compare pictures, and {none} are none: "
                "set supervision.kind to crop or full"
            )
        return self

    @model_validator(mode="after")
    def _views_suffice(self) -> Self:
        supervision = self.supervision
        if self.losses.adversarial + self.losses.adversarial_novel > 0 and supervision.input_views == 0:
            raise ValueError("discriminators compare with input views: set supervision.input_views to at least 1")
        needed = self.encoder.views + supervision.novel_views
        if supervision.known_views is not None and supervision.known_views < needed:
            raise ValueError(
                f"{self.encoder.views} input and {supervision.novel_views} novel views need as many known ones: "
                f"raise supervision.known_views to at least {needed}"
            )
        return self

    @model_validator(mode="after")
    def _latents_have_their_objects(self) -> Self:
        own = self.augmentation
        changed = own.saturation > 1 or own.permutation > 0 or own.mirror > 0 or own.stretch > 1
        if self.supervision.kind == "latents" and changed:
            raise ValueError("latents are those of the objects as they are: leave out vae.augmentation")
        return self

    @property
    def imagines_views(self) -> bool:
        """Whether views are rendered that no picture shows, for a discriminator alone."""
        return self.losses.adversarial_novel > 0 and self.supervision.novel_views == 0
