"""The kernel distance: the definition as slow twin, known answers, and torch-fidelity on the same subsets."""

import warnings

import numpy as np
import pytest

from ln3d.metrics import kernel_distance as room
from ln3d.metrics.kernel_distance import kernel_distance, squared_mmd


def features(count: int, width: int, seed: int, offset: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)) + offset


def by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased estimate as sums over pairs of different samples."""
    n, width = a.shape

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / width + 1) ** 3)

    within = sum(kernel(x[i], x[j]) for x in (a, b) for i in range(n) for j in range(n) if i != j)
    between = sum(kernel(x, y) for x in a for y in b)
    return within / (n * (n - 1)) - 2 * between / n**2


def test_it_is_its_definition() -> None:
    a, b = features(9, 4, 0), features(9, 4, 1, offset=0.5)
    assert squared_mmd(a, b) == pytest.approx(by_definition(a, b), rel=1e-12)
    whole = kernel_distance(a, b, subsets=3, subset_size=9)
    assert whole.value == pytest.approx(by_definition(a, b), rel=1e-12)  # every subset is all of it
    assert whole.spread == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("subsets", "size"), [(50, 20), (4, 40)])
def test_both_ways_of_summing_agree(monkeypatch: pytest.MonkeyPatch, subsets: int, size: int) -> None:
    a, b = features(60, 6, 2), features(45, 6, 3, offset=0.3)
    whole = kernel_distance(a, b, subsets=subsets, subset_size=size)
    monkeypatch.setattr(room, "_LARGEST_GRAM", 0)
    by_subset = kernel_distance(a, b, subsets=subsets, subset_size=size)
    assert (whole.value, whole.spread) == pytest.approx((by_subset.value, by_subset.spread), rel=1e-9)


def test_two_draws_of_one_distribution_are_at_no_distance_on_average() -> None:
    values = [
        kernel_distance(features(40, 3, s), features(40, 3, s + 500), subset_size=40, subsets=1).value
        for s in range(300)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / len(values) ** 0.5
    assert min(values) < 0


def test_the_distance_of_two_means() -> None:
    """For constant features x and y: k(x, x) + k(y, y) - 2 k(x, y)."""
    a, b = np.full((8, 2), 1.0), np.full((8, 2), -2.0)
    assert kernel_distance(a, b, subsets=2, subset_size=5).value == pytest.approx(2**3 + 5**3 - 2 * (-1) ** 3)


def test_sides_and_seeds() -> None:
    a, b = features(50, 5, 4), features(50, 5, 5, offset=1.0)
    forth = kernel_distance(a, b, subset_size=30, subsets=20)
    assert kernel_distance(a, b, subset_size=30, subsets=20) == forth
    assert kernel_distance(a, b, subset_size=30, subsets=20, seed=1) != forth
    assert squared_mmd(a, b) == pytest.approx(squared_mmd(b, a), rel=1e-12)
    assert kernel_distance(a, b + 1, subset_size=30, subsets=20).value > forth.value


@pytest.mark.parametrize(
    ("a", "b", "options", "complaint"),
    [
        (np.ones((999, 2)), np.ones((2000, 2)), {}, "subsets of 1000 samples cannot be drawn from 999"),
        (np.ones((9, 2)), np.ones((9, 2)), {"subset_size": 1}, "at least two"),
        (np.ones((9, 2)), np.ones((9, 2)), {"subset_size": 3, "subsets": 0}, "at least one"),
        (np.ones((9, 2)), np.full((9, 2), np.inf), {"subset_size": 3}, "not finite"),
    ],
)
def test_bad_input_is_refused(a: np.ndarray, b: np.ndarray, options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        kernel_distance(a, b, **options)


def test_widths_must_be_equal() -> None:
    with pytest.raises((ValueError, TypeError)):  # TypeError where annotations are enforced
        kernel_distance(np.ones((9, 2)), np.ones((9, 3)), subset_size=3)


def test_torch_fidelity_agrees() -> None:
    from ln3d.backbones.torchvision_import import import_torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        metric = pytest.importorskip("torch_fidelity.metric_kid")
        import torch

        a, b = features(80, 16, 6), features(70, 16, 7, offset=0.2)
        for subsets, size in ((30, 25), (3, 60)):
            theirs = metric.kid_features_to_metric(
                torch.from_numpy(a), torch.from_numpy(b), kid_subsets=subsets, kid_subset_size=size, verbose=False
            )
            ours = kernel_distance(a, b, subsets=subsets, subset_size=size)
            assert ours.value == pytest.approx(theirs[metric.KEY_METRIC_KID_MEAN], rel=1e-9)
            assert ours.spread == pytest.approx(theirs[metric.KEY_METRIC_KID_STD], rel=1e-9)
