"""How a set of generated shapes compares with a set of real ones: COV, MMD and 1-NNA from a distance matrix.

Each score is a mean over shapes; the functions here return what each shape contributes, so that the caller takes the
mean and its bootstrap interval. Distances have one row per generated shape and one column per reference shape; pairs
that are no minimum of their row or column may hold infinity (`ln3d.geometry.chamfer_minima`).
"""

import numpy as np
from jaxtyping import Float


def covered(distances: Float[np.ndarray, "g r"]) -> Float[np.ndarray, " r"]:
    """Return 1 for each reference that is the nearest one to some generated shape, else 0; the mean is COV.

    Achlioptas et al. 2018, section 4: COV(G, R) = |{argmin_Y CD(X, Y) : X in G}| / |R|. A generator that makes one
    shape only has COV 1 / |R|.
    """
    _check(distances)
    hits = np.zeros(distances.shape[1])
    hits[distances.argmin(axis=1)] = 1
    return hits


def matching_distances(distances: Float[np.ndarray, "g r"]) -> Float[np.ndarray, " r"]:
    """Return for each reference the distance of the nearest generated shape; the mean is MMD (ibid.)."""
    _check(distances)
    return distances.min(axis=0)


def own_kind(
    generated: Float[np.ndarray, "g g"], between: Float[np.ndarray, "g r"], reference: Float[np.ndarray, "r r"]
) -> Float[np.ndarray, " n"]:
    """Return 1 for each of the g + r shapes whose nearest other shape is of its own set; the mean is 1-NNA.

    Yang et al. 2019 (PointFlow), eq. 11. The best value is 0.5: the sets cannot be told apart. The diagonals are
    ignored, and of equal distances the other set's counts, so that a copied set scores 0.
    """
    _check(between)
    if generated.shape != (len(between),) * 2 or reference.shape != (between.shape[1],) * 2:
        raise ValueError(f"matrices of {generated.shape}, {between.shape} and {reference.shape} do not fit together")
    ours = _off_diagonal_minimum(generated) < between.min(axis=1)
    theirs = _off_diagonal_minimum(reference) < between.min(axis=0)
    return np.concatenate([ours, theirs]).astype(np.float64)


def _off_diagonal_minimum(square: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    others = square.copy()
    np.fill_diagonal(others, np.inf)
    return others.min(axis=1)


def _check(distances: Float[np.ndarray, "g r"]) -> None:
    if distances.ndim != 2 or 0 in distances.shape:
        raise ValueError(f"need at least one generated and one reference shape, got {distances.shape}")
    if np.isnan(distances).any():
        raise ValueError("a distance is not a number")
