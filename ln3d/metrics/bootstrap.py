"""Intervals around a mean, by resampling."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    count: int

    def scaled(self, factor: float) -> "Estimate":
        """Return the estimate in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.count)


def bootstrap_mean(values: Float[np.ndarray, " n"], *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Return the mean of `values` and the 2.5th and 97.5th percentile of the means of resampled ones.

    Efron 1979; the same seed gives the same interval. NaNs are left out; of nothing the mean is NaN.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high), len(values))
