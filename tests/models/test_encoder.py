"""The two encoders: what enters, what a view or a plane may reach, and how the latent is laid out."""

import pytest
import torch
from torch import Tensor, nn

from ln3d.config.vae import EncoderConfig
from ln3d.geometry.cameras import intrinsics, look_at, spiral
from ln3d.models.encoder import AlignedEncoder, ImageEncoder, input_channels
from ln3d.models.views import Views

CHANNELS = 2


def _config(**changes: object) -> EncoderConfig:
    return EncoderConfig(**({"resolution": 8, "width": 8, "multipliers": (1, 2), "heads": 2} | changes))


def _views(objects: int, count: int, side: int = 8) -> Views:
    numbers = torch.Generator().manual_seed(0)
    poses = torch.from_numpy(look_at(spiral(objects * count + 1) * 3.0)).float()[1:].reshape(objects, count, 4, 4)
    matrices = torch.from_numpy(intrinsics(36.0)).float().expand(objects, count, 3, 3)
    depth = 2.4 + 1.2 * torch.rand(objects, count, side, side, generator=numbers)
    return Views(torch.rand(objects, count, 3, side, side, generator=numbers), depth, poses, matrices)


def _chosen(views: Views, order: list[int]) -> Views:
    return Views(*(getattr(views, name)[:, order] for name in views.__dataclass_fields__))


def _image_encoder(**changes: object) -> ImageEncoder:
    torch.manual_seed(0)
    return ImageEncoder(_config(**changes), CHANNELS).eval()


@pytest.mark.parametrize(
    ("pluecker", "depth", "count"), [(True, True, 10), (False, False, 3), (True, False, 9), (False, True, 4)]
)
def test_channels_of_a_view_are_counted(pluecker: bool, depth: bool, count: int) -> None:
    encoder = _image_encoder(pluecker=pluecker, depth=depth)
    assert input_channels(encoder.config) == count
    entry = encoder.trunk.entry[1]
    assert isinstance(entry, nn.Conv2d)
    assert entry.in_channels == count
    assert encoder(_views(1, 2)).shape == (1, 3, 2 * CHANNELS, 4, 4)


def test_without_pluecker_and_depth_only_colours_count() -> None:
    views, encoder = _views(1, 2), _image_encoder(pluecker=False, depth=False)
    moved = Views(views.colour, views.depth + 1, views.camera_to_world.flip(1), views.intrinsics)
    assert torch.equal(encoder(views), encoder(moved))
    full = _image_encoder()
    assert not torch.allclose(full(views), full(moved), atol=1e-3)


@torch.no_grad()
def test_the_order_of_the_views_does_not_matter() -> None:
    views, encoder = _views(2, 4), _image_encoder()
    torch.testing.assert_close(encoder(_chosen(views, [2, 0, 3, 1])), encoder(views), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_any_number_of_views_and_copies_of_a_view_add_nothing() -> None:
    views, encoder = _views(1, 5), _image_encoder()
    for count in (1, 2, 5):
        assert encoder(_chosen(views, list(range(count)))).shape == (1, 3, 2 * CHANNELS, 4, 4)
    one = encoder(_chosen(views, [0]))
    torch.testing.assert_close(encoder(_chosen(views, [0, 0, 0])), one, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_views_hear_each_other_and_objects_do_not() -> None:
    views, encoder = _views(2, 2), _image_encoder()
    together, alone = encoder(views), torch.stack([encoder(_chosen(views, [v])) for v in (0, 1)]).mean(dim=0)
    assert not torch.allclose(together, alone, atol=1e-4)  # more than the mean of each by itself
    first = Views(*(getattr(views, name)[:1] for name in views.__dataclass_fields__))
    torch.testing.assert_close(encoder(first), together[:1], atol=1e-5, rtol=1e-4)


def test_the_latent_is_laid_out_plane_by_plane() -> None:
    encoder = _image_encoder()
    with torch.no_grad():
        encoder.exit.weight.zero_()
        encoder.exit.bias.copy_(torch.arange(3 * 2 * CHANNELS))
    parameters = encoder(_views(1, 2))
    expected = torch.arange(3 * 2 * CHANNELS).float().reshape(3, 2 * CHANNELS)
    assert torch.equal(parameters[0], expected[:, :, None, None].expand(-1, -1, 4, 4))


def test_places_are_added_to_what_was_lifted() -> None:
    """The sum of two convolutions is the convolution of the sum."""
    torch.manual_seed(0)
    encoder = AlignedEncoder(_config(kind="aligned", patch=2, multipliers=(2,), slabs=3), CHANNELS)
    nn.init.normal_(encoder.place)
    planes = torch.randn(2, *encoder.place.shape)
    features = encoder.trunk((planes + encoder.place).flatten(0, 1), group=3)
    expected = encoder.exit(features).unflatten(0, (2, 3))
    torch.testing.assert_close(encoder.encode_planes(planes), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_aligned_planes_keep_their_place_and_meet_in_the_attention_alone() -> None:
    torch.manual_seed(0)
    encoder, views = AlignedEncoder(_config(kind="aligned"), CHANNELS).eval(), _views(1, 2)

    def changed_planes() -> list[bool]:
        before = encoder(views)
        encoder.place[1] += torch.randn_like(encoder.place[1])
        return [not torch.allclose(a, b, atol=1e-6) for a, b in zip(before[0], encoder(views)[0], strict=True)]

    assert changed_planes() == [True, True, True]
    for block in encoder.trunk.attention:
        nn.init.zeros_(block.attention.out.weight)
        nn.init.zeros_(block.attention.out.bias)
    assert changed_planes() == [False, True, False]


@pytest.mark.parametrize("kind", [ImageEncoder, AlignedEncoder])
def test_every_weight_learns(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    encoder = kind(_config(patch=2, resolution=16), CHANNELS)
    parameters: Tensor = encoder(_views(2, 2, side=16))
    assert parameters.shape == (2, 3, 2 * CHANNELS, 4, 4)
    (parameters * torch.randn_like(parameters)).sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
