"""Nearest neighbours by brute force on a CUDA device: all distances, a block at a time, in double precision (torch)."""

import numpy as np
import torch
from jaxtyping import Float, Int

CHUNK = 4096  # points looked up at once: a device wants much work at a time
_BLOCK = 1 << 24  # distances that are held at once: two matrices of 128 MiB


class Blocks:
    """The points of a cloud on a device, asked like a search tree."""

    def __init__(self, points: Float[np.ndarray, "m 3"], device: torch.device) -> None:
        self.points = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)).to(device)

    def query(self, x: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Return the distance from each point to the nearest one of the cloud, and that one's number."""
        asked = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64)).to(self.points.device)
        parts = [self._nearest(part) for part in asked.split(max(1, _BLOCK // len(self.points)))]
        squared, number = (torch.cat(column) for column in zip(*parts, strict=True))
        return squared.sqrt().cpu().numpy(), number.cpu().numpy()

    def _nearest(self, asked: Float[torch.Tensor, "n 3"]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return squared distances from differences: |x|^2 + |y|^2 - 2xy would lose the digits of close points."""
        squared = asked.new_zeros((len(asked), len(self.points)))
        for axis in range(3):
            apart = asked[:, axis, None] - self.points[None, :, axis]
            squared.addcmul_(apart, apart)
        nearest = squared.min(dim=1)
        return nearest.values, nearest.indices
