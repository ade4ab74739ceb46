import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.geometry.planes import AXES, project, sample_planes


def _texel_centres(size: int) -> torch.Tensor:
    return (2 * torch.arange(size) + 1) / size - 1


def test_every_pair_of_axes_is_a_plane_once() -> None:
    assert {frozenset(axes) for axes in AXES} == {frozenset({0, 1}), frozenset({1, 2}), frozenset({2, 0})}
    x, y, z = 0.1, 0.2, 0.3
    expected = torch.tensor([[x, y], [y, z], [z, x]])
    torch.testing.assert_close(project(torch.tensor([x, y, z])), expected)


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(2, 9))
def test_planes_of_bilinear_functions_are_reproduced_exactly(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(2, 3, 5, 4, generator=generator)  # objects, planes, channels, terms

    def analytic(first: torch.Tensor, second: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
        basis = torch.stack([torch.ones_like(first), first, second, first * second], dim=-1)
        return (terms[..., None, :] * basis).sum(-1)

    across, along = torch.meshgrid(_texel_centres(width), _texel_centres(height), indexing="xy")
    planes = analytic(across.flatten(), along.flatten(), factors).reshape(2, 3, 5, height, width)
    reach = 1 - 1 / min(height, width)  # up to the centres of the outer texels
    points = (2 * torch.rand(2, 11, 3, generator=generator) - 1) * reach
    x, y, z = points.unbind(-1)
    pairs = ((x, y), (y, z), (z, x))
    expected = sum(
        analytic(first[:, None], second[:, None], factors[:, plane]) for plane, (first, second) in enumerate(pairs)
    )
    torch.testing.assert_close(sample_planes(planes, points), expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_one_texel_lights_up_where_its_column_and_row_say() -> None:
    for plane, (first, second) in enumerate(AXES):
        planes = torch.zeros(1, 3, 1, 4, 8)
        planes[0, plane, 0, 3, 1] = 1.0  # row 3, column 1
        points = torch.zeros(1, 1, 3)
        points[0, 0, first] = _texel_centres(8)[1]
        points[0, 0, second] = _texel_centres(4)[3]
        assert sample_planes(planes, points).item() == 1


def test_there_is_nothing_far_outside() -> None:
    points = torch.tensor([[[1.5, 1.5, 1.5], [-2, 3, -4]]])
    assert not sample_planes(torch.ones(1, 3, 2, 4, 4), points).any()


def test_sampling_is_fp32_under_autocast_and_for_half_planes() -> None:
    generator = torch.Generator().manual_seed(0)
    planes, points = torch.randn(1, 3, 2, 8, 8, generator=generator), torch.rand(1, 9, 3, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample_planes(planes, points), sample_planes(planes.clone(), points))
        features = sample_planes(planes.bfloat16(), points)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, sample_planes(planes.bfloat16().float(), points))


def test_gradients_match_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    planes, points = torch.randn(1, 3, 2, 3, 3, generator=generator), torch.rand(1, 4, 3, generator=generator)
    planes.requires_grad_()
    features = sample_planes(planes, points)
    upstream = torch.randn(features.shape, generator=generator)
    (gradient,) = torch.autograd.grad(features, planes, upstream)
    # Sampling is linear in the planes, so the gradient is the transpose of the map.
    probe = torch.randn(planes.shape, generator=generator)
    torch.testing.assert_close((gradient * probe).sum(), (sample_planes(probe, points) * upstream).sum())
