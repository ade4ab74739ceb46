"""The Frechet distance between two sets of features: FID where the features are Inception's (Heusel et al. 2017).

The usual way takes the square root, or the eigenvalues, of the product of two covariances, which is not symmetric:
slow, and with fewer samples than features not accurate. Here every covariance is written as F^T F. Then
tr((C_a C_b)^(1/2)) is the sum of the singular values of F_a F_b^T, which is never larger than it must be: F is the
centred features themselves where they are fewer than their width, else a triangular root. The singular values come
from a symmetric eigenproblem wherever that is accurate enough.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

_ROUNDING = 1e-14  # of the eigenvalues of a few thousand rows, relative to the largest
_ACCURACY = 1e-7  # relative, of the distance


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution: `mean` (d,) and a root (k, d) of its covariance, root^T root."""

    mean: torch.Tensor
    root: torch.Tensor


def gaussian(features: Float[np.ndarray, "n d"]) -> Gaussian:
    """Return the normal distribution with the mean and the unbiased covariance (divisor n - 1) of some features.

    Raises ValueError for fewer than two samples or a feature that is not finite.
    """
    if len(features) < 2:
        raise ValueError(f"a Frechet distance needs at least two samples on each side, got {len(features)}")
    values = np.asarray(features, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a feature is not finite")
    mean = values.mean(axis=0)
    centred = values - mean
    if len(centred) <= centred.shape[1]:
        centred /= (len(values) - 1) ** 0.5
        return Gaussian(torch.from_numpy(mean), torch.from_numpy(centred))
    covariance = centred.T @ centred  # of a symmetric product NumPy computes one half only, torch both
    covariance /= len(values) - 1
    return Gaussian(torch.from_numpy(mean), _root(torch.from_numpy(covariance)))


def gaussian_of(mean: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"]) -> Gaussian:
    """Return the normal distribution of stored statistics, `covariance` symmetric and positive semidefinite."""
    if covariance.shape != (len(mean),) * 2:
        raise ValueError(f"a mean of {mean.shape} and a covariance of {covariance.shape} do not fit together")
    mean, covariance = (np.ascontiguousarray(x, dtype=np.float64) for x in (mean, covariance))
    return Gaussian(torch.from_numpy(mean), _root(torch.from_numpy(covariance)))


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Dowson and Landau 1982; FID, eq. 6), at least 0."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of width {len(a.mean)} and {len(b.mean)} cannot be compared")
    apart = float((a.mean - b.mean).square().sum() + a.root.square().sum() + b.root.square().sum())
    product = a.root @ b.root.T
    cross, error = _by_eigenvalues(product)
    if 2 * error > _ACCURACY * (apart - 2 * cross):
        cross = float(torch.linalg.svdvals(product).sum())
    return max(apart - 2 * cross, 0.0)  # rounding leaves equal sets a hair below


def frechet_distance(features_a: Float[np.ndarray, "n d"], features_b: Float[np.ndarray, "m d"]) -> float:
    """Return the squared Frechet distance between the Gaussians fitted to two sets of features; 0 for equal sets.

    Computed in float64. It is biased upwards by the number of samples: compare equal counts only.

    Raises ValueError for fewer than two samples on a side, widths that differ, or a feature that is not finite.
    """
    return gaussian_distance(gaussian(features_a), gaussian(features_b))


def _by_eigenvalues(product: torch.Tensor) -> tuple[float, float]:
    """Return the sum of the singular values of `product`, several times as fast as by svdvals, and its likely error.

    They are the roots of the eigenvalues of product product^T, which are right to rounding errors of the largest one:
    the root of a small one is not.
    """
    flat = product.T.numpy() if len(product) > product.shape[1] else product.numpy()
    values = torch.linalg.eigvalsh(torch.from_numpy(flat @ flat.T)).clamp(min=0)
    rounding = _ROUNDING * values.max()
    errors = rounding / values.clamp(min=rounding).sqrt().clamp(min=torch.finfo(values.dtype).tiny)
    return float(values.sqrt().sum()), float(errors.square().sum().sqrt())


def _root(covariance: torch.Tensor) -> torch.Tensor:
    """Return R with R^T R = `covariance`: Cholesky's where there is one, else the spectral one."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return lower.T
    values, vectors = torch.linalg.eigh(covariance)
    return values.clamp(min=0).sqrt()[:, None] * vectors.T
