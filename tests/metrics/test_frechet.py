"""The Frechet distance: closed forms, invariants, the matrix square root as slow twin, and the field's own packages."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from ln3d.metrics.frechet import Gaussian, frechet_distance, gaussian_distance, gaussian_of


def features(count: int, width: int, seed: int, offset: float = 0.0) -> np.ndarray:
    """Return correlated, rectified features, as a network's are."""
    mix = np.random.default_rng(width).normal(size=(width, width)) / width**0.5
    return np.maximum(np.random.default_rng(seed).normal(size=(count, width)) @ mix + offset, 0)


def by_definition(a: np.ndarray, b: np.ndarray, trace_of_root: Callable[[np.ndarray, np.ndarray], float]) -> float:
    """Return the distance as it is defined, from the root of the product of the covariances."""
    ours, theirs = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    offset = a.mean(axis=0) - b.mean(axis=0)
    return float(offset @ offset + np.trace(ours) + np.trace(theirs) - 2 * trace_of_root(ours, theirs))


def symmetric(a: np.ndarray, b: np.ndarray) -> float:
    """Return tr((a b)^(1/2)) = tr((a^(1/2) b a^(1/2))^(1/2)), which also serves singular matrices."""
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    return float(np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum())


def test_gaussians_with_common_axes() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    ours, theirs = np.array([4.0, 1, 9, 0, 0.25]), np.array([1.0, 1, 16, 4, 0])
    a = gaussian_of(np.arange(5.0), turn @ np.diag(ours) @ turn.T)
    b = gaussian_of(np.zeros(5), turn @ np.diag(theirs) @ turn.T)
    expected = (np.arange(5.0) ** 2).sum() + ((np.sqrt(ours) - np.sqrt(theirs)) ** 2).sum()
    assert gaussian_distance(a, b) == pytest.approx(expected, rel=1e-7)  # both are singular: roots of rounding errors


@pytest.mark.parametrize(("count", "width"), [(40, 12), (12, 40)])
def test_known_answers(count: int, width: int) -> None:
    a = features(count, width, seed=1)
    offset = np.random.default_rng(2).normal(size=width)
    spread = a.var(axis=0, ddof=1).sum()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12 * spread)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12 * spread)
    assert frechet_distance(a, a + offset) == pytest.approx(offset @ offset, rel=1e-7)
    centred = a - a.mean(axis=0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * spread, rel=1e-7)
    assert frechet_distance(np.repeat(a[:1], count, axis=0), centred) == pytest.approx(a[0] @ a[0] + spread, rel=1e-7)


@settings(max_examples=40)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 24), st.integers(0, 99))
def test_it_is_the_definition(n: int, m: int, width: int, seed: int) -> None:
    a, b = features(n, width, seed), features(m, width, seed + 100, offset=0.3)
    assert frechet_distance(a, b) == pytest.approx(by_definition(a, b, symmetric), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("width", [2, 9, 24])
def test_it_is_the_trace_of_the_matrix_square_root(width: int) -> None:
    a, b = features(90, width, 12), features(70, width, 13, offset=0.3)
    slow = by_definition(a, b, lambda x, y: float(np.trace(linalg.sqrtm(x @ y)).real))
    assert frechet_distance(a, b) == pytest.approx(slow, rel=1e-10)


@pytest.mark.parametrize(("n", "m", "width"), [(60, 50, 20), (15, 50, 20), (15, 12, 20)])
def test_order_side_and_axes_do_not_matter(n: int, m: int, width: int) -> None:
    a, b = features(n, width, 3), features(m, width, 4, offset=0.2)
    whole = frechet_distance(a, b)
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
    assert frechet_distance(b, a) == pytest.approx(whole, rel=1e-7)
    assert frechet_distance(rng.permutation(a), rng.permutation(b)) == pytest.approx(whole, rel=1e-7)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(whole, rel=1e-7)
    assert frechet_distance(5 * a, 5 * b) == pytest.approx(25 * whole, rel=1e-7)


@pytest.mark.parametrize(("n", "m"), [(90, 80), (90, 10), (10, 9)])
def test_stored_statistics_give_the_same(n: int, m: int) -> None:
    a, b = features(n, 16, 6), features(m, 16, 7)
    stored = [gaussian_of(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
    assert gaussian_distance(*stored) == pytest.approx(frechet_distance(a, b), rel=1e-7)


@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-4, 1e-6, 1e-8])
def test_the_fast_sum_is_taken_only_where_it_is_right(decay: float) -> None:
    """Spectra that fall from 1 to `decay` have a known answer, whichever way the sum goes."""
    scale, turn = np.geomspace(1, decay, 40), np.linalg.qr(np.random.default_rng(14).normal(size=(40, 40)))[0]
    for factor in (1.0, 1.001, 1.1, 3.0):
        a = Gaussian(torch.zeros(40), torch.from_numpy(scale[:, None] * turn.T))
        b = Gaussian(torch.zeros(40), torch.from_numpy(factor * scale[:, None] * turn.T))
        expected = ((factor - 1) ** 2 * scale**2).sum()
        assert gaussian_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_half_precision_features_are_taken_as_they_are() -> None:
    a, b = features(30, 8, 8).astype(np.float16), features(30, 8, 9).astype(np.float16)
    assert frechet_distance(a, b) == frechet_distance(a.astype(np.float64), b.astype(np.float64))


@pytest.mark.parametrize(
    ("a", "b", "complaint"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "at least two samples"),
        (np.ones((4, 3)), np.ones((0, 3)), "at least two samples"),
        (np.ones((4, 3)), np.full((4, 3), np.nan), "not finite"),
    ],
)
def test_bad_features_are_refused(a: np.ndarray, b: np.ndarray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        frechet_distance(a, b)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises((ValueError, TypeError)):  # TypeError where annotations are enforced
        frechet_distance(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="width 3 and 2"):
        gaussian_distance(gaussian_of(np.zeros(3), np.eye(3)), gaussian_of(np.zeros(2), np.eye(2)))


@pytest.mark.parametrize("peer", ["torch_fidelity", "pytorch_fid", "cleanfid"])
def test_the_packages_of_the_field_agree(peer: str) -> None:
    from ln3d.backbones.torchvision_import import import_torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        pytest.importorskip(peer)
        for n, m in ((200, 150), (200, 20), (30, 20)):
            a, b = features(n, 48, 10), features(m, 48, 11, offset=0.1)
            assert frechet_distance(a, b) == pytest.approx(_peer(peer, a, b), rel=1e-6)


def _peer(peer: str, a: np.ndarray, b: np.ndarray) -> float:
    stats = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
    if peer == "torch_fidelity":
        from torch_fidelity import metric_fid

        own = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return metric_fid.fid_statistics_to_metric(*own, False)["frechet_inception_distance"]
    if peer == "pytorch_fid":
        from pytorch_fid.fid_score import calculate_frechet_distance as distance
    else:
        from cleanfid.fid import frechet_distance as distance
    return float(distance(*stats[0], *stats[1]))
