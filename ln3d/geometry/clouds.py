"""Point clouds of surfaces as seen from outside (numpy)."""

import numpy as np
from jaxtyping import Float, Int


def unproject(
    depth: Float[np.ndarray, "v h w"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> Float[np.ndarray, "n 3"]:
    """Return the world points that the pixels of positive depth see, in the order view, row, column.

    Depth is the distance along the ray. Every point is visible from a camera, so inner surfaces have none.
    """
    view, row, column = np.nonzero(depth > 0)
    height, width = depth.shape[1:]
    k = intrinsics[view].astype(np.float64)
    x = ((column + 0.5) / width - k[:, 0, 2]) / k[:, 0, 0]
    y = ((row + 0.5) / height - k[:, 1, 2]) / k[:, 1, 1]
    ray = np.stack([x, y, np.ones_like(x)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    pose = camera_to_world[view].astype(np.float64)
    world = np.einsum("nij,nj->ni", pose[:, :3, :3], ray * depth[view, row, column, None])
    return (world + pose[:, :3, 3]).astype(np.float32)


def normalised_cloud(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return the points moved and scaled alike on all axes so that their bounding box is centred and spans [-1, 1].

    Raises:
        ValueError: there is no point, one is not finite, or all are the same.
    """
    if not len(points) or not np.isfinite(points).all():
        raise ValueError("a point cloud is empty or not finite")
    low, high = points.min(axis=0), points.max(axis=0)
    half = float((high - low).max()) / 2
    if half <= 0:
        raise ValueError("all points of a cloud are the same")
    return (points - (low + high) / 2) / half


def thinned(points: Float[np.ndarray, "n 3"], count: int, seed: int) -> Float[np.ndarray, "count 3"]:
    """Return `count` of the points, spread evenly over the surface, in a random order that `seed` decides.

    Surfaces seen by many cameras have more points than others; so only one point is kept per cell of the coarsest
    grid that has `count` occupied cells, and `count` of those are drawn. Fewer points than `count` are
    repeated.

    Raises:
        ValueError: there is no point.
    """
    if not len(points):
        raise ValueError("a point cloud is empty")
    order = np.random.default_rng(seed).permutation(len(points))
    points = points[order]
    if len(points) < count:
        return np.resize(points, (count, 3))
    chosen = _one_per_cell(points, _coarsest_cell(points, count))
    return points[np.sort(chosen)[:count]]


def _coarsest_cell(points: Float[np.ndarray, "n 3"], count: int) -> float:
    """Return nearly the largest cell side with at least `count` occupied cells, or 0 where none has."""
    low, high = 0.0, float(np.ptp(points, axis=0).max()) or 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if len(_one_per_cell(points, middle)) >= count:
            low = middle
        else:
            high = middle
    return low


def _one_per_cell(points: Float[np.ndarray, "n 3"], side: float) -> Int[np.ndarray, " k"]:
    """Return the numbers of the first point in each occupied cell; of all points where the cell has no size."""
    if side <= 0:
        return np.arange(len(points))
    cell = np.floor((points - points.min(axis=0)) / side).astype(np.int64)
    size = cell.max(axis=0) + 1
    if float(size[0]) * float(size[1]) * float(size[2]) > 2**62:
        return np.arange(len(points))
    return np.unique((cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2], return_index=True)[1]
