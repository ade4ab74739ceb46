"""Textures as pyramids of box-filtered levels in one flat array, looked up for many hits at once."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Level:
    """One size of one texture inside the flat array: where it begins and how large it is.

    `scale` is in texels of this level per repeat of the texture, (across, down); it differs from the
    integer size where the full size is no multiple of the reduction.
    """

    offset: int
    width: int
    height: int
    across: float
    down: float


@dataclass
class TextureAtlas:
    """All textures of a scene at the sizes that are needed, premultiplied by their alpha.

    Ask for levels with `add`, then look texels up with `sample`.
    """

    _chunks: list[NDArray[np.uint8]] = field(default_factory=list)
    _length: int = 0
    _levels: list[Level] = field(default_factory=list)
    _known: dict[tuple[int, bool, int], int] = field(default_factory=dict)
    _images: dict[tuple[int, bool], Image.Image] = field(default_factory=dict)
    _textures: list[NDArray[np.uint8]] = field(default_factory=list)
    _seen: dict[int, int] = field(default_factory=dict)
    _alike: dict[tuple[tuple[int, ...], bytes], list[int]] = field(default_factory=dict)
    _table: tuple[NDArray[np.uint8], NDArray[np.float64]] | None = None

    def add(self, texture: NDArray[np.uint8], opaque: bool, reduction: int) -> int:
        """Return the number of a level: `texture` (h, w, 4) box-filtered by `reduction` texels a side.

        `opaque` ignores the texture's alpha (it is gloss or a mask there). Equal levels are stored once.
        """
        key = (self._number(texture), opaque, reduction)
        if key not in self._known:
            self._known[key] = self._store(texture, opaque, reduction)
        return self._known[key]

    def _number(self, texture: NDArray[np.uint8]) -> int:
        """Return the number of a texture, the same for equal copies, which parts of one scene often bring."""
        if id(texture) not in self._seen:
            alike = self._alike.setdefault((texture.shape, texture[::16, ::16].tobytes()), [])
            equal = (n for n in alike if np.array_equal(self._textures[n], texture))
            self._seen[id(texture)] = next(equal, len(self._textures))
            alike.append(len(self._textures))
            self._textures.append(texture)  # an id is only good while its array lives
        return self._seen[id(texture)]

    def _store(self, texture: NDArray[np.uint8], opaque: bool, reduction: int) -> int:
        height, width = texture.shape[:2]
        reduction = min(reduction, max(width, height))
        if reduction == 1 and opaque:
            reduced = np.array(texture)
            reduced[..., 3] = 255
        else:
            reduced = np.asarray(self._image(texture, opaque).reduce(reduction).convert("RGBA" if opaque else "RGBa"))
        self._levels.append(
            Level(self._length, reduced.shape[1], reduced.shape[0], width / reduction, height / reduction)
        )
        self._chunks.append(reduced.reshape(-1, 4))
        self._length += reduced.shape[0] * reduced.shape[1]
        self._table = None
        return len(self._levels) - 1

    def _image(self, texture: NDArray[np.uint8], opaque: bool) -> Image.Image:
        key = (self._number(texture), opaque)
        if key not in self._images:
            image = Image.fromarray(np.ascontiguousarray(texture), "RGBA")
            # Colours of see-through texels must not bleed into their neighbours, hence premultiplied (RGBa).
            self._images[key] = image.convert("RGB" if opaque else "RGBa")
        return self._images[key]

    def sample(self, level: NDArray[np.integer], uv: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return premultiplied RGBA (n, 4) in [0, 1], bilinear, at `uv` (n, 2) of the levels numbered `level` (n,).

        u runs to the right, v runs up, and the texture repeats in both.
        """
        texels, sizes = self.table()
        offset, width, height, across, down = (column.take(level) for column in sizes.T)
        x0, x1, fx = _neighbours(uv[:, 0], across, width)
        y0, y1, fy = _neighbours(1 - uv[:, 1], down, height)
        start, stride = offset.astype(np.int64), width.astype(np.int64)
        packed = texels.view(np.uint32)[:, 0]  # a texel at once, and then all bytes of all of them in one long row
        left, right, upper, lower = (np.repeat(share, 4) for share in (1 - fx, fx, 1 - fy, fy))

        def row(y: NDArray[np.int64]) -> NDArray[np.float32]:
            begin = start + y * stride
            first, second = (packed.take(begin + x).view(np.uint8) for x in (x0, x1))
            return np.asarray(first * left + second * right)

        blended = row(y0) * upper + row(y1) * lower
        blended *= np.float32(1 / 255)
        return blended.reshape(-1, 4)

    def table(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Return the texels of all levels (t, 4), premultiplied, and what a level is (l, 5), as in `Level`.

        There has to be a level.
        """
        if self._table is None:
            sizes = [(level.offset, level.width, level.height, level.across, level.down) for level in self._levels]
            self._table = np.concatenate(self._chunks), np.array(sizes, np.float64)
        return self._table


def _neighbours(
    coordinate: NDArray[np.float32], period: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the texels on both sides of a repeating coordinate, and how far it is towards the second."""
    position = (coordinate - np.floor(coordinate)) * period - 0.5
    before = np.floor(position)
    share = (position - before).astype(np.float32)
    first = before.astype(np.int64)
    last = size.astype(np.int64) - 1
    second = first + 1
    return np.where(first < 0, last, np.minimum(first, last)), np.where(second > last, 0, second), share
