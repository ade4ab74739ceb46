"""Bootstrap intervals against the normal approximation."""

import math

import numpy as np
import pytest

from ln3d.metrics.bootstrap import bootstrap_mean


def test_interval_agrees_with_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(3, 2, 2000)
    estimate = bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert estimate.value == values.mean()
    assert estimate.low == pytest.approx(values.mean() - half, abs=half / 5)
    assert estimate.high == pytest.approx(values.mean() + half, abs=half / 5)


def test_a_constant_has_no_spread_and_the_seed_decides() -> None:
    same = bootstrap_mean(np.full(5, 0.25))
    assert (same.value, same.low, same.high, same.count) == (0.25, 0.25, 0.25, 5)
    values = np.arange(10.0)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_missing_values_are_left_out() -> None:
    assert bootstrap_mean(np.array([1.0, np.nan, 3.0])).value == 2
    assert bootstrap_mean(np.array([1.0, np.nan, 3.0])).count == 2
    assert math.isnan(bootstrap_mean(np.array([np.nan])).value)


def test_scaling_scales_everything() -> None:
    estimate = bootstrap_mean(np.arange(4.0)).scaled(1000.0)
    assert estimate.value == 1500
    assert estimate.low < 1500 < estimate.high
