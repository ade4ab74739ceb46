"""What a VAE makes of one whole object, as it is evaluated: some views in, a posterior, pictures of others out."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.config.vae import VaeConfig
from ln3d.data.batches import input_views
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.geometry.cameras import views_apart
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.posterior import Posterior
from ln3d.models.views import Views
from ln3d.rendering.volume import render_images
from ln3d.training.vae_rendering import radiance


def views_of(batch: dict[str, Tensor]) -> Views:
    """Return the encoder's input of a batch."""
    return Views(batch["input_colour"], batch["input_depth"], batch["input_cameras"], batch["input_intrinsics"])


def evaluation_views(config: VaeConfig, shards: ShardSet) -> tuple[list[int], list[int]]:
    """Return the encoder's views and the views compared at evaluation: of all objects the same, and always.

    Those compared were never supervised, if the recipe holds any out. The encoder's are far apart as the cameras of the
    first object stand; in a set whose objects have cameras of their own each, the others see what comes of it.
    """
    held_out = [v for v in config.supervision.held_out_views if v < shards.views]
    rest = [v for v in range(shards.views) if v not in held_out]
    inputs = [rest[place] for place in views_apart(shards.eyes(0)[rest], config.encoder.views)]
    return inputs, held_out or [v for v in rest if v not in inputs] or rest


@torch.no_grad()
def encode_object(networks: Autoencoder, pictures: Pictures, index: int, views: Sequence[int]) -> Posterior:
    """Return the posterior (batch of one) of object `index` seen in `views`, without augmentation."""
    device = next(networks.parameters()).device
    batch = input_views(pictures, index, views, networks.config, np.eye(3, dtype=np.float32))
    return networks.encode(views_of({name: value[None].to(device) for name, value in batch.items()}))


@torch.no_grad()
def reconstruct(
    networks: Autoencoder, pictures: Pictures, index: int, inputs: Sequence[int], targets: Sequence[int]
) -> tuple[Float[Tensor, "v h w 3"], Float[Tensor, "v h w"], Float[Tensor, "v h w"]]:
    """Return colour, coverage and depth of `targets` rendered from the posterior mean of `inputs`."""
    device = next(networks.parameters()).device
    planes = networks.decode(encode_object(networks, pictures, index, inputs).mean)
    camera_to_world, intrinsics = (c.to(device) for c in pictures.cameras(index, targets))
    field = radiance(networks, planes.expand(len(targets), -1, -1, -1, -1))
    side = pictures.shards.resolution
    return render_images(field, camera_to_world, intrinsics, side, networks.config.renderer)
