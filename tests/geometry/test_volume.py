import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ln3d.geometry.volume import cell_edges, composite, expected_depth, ray_weights

seed = st.integers(0, 2**32)


def _composite_twin(density: Tensor, values: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor]:
    """The integral, one sample after the other: emit, absorb, go on with what is left of the light."""
    light = torch.ones_like(density[..., 0])
    total = torch.zeros_like(values[..., 0, :])
    for sample in range(density.shape[-1]):
        kept = torch.exp(-density[..., sample] * spacing[..., sample])
        total = total + (light * (1 - kept))[..., None] * values[..., sample, :]
        light = light * kept
    return total, 1 - light


@given(seed, st.integers(1, 20), st.floats(0, 100))
def test_composite_equals_its_slow_twin(seed: int, samples: int, strength: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    density, spacing = torch.rand(2, 3, samples, generator=generator, dtype=torch.float64)
    values = torch.randn(3, samples, 4, generator=generator, dtype=torch.float64)
    for fast, slow in zip(
        composite(density * strength, values, spacing),
        _composite_twin(density * strength, values, spacing),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow, atol=1e-12, rtol=1e-12)


@given(sigma=st.floats(0, 50), samples=st.integers(1, 64))
def test_uniform_slab_follows_beer_lambert(sigma: float, samples: int) -> None:
    density = torch.full((samples,), sigma, dtype=torch.float64)
    spacing = torch.full_like(density, 1 / samples)
    colour, opacity = composite(density, torch.ones(samples, 3, dtype=torch.float64), spacing)
    assert math.isclose(opacity.item(), 1 - math.exp(-sigma), abs_tol=1e-12)
    torch.testing.assert_close(colour, opacity.expand(3))


def test_expected_depth_of_a_slab_tends_to_the_mean_free_path() -> None:
    sigma, edges = 8.0, torch.linspace(0, 4, 20_001, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    distance, opacity = composite(torch.full_like(middles, sigma), middles[:, None], edges.diff())
    assert math.isclose(expected_depth(distance[0], opacity).item(), 1 / sigma, rel_tol=1e-6)


def test_depth_is_zero_and_its_gradient_finite_where_nothing_is_hit() -> None:
    density = torch.zeros(2, 5, requires_grad=True)
    distance, opacity = composite(density, torch.rand(2, 5, 1), torch.full((2, 5), 0.1))
    depth = expected_depth(distance[..., 0], opacity)
    assert depth.tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(depth.sum(), density)
    assert gradient.isfinite().all()


@given(seed, st.integers(1, 30))
def test_cells_cover_the_ray_and_hold_one_sample_each(seed: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    distances = (1 + torch.rand(3, samples, generator=generator, dtype=torch.float64)).sort(dim=-1).values
    near, far = torch.full((3,), 1.0).double(), torch.full((3,), 2.0).double()
    edges = cell_edges(distances, near, far)
    torch.testing.assert_close(edges.diff(dim=-1).sum(dim=-1), far - near)
    assert (edges[:, :-1] <= distances).all() and (distances <= edges[:, 1:]).all()


@given(seed)
def test_weights_of_a_ray_sum_to_at_most_one_and_splitting_a_cell_changes_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    density, spacing = torch.rand(2, 4, 6, generator=generator, dtype=torch.float64) * 10
    weights = ray_weights(density, spacing)
    assert (weights >= 0).all() and (weights.sum(dim=-1) <= 1 + 1e-12).all()
    halves = ray_weights(density.repeat_interleave(2, dim=-1), spacing.repeat_interleave(2, dim=-1) / 2)
    torch.testing.assert_close(halves.reshape(4, 6, 2).sum(dim=-1), weights)


def test_gradients_match_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    density, spacing = torch.rand(2, 2, 4, generator=generator, dtype=torch.float64)
    values = torch.rand(2, 4, 2, generator=generator, dtype=torch.float64)
    inputs = (density.requires_grad_(), values.requires_grad_(), spacing)
    assert torch.autograd.gradcheck(composite, inputs)
