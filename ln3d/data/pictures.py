"""Decoded views on white, kept in memory after the first look where a good part of them can be."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError

_CACHE_BYTES = 2 << 30
_WORTH_IT = 1 / 4  # of the views there are: with fewer of them kept, hardly any look finds its view
_PIXEL_BYTES = 8  # four of colour and coverage, four of depth


class Pictures:
    """Colour, coverage and depth of any views of any object, at the data's size or smaller."""

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards
        self._kept: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._bytes = 0
        whole = len(shards.objects) * shards.views * shards.resolution**2 * _PIXEL_BYTES
        self._most = _CACHE_BYTES if whole * _WORTH_IT <= _CACHE_BYTES else 0

    def stack(
        self, index: int, views: Sequence[int], side: int | None = None
    ) -> tuple[Float[np.ndarray, "v h w 3"], Float[np.ndarray, "v h w"], Float[np.ndarray, "v h w"]]:
        """Return colour on white in [0, 1], coverage in [0, 1] and depth (0 where nothing is hit or known) of `views`.

        Colour and coverage are averaged over areas down to `side`; depth, which must not be averaged across an
        edge, is picked. Raises RecipeError if `side` exceeds the size of the data.
        """
        raw = [self._view(index, view) for view in views]
        colour = np.stack([c for c, _ in raw]).astype(np.float32) / 255
        depth = np.stack([d for _, d in raw])
        alpha = colour[..., 3]
        on_white = colour[..., :3] * alpha[..., None] + (1 - alpha[..., None])
        if side is None or side == self.shards.resolution:
            return on_white, alpha, depth
        return self._reduced(on_white, alpha, depth, side)

    def picked(
        self, index: int, views: Sequence[int], stride: int, first: tuple[int, int]
    ) -> tuple[Float[np.ndarray, "v h w 3"], Float[np.ndarray, "v h w"], Float[Tensor, "v 3 3"]]:
        """Return colour on white and depth of every `stride`-th pixel, and the intrinsics of just these pixels.

        The row and column of the first pixel are `first`. Unlike averaging, picking leaves every pixel one surface's
        own colour and depth; the principal point moves, so that pixel centres stay on their rays.
        """
        row, column = first
        raw = [self._view(index, view) for view in views]
        colour = np.stack([c[row::stride, column::stride] for c, _ in raw]).astype(np.float32) / 255
        depth = np.stack([d[row::stride, column::stride] for _, d in raw])
        on_white = colour[..., :3] * colour[..., 3:] + (1 - colour[..., 3:])
        intrinsics = torch.from_numpy(self.shards.intrinsics(index)[list(views)]).clone()
        middle, side = (stride - 1) / 2, self.shards.resolution
        intrinsics[:, 0, 2] -= (column - middle) / side
        intrinsics[:, 1, 2] -= (row - middle) / side
        return on_white, depth, intrinsics

    def cameras(self, index: int, views: Sequence[int]) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Return camera_to_world and intrinsics of `views`."""
        chosen = list(views)
        camera_to_world = self.shards.camera_to_world(index)[chosen]
        return torch.from_numpy(camera_to_world), torch.from_numpy(self.shards.intrinsics(index)[chosen])

    def _reduced(
        self, colour: np.ndarray, alpha: np.ndarray, depth: np.ndarray, side: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if side > self.shards.resolution:
            raise RecipeError(
                f"views of {self.shards.resolution} pixels cannot become {side}",
                f"render with dataset.resolution of at least {side}",
            )
        channels = torch.from_numpy(np.concatenate([colour, alpha[..., None]], axis=-1)).permute(0, 3, 1, 2)
        averaged = F.interpolate(channels, size=side, mode="area").permute(0, 2, 3, 1).numpy()
        picked = F.interpolate(torch.from_numpy(depth)[:, None], size=side, mode="nearest-exact")[:, 0].numpy()
        return averaged[..., :3], averaged[..., 3], picked

    def _view(self, index: int, view: int) -> tuple[np.ndarray, np.ndarray]:
        kept = self._kept.get((index, view))
        if kept is not None:
            return kept
        colour = self.shards.colour(index, view)
        if "depth" in self.shards.objects[index].lacks:
            depth = np.zeros(colour.shape[:2], dtype=np.float32)
        else:
            depth = self.shards.depth(index, view).astype(np.float32)
        size = colour.nbytes + depth.nbytes
        if self._bytes + size <= self._most:
            self._kept[index, view] = (colour, depth)
            self._bytes += size
        return colour, depth
