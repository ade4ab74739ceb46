"""The kernel distance between two sets of features: KID where the features are Inception's (Binkowski et al. 2018)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_LARGEST_GRAM = 6000  # samples: three matrices of 288 MB; beyond, the kernel is computed subset by subset


@dataclass(frozen=True)
class KernelDistance:
    """The mean of the estimates of all subsets, and their standard deviation (divisor: their number)."""

    value: float
    spread: float


def kernel_distance(
    features_a: Float[np.ndarray, "n d"],
    features_b: Float[np.ndarray, "m d"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> KernelDistance:
    """Return the unbiased squared MMD with the kernel (x.y / d + 1)^3, mean and spread over random subsets.

    In float64. The subsets, and the default seed, are torch-fidelity's, so that the same features give the same number.
    Unbiased: it may be negative, and its mean does not depend on the number of samples. Tables usually hold it x 100.

    Raises:
        ValueError: a side has fewer than `subset_size` samples, widths differ, or a feature is not finite.
    """
    if subsets < 1:
        raise ValueError(f"a kernel distance needs at least one subset, not {subsets}")
    a, b = _checked(features_a, features_b, subset_size)
    draw = np.random.RandomState(seed)  # the legacy generator is part of the protocol
    picks = [tuple(draw.choice(len(x), subset_size, replace=False) for x in (a, b)) for _ in range(subsets)]
    if max(len(a), len(b)) <= min(_LARGEST_GRAM, subset_size * subsets**0.5):
        estimates = _from_gram(a, b, picks)
    else:
        estimates = np.array([squared_mmd(a[i], b[j]) for i, j in picks])
    return KernelDistance(float(estimates.mean()), float(estimates.std()))


def squared_mmd(a: Float[np.ndarray, "k d"], b: Float[np.ndarray, "k d"]) -> float:
    """Return the unbiased estimate of the squared MMD of two sets of equal size (Gretton et al. 2012, eq. 3)."""
    aa, bb, ab = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    return _unbiased(aa.sum() - aa.trace(), bb.sum() - bb.trace(), ab.sum(), len(a))


def _from_gram(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], picks: list[tuple[Int[np.ndarray, " k"], ...]]
) -> Float[np.ndarray, " subsets"]:
    """Return `squared_mmd` of every subset from three kernel matrices of all samples, which subsets only sum up."""
    chosen_a, chosen_b = (np.zeros((len(picks), len(x))) for x in (a, b))
    for row, (i, j) in enumerate(picks):
        chosen_a[row, i] = chosen_b[row, j] = 1
    sums_a, sums_b = (_off_diagonal_sums(chosen, _kernel(x, x)) for chosen, x in ((chosen_a, a), (chosen_b, b)))
    crossed = ((chosen_a @ _kernel(a, b)) * chosen_b).sum(axis=1)
    size = len(picks[0][0])
    return np.array([_unbiased(*sums, size) for sums in zip(sums_a, sums_b, crossed, strict=True)])


def _off_diagonal_sums(
    chosen: Float[np.ndarray, "subsets n"], kernel: Float[np.ndarray, "n n"]
) -> Float[np.ndarray, " subsets"]:
    return ((chosen @ kernel) * chosen).sum(axis=1) - chosen @ kernel.diagonal()


def _unbiased(aa: float, bb: float, ab: float, size: int) -> float:
    return float((aa + bb) / (size * (size - 1)) - 2 * ab / size**2)


def _kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    gram = a @ b.T
    gram /= a.shape[1]
    gram += 1
    return gram * gram * gram


def _checked(
    features_a: Float[np.ndarray, "n d"], features_b: Float[np.ndarray, "m d"], subset_size: int
) -> list[Float[np.ndarray, "_ d"]]:
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(f"features of width {features_a.shape[1]} and {features_b.shape[1]} cannot be compared")
    if subset_size < 2:
        raise ValueError(f"a subset needs at least two samples, not {subset_size}")
    smaller = min(len(features_a), len(features_b))
    if smaller < subset_size:
        raise ValueError(
            f"subsets of {subset_size} samples cannot be drawn from {smaller}: give more, or lower the size"
        )
    both = [np.asarray(x, dtype=np.float64) for x in (features_a, features_b)]
    if not all(np.isfinite(x).all() for x in both):
        raise ValueError("a feature is not finite")
    return both
