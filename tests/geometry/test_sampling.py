import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.geometry.sampling import equal_bins, flattened, guided, importance, one_per_bin, stratified, widened

seed = st.integers(0, 2**32)
weight = st.one_of(st.just(0.0), st.floats(1e-3, 1))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed, st.integers(1, 40), st.floats(0, 5), st.floats(0, 3))
def test_stratified_puts_one_sample_in_every_bin(seed: int, count: int, near: float, length: float) -> None:
    low, high = torch.tensor([[near], [near + length]], dtype=torch.float64)
    edges = near + length * torch.arange(count + 1).double() / count
    middles = stratified(low, high, count)[0]
    jittered = stratified(low, high, count, _seeded(seed))[0]
    torch.testing.assert_close(middles, (edges[1:] + edges[:-1]) / 2)
    assert (jittered >= edges[:-1] - 1e-12).all() and (jittered <= edges[1:] + 1e-12).all()


def test_stratified_is_uniform_within_the_bin() -> None:
    samples = stratified(torch.zeros(20_000), torch.full((20_000,), 4.0), 4, _seeded(0)) - torch.arange(4)
    assert samples.mean().item() == pytest.approx(0.5, abs=0.01)
    assert samples.var().item() == pytest.approx(1 / 12, abs=0.002)


@given(st.lists(weight, min_size=1, max_size=12).filter(any), st.integers(1, 20), seed)
def test_importance_is_the_inverse_of_the_cumulative_distribution(weights: list[float], count: int, seed: int) -> None:
    widths = np.random.default_rng(seed).uniform(0.01, 1, len(weights))
    edges = 2 + np.concatenate([[0], widths.cumsum()])
    samples = importance(torch.from_numpy(edges), torch.tensor(weights).double(), count).numpy()
    cumulative = np.concatenate([[0], np.cumsum(weights)]) / np.sum(weights)
    # The other way round, so that flat stretches are no trouble: what lies before each sample is its quantile.
    np.testing.assert_allclose(np.interp(samples, edges, cumulative), (np.arange(count) + 0.5) / count, atol=1e-9)
    assert (np.diff(samples) >= 0).all()


def test_jittered_importance_samples_are_distributed_like_the_weights() -> None:
    weights = torch.tensor([0.1, 0.0, 0.5, 0.4])
    edges = torch.tensor([0.0, 1, 1.5, 1.6, 4]).expand(4000, 5)
    samples = importance(edges, weights.expand(4000, 4), 8, _seeded(1))
    share = torch.stack([((samples >= edges[0, i]) & (samples < edges[0, i + 1])).float().mean() for i in range(4)])
    torch.testing.assert_close(share, weights, atol=0.01, rtol=0)
    assert (samples.diff(dim=-1) >= 0).all()


def test_importance_without_weights_is_uniform_over_the_cells() -> None:
    edges = torch.tensor([[0.0, 1, 2, 4]])
    torch.testing.assert_close(importance(edges, torch.zeros(1, 3), 3), torch.tensor([[0.5, 1.5, 3.0]]))


def test_importance_on_an_empty_ray_stays_where_it_is() -> None:
    assert importance(torch.zeros(2, 9), torch.rand(2, 8), 5).tolist() == [[0] * 5] * 2


@given(st.lists(weight, min_size=1, max_size=9))
def test_widened_covers_the_neighbours_of_every_peak(weights: list[float]) -> None:
    wide = widened(torch.tensor(weights)).tolist()
    around = [0.0, *weights, 0.0]
    for index, value in enumerate(wide):
        left, here, right = around[index : index + 3]
        assert value == pytest.approx((max(left, here) + max(here, right)) / 2 + 0.01, abs=1e-6)


@given(seed, st.floats(0, 6))
def test_guided_samples_surround_the_surface_and_stay_in_the_box(seed: int, depth: float) -> None:
    near, far, hint = torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([depth])
    distances = guided(near, far, hint, (6, 4), band=0.1, generator=_seeded(seed))[0]
    assert len(distances) == 10 and (distances.diff() >= 0).all()
    assert distances.min() >= 1 and distances.max() <= 5
    if 1 < depth < 5:
        assert ((distances - depth).abs() <= 0.1 + 1e-6).sum() >= 4


def test_guided_rays_that_hit_nothing_are_stratified() -> None:
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([5.0, 0.0])
    distances = guided(near, far, torch.zeros(2), (6, 4), band=0.1)
    torch.testing.assert_close(distances, stratified(near, far, 10))


def test_nothing_touches_the_global_random_state() -> None:
    before = torch.get_rng_state()
    near, far = torch.zeros(3), torch.ones(3)
    for generator in (None, _seeded(0)):
        stratified(near, far, 4, generator)
        guided(near, far, far / 2, (3, 2), 0.1, generator)
        importance(torch.rand(2, 5, generator=_seeded(1)).sort().values, torch.ones(2, 4), 3, generator)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.lists(weight, min_size=1, max_size=12).filter(any), st.integers(1, 20), seed)
def test_equal_bins_hold_equal_shares_and_cover_everything(weights: list[float], count: int, seed: int) -> None:
    widths = np.random.default_rng(seed).uniform(0.01, 1, len(weights))
    edges = 2 + np.concatenate([[0], widths.cumsum()])
    borders = equal_bins(torch.from_numpy(edges), torch.tensor(weights).double(), count)
    cumulative = np.concatenate([[0], np.cumsum(weights)]) / np.sum(weights)
    np.testing.assert_allclose(np.interp(borders.numpy(), edges, cumulative), np.arange(count + 1) / count, atol=1e-9)
    assert borders[0] == edges[0] and borders[-1] == edges[-1]
    for generator in (None, _seeded(seed)):
        samples = one_per_bin(borders, generator)
        assert (samples >= borders[:-1]).all() and (samples <= borders[1:]).all()


def test_one_per_bin_is_the_middle_or_uniform() -> None:
    borders = torch.tensor([0.0, 1, 4]).expand(20_000, 3)
    assert one_per_bin(borders)[0].tolist() == [0.5, 2.5]
    random = one_per_bin(borders, _seeded(0))
    torch.testing.assert_close(random.mean(dim=0), torch.tensor([0.5, 2.5]), atol=0.02, rtol=0)
    torch.testing.assert_close(random.var(dim=0), torch.tensor([1 / 12, 9 / 12]), atol=0.02, rtol=0)


def test_flattened_weights_are_cube_roots_and_an_even_share() -> None:
    stopped, even = torch.tensor([0.0, 0, 0.8, 0.1, 0, 0]), torch.tensor([0.5, 0, 0, 0, 0, 0.5])
    weights = flattened(stopped, even)
    root = torch.tensor([0.0, 0.4, 0.8, 0.45, 0.05, 0]) ** (1 / 3)
    torch.testing.assert_close(weights, root / root.sum() + 0.3 * even)
    torch.testing.assert_close(flattened(torch.zeros(6), even), 0.3 * even)
