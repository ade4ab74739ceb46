"""What stage 1 renders: the field of its networks, and rays through it as a recipe samples them in training."""

from jaxtyping import Float
from torch import Tensor

from ln3d.config.vae import VaeConfig
from ln3d.geometry.sampling import Jitter
from ln3d.models.autoencoder import Autoencoder
from ln3d.rendering.fields import Field, checkpointed, triplane_field
from ln3d.rendering.frozen import frozen_field
from ln3d.rendering.volume import Rendered, render_rays


def radiance(networks: Autoencoder, planes: Float[Tensor, "b 3 c h w"]) -> Field:
    """Return the radiance field of feature planes, as the networks' recipe defines density."""
    config = networks.config.field
    return triplane_field(planes, networks.head, config.density_scale, config.density_shift)


def frozen_radiance(networks: Autoencoder, planes: Float[Tensor, "b 3 c h w"]) -> Field:
    """Return `radiance` without gradients, several times faster on a CPU where much is asked of it."""
    config = networks.config.field
    return frozen_field(planes, networks.head, config.density_scale, config.density_shift)


def training_render(
    networks: Autoencoder,
    planes: Float[Tensor, "b 3 c h w"],
    origins: Float[Tensor, "b r 3"],
    directions: Float[Tensor, "b r 3"],
    config: VaeConfig,
    *,
    jitter: Jitter | None = None,
    hint: Float[Tensor, "b r"] | None = None,
) -> Rendered:
    """Return what rays see of feature planes, sampled as the recipe has it in training, with gradients.

    `hint` is the depth of the first surface along each ray, where it is known: the renderer may be guided by it.
    """
    field = radiance(networks, planes)
    if config.training.gradient_checkpointing:
        field = checkpointed(field)
    guide = hint if config.renderer.guided_fine > 0 else None
    search = frozen_radiance(networks, planes) if guide is None and config.renderer.search else None
    return render_rays(field, origins, directions, config.renderer, generator=jitter, depth_hint=guide, search=search)
