"""What a step of stage 1 has to do with discriminators: whom they judge, what that tells both sides."""

import torch
from torch import Tensor

from ln3d.backbones.frozen_maps import FrozenMaps
from ln3d.config.training import TrainingConfig
from ln3d.config.vae import DiscriminatorConfig, VaeConfig
from ln3d.errors import RecipeError
from ln3d.losses.adversarial import discriminator_loss, generator_loss, lazy_factor, r1_penalty
from ln3d.models.discriminator import INPUT_VIEW, NOVEL_VIEW, Shown, ViewDiscriminators
from ln3d.seeding import key_seed

_SUFFIX = {INPUT_VIEW: "", NOVEL_VIEW: "_novel"}
"""Ends the names of what a kind of view is about: of weights in the recipe and of figures."""


def view_kinds(config: VaeConfig) -> list[str]:
    """Return the kinds of views that a discriminator judges: those with a weight."""
    return [kind for kind, suffix in _SUFFIX.items() if getattr(config.losses, f"adversarial{suffix}") > 0]


def build_discriminators(maps: FrozenMaps, config: VaeConfig, seed: int) -> ViewDiscriminators:
    """Return the discriminators that a recipe asks for, from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_seed(seed, "discriminators"))
        return ViewDiscriminators(maps, config.discriminators.hidden, view_kinds(config))


def check_pictures(maps: FrozenMaps, config: VaeConfig, side: int) -> None:
    """Raise RecipeError where the frozen network cannot look at pictures of `side` pixels."""
    if side < maps.smallest:
        raise RecipeError(
            f"{config.discriminators.backbone} looks at pictures of at least {maps.smallest} pixels, not {side}",
            "raise vae.supervision.crop, or vae.supervision.resolution where whole views are compared",
        )


def discriminator_training(config: VaeConfig) -> TrainingConfig:
    """Return how discriminators are trained: by AdamW at rates that stay, else as the networks that they judge."""
    own = config.discriminators
    factors = {NOVEL_VIEW: own.novel_learning_rate / own.learning_rate} if NOVEL_VIEW in view_kinds(config) else {}
    rates = {"learning_rate": own.learning_rate, "learning_rates": factors, "final_learning_rate": 1.0, "warmup": 0}
    adamw = {"optimiser": "adamw", "weight_decays": {}, "betas": own.betas}
    return config.training.model_copy(update=rates | adamw)


def contest(
    discriminators: ViewDiscriminators, shown: Shown, config: DiscriminatorConfig, step: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the losses of the generator, and of the discriminators with their R1 penalties, by name.

    The former have a gradient in the renders alone, the latter in the discriminators' weights alone, so both sides
    can be differentiated at once. Every weight is 1, but for what a penalty weighs that is computed at some steps only.
    """
    seen = discriminators.look(shown)
    judged, lessons = discriminators.judged(seen), discriminators.lessons(seen)
    fooling = {f"adversarial{_SUFFIX[kind]}": generator_loss(logits, config.loss) for kind, logits in judged.items()}
    learning = {
        f"discriminator{_SUFFIX[kind]}": discriminator_loss(lesson.real, lesson.fake, config.loss)
        for kind, lesson in lessons.items()
    }
    factor = lazy_factor(step - config.start, config.r1_every)
    if config.r1 == 0 or factor == 0 or not torch.is_grad_enabled():  # a slope cannot be had without gradient
        return fooling, learning
    with torch.autocast(shown.pictures.device.type, enabled=False):  # squares of small slopes
        penalties = {
            f"r1{_SUFFIX[kind]}": factor * r1_penalty(slope.logits, slope.pictures, config.r1)
            for kind, slope in discriminators.slopes(shown).items()
        }
    return fooling, learning | penalties
