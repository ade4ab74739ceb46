"""The level of density, set after training by the renderer that people will look through."""

from collections.abc import Sequence

import torch
from torch import nn

from ln3d.data.pictures import Pictures
from ln3d.geometry.rays import image_rays
from ln3d.models.autoencoder import Autoencoder
from ln3d.rendering.volume import TILE, render_rays
from ln3d.training.vae_rendering import radiance
from ln3d.training.vae_step import encode_object, evaluation_views

_OFFSETS = torch.arange(-4.0, 1.01, 0.5).tolist()
_RAYS = 8 * TILE  # of every object


@torch.no_grad()
def calibrate_density(networks: Autoencoder, pictures: Pictures, objects: Sequence[int]) -> float:
    """Shift the raw density of `networks` to where novel views of `objects` err least; return the shift.

    Training samples a ray where it knows the surface to be, evaluation must search for it and adds up more of what lies
    around: with the trained level outlines come out too wide. One number, found by trying a grid of them on views that
    are neither the encoder's nor held out (the encoder's, where there are no others).
    """
    bias = _density_bias(networks.head)
    trained = float(bias[0])
    errors = torch.zeros(len(_OFFSETS), dtype=torch.float64)
    for index in objects:
        errors += _errors(networks, pictures, index, trained)
    best = min(range(len(_OFFSETS)), key=lambda i: (float(errors[i]), abs(_OFFSETS[i])))
    bias[0] = trained + _OFFSETS[best]
    return float(_OFFSETS[best])


def _errors(networks: Autoencoder, pictures: Pictures, index: int, trained: float) -> torch.Tensor:
    """Return the mean squared colour error of one object at every offset."""
    bias, config = _density_bias(networks.head), networks.config
    inputs, held_out = evaluation_views(config, pictures.shards.views)
    view = next((v for v in range(pictures.shards.views) if v not in {*inputs, *held_out}), inputs[-1])
    colour, _, _ = pictures.stack(index, [view], None)
    origins, directions = image_rays(*pictures.cameras(index, [view]), pictures.shards.resolution)
    chosen = slice(None, None, max(1, origins.shape[1] // _RAYS))
    truth = torch.from_numpy(colour).reshape(1, -1, 3)[:, chosen].to(bias.device)
    origins, directions = (r[:, chosen].to(bias.device) for r in (origins, directions))
    field = radiance(networks, networks.decode(encode_object(networks, pictures, index, inputs).mean))
    errors = []
    for offset in _OFFSETS:
        bias[0] = trained + offset
        rendered = render_rays(field, origins, directions, config.renderer, chunk=_RAYS)
        errors.append((rendered.colour.clamp(0, 1) - truth).square().mean().double().cpu())
    bias[0] = trained
    return torch.stack(errors)


def _density_bias(head: nn.Module) -> torch.Tensor:
    """Return the bias of the head's last layer, whose first entry is raw density."""
    last = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    return last.bias
