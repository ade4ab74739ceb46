"""What generator and discriminator want of a picture's logits, and the penalty on a critic's slope.

Logits are unbounded, high where a picture is taken for a real one.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

AdversarialKind = Literal["non_saturating", "hinge"]


def generator_loss(fake: Float[Tensor, "b *heads"], kind: AdversarialKind) -> Float[Tensor, ""]:
    """Return what the generator minimises over the logits of its pictures.

    `non_saturating`: mean of -log sigmoid(fake) (Goodfellow et al. 2014, section 3); `hinge`: mean of -fake
    (Lim and Ye 2017).
    """
    return F.softplus(-fake).mean() if kind == "non_saturating" else -fake.mean()


def discriminator_loss(
    real: Float[Tensor, "b *heads"], fake: Float[Tensor, "c *heads"], kind: AdversarialKind
) -> Float[Tensor, ""]:
    """Return what the discriminator minimises.

    `non_saturating`: mean of -log sigmoid(real) plus mean of -log(1 - sigmoid(fake)) (Goodfellow et al. 2014,
    eq. 1); `hinge`: mean of max(0, 1 - real) plus mean of max(0, 1 + fake) (Lim and Ye 2017).
    """
    if kind == "non_saturating":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def r1_penalty(
    logits: Float[Tensor, "b *heads"], pictures: Float[Tensor, "b *picture"], gamma: float
) -> Float[Tensor, ""]:
    """Return gamma / 2 * mean of |gradient of the mean logit of a real picture|^2 (Mescheder et al. 2018, eq. 9).

    `pictures` require a gradient and `logits` were made of them, each of its own picture, by twice differentiable
    operations; the result can be differentiated by the discriminator's weights.
    """
    per_picture = logits.flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(per_picture.sum(), pictures, create_graph=True)
    return 0.5 * gamma * gradient.square().flatten(1).sum(dim=1).mean()


def lazy_factor(step: int, interval: int) -> int:
    """Return the weight of a penalty that is computed at every `interval`-th step only, and 0 at the others.

    It is the interval itself, so that the average over the steps is the penalty's (Karras et al. 2020, appendix B).
    """
    return interval if step % interval == 0 else 0
