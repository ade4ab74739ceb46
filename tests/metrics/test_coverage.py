"""COV, MMD and 1-NNA: cases whose answer is known."""

import numpy as np
import pytest

from ln3d.metrics.coverage import covered, matching_distances, own_kind


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a[:, None] - b[None])


REAL = np.arange(10.0) * 7 % 10


def test_a_copy_covers_all_at_no_distance() -> None:
    distances = _distances(REAL, REAL)
    assert covered(distances).mean() == 1
    assert matching_distances(distances).mean() == 0


def test_a_collapsed_generator_covers_one() -> None:
    distances = _distances(np.full(50, 4.2), REAL)
    assert covered(distances).mean() == pytest.approx(1 / 10)
    assert matching_distances(distances).mean() == pytest.approx(np.abs(REAL - 4.2).mean())


def test_each_reference_contributes_its_own_share() -> None:
    distances = np.array([[1.0, 5, 2], [3, 4, 9]])
    assert covered(distances).tolist() == [1, 0, 0]
    assert matching_distances(distances).tolist() == [1, 4, 2]


def test_disjoint_sets_are_always_told_apart_and_copies_never() -> None:
    far = REAL + 1000
    within = _distances(REAL, REAL)
    assert own_kind(within, _distances(REAL, far), within).mean() == 1
    assert own_kind(within, _distances(REAL, REAL), within).mean() == 0


def test_two_draws_of_one_distribution_score_a_half() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 400))
    assert own_kind(_distances(a, a), _distances(a, b), _distances(b, b)).mean() == pytest.approx(0.5, abs=0.06)


def test_the_order_of_shapes_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=12), rng.normal(size=9)
    i, j = rng.permutation(12), rng.permutation(9)
    np.testing.assert_array_equal(covered(_distances(a, b))[j], covered(_distances(a[i], b[j])))
    np.testing.assert_array_equal(matching_distances(_distances(a, b))[j], matching_distances(_distances(a[i], b[j])))


def test_pairs_given_up_early_change_nothing() -> None:
    distances = np.random.default_rng(2).random((20, 15))
    minimum = (distances == distances.min(0)) | (distances == distances.min(1, keepdims=True))
    partial = np.where(minimum, distances, np.inf)
    np.testing.assert_array_equal(covered(partial), covered(distances))
    np.testing.assert_array_equal(matching_distances(partial), matching_distances(distances))


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((3, 0)), np.array([[np.nan]])])
def test_bad_matrices_are_refused(bad: np.ndarray) -> None:
    for score in (covered, matching_distances):
        with pytest.raises(ValueError, match="shape|not a number"):
            score(bad)


def test_matrices_must_fit_together() -> None:
    with pytest.raises((ValueError, TypeError)):  # TypeError where annotations are enforced
        own_kind(np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2)))
