"""Chamfer distance between point clouds, exact, one pair or many against many (numpy and all cores, or CUDA).

The distance is CD(X, Y) = mean_x min_y |x - y|^2 + mean_y min_x |x - y|^2: squared, mean per point, both ways added.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    import torch

_LEAF = 32  # points per leaf: the fastest for clouds of a few thousand points queried by as many
_CHUNK = 512  # points between two looks at whether a pair can still be a minimum

Progress = Callable[[int], object]
"""Called with the number of pairs that were settled since the last call."""

_Item = TypeVar("_Item")


@runtime_checkable
class Tree(Protocol):
    """What finds the nearest points of a cloud."""

    def query(self, x: Float[np.ndarray, "n 3"]) -> tuple[Any, Any]:
        """Return the distance from each point to the nearest one of the cloud, and that one's number."""
        ...


@dataclass(frozen=True)
class CloudSet:
    """Point clouds, each with its search tree built once."""

    points: tuple[Float[np.ndarray, "_ 3"], ...]
    trees: tuple[Tree, ...]
    chunk: int = _CHUNK
    """Points to look up at once where a search may end early."""

    def __len__(self) -> int:
        """Return the number of clouds."""
        return len(self.points)


def cloud_set(clouds: Sequence[Float[np.ndarray, "_ 3"]], device: "torch.device | None" = None) -> CloudSet:
    """Return the clouds with their trees; on a CUDA `device` all points are compared there, block by block.

    Raises:
        ValueError: a cloud is empty or not finite.
    """
    for number, cloud in enumerate(clouds):
        if len(cloud) == 0 or not np.isfinite(cloud).all():
            raise ValueError(f"point cloud {number} is empty or not finite")
    points = tuple(np.ascontiguousarray(cloud, dtype=np.float64) for cloud in clouds)
    if device is not None and device.type == "cuda":
        from ln3d.geometry.chamfer_blocks import CHUNK, Blocks

        return CloudSet(points, tuple(Blocks(cloud, device) for cloud in points), CHUNK)
    return CloudSet(points, tuple(cKDTree(cloud, leafsize=_LEAF) for cloud in points))


def chamfer_distance(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "m 3"]) -> float:
    """Return CD(a, b), in squared units of the points."""
    return float(chamfer_matrix(cloud_set([a]), cloud_set([b]))[0, 0])


def chamfer_matrix(
    a: CloudSet, b: CloudSet, *, workers: int = 1, progress: Progress | None = None
) -> Float[np.ndarray, "g r"]:
    """Return all distances CD(a_i, b_j), computed by `workers` threads."""
    distances = np.empty((len(a), len(b)))

    def row(i: int) -> None:
        for j in range(len(b)):
            there = nearest_squared(a.points[i], b.trees[j])
            back = nearest_squared(b.points[j], a.trees[i])
            distances[i, j] = there.mean() + back.mean()
        if progress:
            progress(len(b))

    in_threads(row, range(len(a)), workers)
    return distances


def nearest_squared(points: Float[np.ndarray, "n 3"], tree: Tree) -> Float[np.ndarray, " n"]:
    """Return the squared distance from each point to the nearest one in `tree`."""
    distance: Float[np.ndarray, " n"] = tree.query(points)[0]
    return distance * distance


def in_threads(work: Callable[[_Item], object], items: Iterable[_Item], workers: int) -> None:
    """Do `work` on every item in `workers` threads: the tree search and numpy's gathers release the interpreter."""
    if workers <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, items):
            pass
