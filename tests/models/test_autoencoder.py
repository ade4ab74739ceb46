"""The networks of stage 1 together."""

import pytest
import torch
from torch import nn

from ln3d.config.vae import DecoderConfig, EncoderConfig, FieldConfig, LatentConfig, UpsamplerConfig, VaeConfig
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import intrinsics, look_at, spiral
from ln3d.models.autoencoder import Autoencoder, latent_side
from ln3d.models.views import Views


def _config(kind: str = "image", **changes: object) -> VaeConfig:
    parts = {
        "encoder": EncoderConfig(kind=kind, resolution=16, patch=2, width=8, multipliers=(1, 2), heads=2),
        "latent": LatentConfig(channels=2, resolution=4, initial_log_variance=-2),
        "decoder": DecoderConfig(patch=2, width=16, depth=2, heads=2),
        "upsampler": UpsamplerConfig(kind="shuffle", width=8, multipliers=(1, 2), unpatch=2),
        "field": FieldConfig(channels=6, hidden=8),
    }
    return VaeConfig(**(parts | changes))


def _networks(config: VaeConfig) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(config)


def _views() -> Views:
    poses = torch.from_numpy(look_at(spiral(4) * 3.0)).float().reshape(2, 2, 4, 4)
    depth = 2.5 + torch.rand(2, 2, 16, 16)
    matrices = torch.from_numpy(intrinsics(36.0)).float().expand(2, 2, 3, 3)
    return Views(torch.rand(2, 2, 3, 16, 16), depth, poses, matrices)


@pytest.mark.parametrize("kind", ["image", "aligned"])
def test_shapes_and_that_everything_is_fp32_under_autocast(kind: str) -> None:
    networks = _networks(_config(kind))
    with torch.autocast("cpu", torch.bfloat16):
        posterior = networks.encode(_views())
        planes = networks.decode(posterior.mean)
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 3, 2, 4, 4)
    assert planes.shape == (2, 3, 6, networks.plane_side, networks.plane_side)
    assert networks.plane_side == 8
    assert posterior.mean.dtype == posterior.log_variance.dtype == planes.dtype == torch.float32
    assert networks.head(torch.randn(2, 5, 6)).shape == (2, 5, 4)


@pytest.mark.parametrize("kind", ["image", "aligned"])
def test_every_weight_learns(kind: str) -> None:
    networks = _networks(_config(kind))
    with torch.no_grad():
        for parameter in networks.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    posterior = networks.encode(_views())
    planes = networks.decode(posterior.sample(torch.randn_like(posterior.mean)))
    raw = networks.head(planes.permute(0, 1, 3, 4, 2))
    (raw * torch.randn_like(raw)).sum().backward()
    silent = [name for name, p in networks.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@torch.no_grad()
def test_planes_are_told_apart_by_their_places_alone() -> None:
    networks = _networks(_config(decoder=DecoderConfig(patch=2, width=16, depth=2, heads=2, variant="vit"))).eval()
    latent = torch.randn(1, 3, 2, 4, 4)

    def turned() -> torch.Tensor:
        return networks.decode(latent.roll(1, dims=1)).roll(-1, dims=1)

    assert not torch.allclose(turned(), networks.decode(latent), atol=1e-3)
    networks.decoder.position.zero_()
    torch.testing.assert_close(turned(), networks.decode(latent), atol=1e-5, rtol=1e-4)


def test_sides_that_do_not_fit_are_refused_with_the_rule() -> None:
    assert latent_side(_config().encoder) == 4
    with pytest.raises(RecipeError, match="makes latents of 4 cells a side, the recipe says 8") as error:
        Autoencoder(_config(latent=LatentConfig(resolution=8)))
    assert "encoder.resolution / (encoder.patch * 2^(len(encoder.multipliers) - 1))" in error.value.hint


def test_an_autoencoder_has_four_named_parts() -> None:
    names = [name for name, part in _networks(_config()).named_children() if isinstance(part, nn.Module)]
    assert names == ["encoder", "decoder", "upsampler", "head"]
