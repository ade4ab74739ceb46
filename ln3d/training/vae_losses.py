"""What a step of stage 1 compares: renders with their truth, term by term, and what each term weighs."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ln3d.config.vae import SupervisionConfig, VaeConfig, VaeLossConfig
from ln3d.losses.kl import kl_weight
from ln3d.losses.reconstruction import colour_loss, depth_loss, scale_invariant_depth_loss, surface_colour_loss
from ln3d.losses.smoothness import normal_smoothness
from ln3d.rendering.fields import Field
from ln3d.rendering.volume import Rendered
from ln3d.training.parts import WHOLE, Part

_WEIGHED = ("alpha", "depth", "surface", "smoothness", "lpips", "adversarial", "adversarial_novel")
_SOLID = 0.99  # coverage from which a pixel's colour is that of one surface


def render_terms(
    rendered: Rendered,
    field: Field,
    batch: dict[str, Tensor],
    config: VaeConfig,
    part: Part = WHOLE,
    perceptual: nn.Module | None = None,
) -> dict[str, Tensor]:
    """Return the losses of a batch's rendered rays by name, unweighted: all but those of the latent and of contests.

    `field` is what was rendered, `perceptual` a distance of pictures (b 3 h w) in [0, 1] for `losses.lpips`.
    """
    losses = config.losses
    weights = (losses.l1, losses.l2, losses.chroma)
    terms = {
        "colour": colour_loss(rendered.colour, batch["colour"], *weights),
        "alpha": (rendered.alpha - batch["alpha"]).abs().mean(),
    }
    if losses.depth > 0:
        terms["depth"] = _depth_error(rendered, batch["depth"], losses, part)
    if losses.surface > 0:
        points = batch["origins"] + batch["depth"][..., None] * batch["directions"]
        solid = ((batch["depth"] > 0) & (batch["alpha"] > _SOLID)).float()
        terms["surface"] = surface_colour_loss(
            field(points)[1], batch["colour"], solid, *weights, part.denominator("surface")
        )
    if config.supervision.kind != "rays":
        terms.update(_picture_terms(rendered, batch, config, part, perceptual))
    return terms


def averages_over_hits(losses: VaeLossConfig) -> bool:
    """Return whether a loss with a weight divides by what is hit: the terms that ask for `Part.denominator`."""
    return losses.surface > 0 or losses.smoothness > 0 or (losses.depth > 0 and losses.depth_kind == "absolute")


def loss_weights(losses: VaeLossConfig, step: int) -> dict[str, float]:
    """Return what every term counts at `step`; those of colours are inside it."""
    kl = kl_weight(step, losses.kl, losses.kl_start, losses.kl_end, losses.kl_initial)
    return {"colour": 1.0, "kl": kl} | {name: getattr(losses, name) for name in _WEIGHED}


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Float[Tensor, ""]:
    """Return the sum of the terms that have a weight."""
    return torch.stack([weights[name] * term for name, term in terms.items() if weights[name] > 0]).sum()


def pictures_of(values: Float[Tensor, "b r c"], config: SupervisionConfig) -> Float[Tensor, "n c h w"]:
    """Return the crops or whole views that an object's rays are, views folded into the batch; no sparse rays."""
    views = config.input_views + config.novel_views
    side = math.isqrt(values.shape[1] // views)
    return rearrange(values, "b (v h w) c -> (b v) c h w", v=views, h=side)


def _depth_error(rendered: Rendered, truth: Float[Tensor, "b r"], losses: VaeLossConfig, part: Part) -> Tensor:
    if losses.depth_kind == "absolute":
        return depth_loss(rendered.depth, truth, rendered.alpha, part.denominator("depth"))
    return scale_invariant_depth_loss(rendered.depth, truth, rendered.alpha, losses.depth_invariance)


def _picture_terms(
    rendered: Rendered, batch: dict[str, Tensor], config: VaeConfig, part: Part, perceptual: nn.Module | None
) -> dict[str, Tensor]:
    """Return the losses that compare neighbouring pixels, those of them that have a weight."""
    losses, supervision = config.losses, config.supervision
    truth = pictures_of(batch["colour"], supervision)
    terms: dict[str, Tensor] = {}
    if losses.smoothness > 0:
        points = batch["origins"] + rendered.depth[..., None] * batch["directions"]
        alpha = pictures_of(rendered.alpha[..., None], supervision)[:, 0]
        terms["smoothness"] = normal_smoothness(
            pictures_of(points, supervision), alpha, truth, part.denominator("smoothness")
        )
    if losses.lpips > 0 and perceptual is not None:
        drawn = pictures_of(rendered.colour, supervision)
        terms["lpips"] = perceptual.to(drawn.device)(drawn, truth).mean()
    return terms
