"""The triangles of a scene with their paint, ready to be drawn: all parts joined, textures at the sizes needed."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.textures import TextureAtlas


class PaintedPart(Protocol):
    """Triangles of one material, as the mesh readers return them."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32] | None
    colours: NDArray[np.float32] | None
    base_colour: NDArray[np.float32]
    texture: NDArray[np.uint8] | None
    cutout: bool


class PaintedTriangles:
    """All parts of a scene in one set of arrays.

    `vertices` (n, 3), `uv` (n, 2) and `paint` (n, 4), the RGBA of the material times the vertex's own; `faces` (m, 3),
    `normals` (m, 3), unit, by the winding; `cutout` (m,): whether a face has a hole where alpha is below one half;
    `level` (m,): the number in `atlas` of the texture of a face, -1 where it has none. `bounds` (2, 3) are the lowest
    and highest corner of what there is to hit. `one_paint`: no two corners of a face differ in paint.

    `texel` is the distance between neighbouring samples on the object, in world units: textures finer
    than that are box-filtered first, so that they don't flicker from view to view.
    """

    def __init__(self, parts: Sequence[PaintedPart], texel: float) -> None:
        """Join the parts and bring the textures to the sizes that are needed."""
        parts = [part for part in parts if len(part.faces)]
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        self.vertices = _stack([part.vertices for part in parts], 3)
        self.faces = _stack([part.faces + start for part, start in zip(parts, starts, strict=False)], 3, np.int64)
        used = self.vertices[self.faces].reshape(-1, 3)
        self.bounds = np.stack([used.min(axis=0), used.max(axis=0)]) if len(used) else np.zeros((2, 3), np.float32)
        self.normals = _face_normals(self.vertices[self.faces])
        self.uv = _stack([_or_zeros(part.uv, len(part.vertices)) for part in parts], 2)
        self.paint = _vertex_paint(parts)
        self.one_paint = all(part.colours is None for part in parts)
        owner = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
        self.cutout = np.array([part.cutout for part in parts], bool)[owner]
        self.atlas = TextureAtlas()
        self.level = self._choose_levels(parts, owner, texel)

    def _choose_levels(
        self, parts: Sequence[PaintedPart], owner: NDArray[np.integer], texel: float
    ) -> NDArray[np.int64]:
        """Return the number of the atlas level of every face, -1 for faces without a texture.

        A face's level is the power of two that makes its texels about as large as the samples.
        """
        levels = np.full(len(self.faces), -1, np.int64)
        corners, uv = self.vertices[self.faces], self.uv[self.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        uv_area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
        for number, part in enumerate(parts):
            if part.texture is None or part.uv is None:
                continue
            mine = np.flatnonzero(owner == number)
            height, width = part.texture.shape[:2]
            texels = np.sqrt(uv_area[mine] * (width * height) / np.maximum(area[mine], 1e-12)) * texel
            largest = int(np.ceil(np.log2(max(width, height))))
            power = np.clip(np.rint(np.log2(np.maximum(texels, 1e-6))), 0, largest).astype(np.int64)
            for value in np.unique(power):
                levels[mine[power == value]] = self.atlas.add(part.texture, not part.cutout, 2 ** int(value))
        return levels


def _stack(arrays: list[NDArray[Any]], width: int, dtype: type = np.float32) -> NDArray[Any]:
    return np.concatenate([np.zeros((0, width), dtype), *arrays]).astype(dtype, copy=False)


def _or_zeros(uv: NDArray[np.float32] | None, count: int) -> NDArray[np.float32]:
    return np.zeros((count, 2), np.float32) if uv is None else uv


def _vertex_paint(parts: Sequence[PaintedPart]) -> NDArray[np.float32]:
    """Return the colour of every vertex (n, 4): the material's, times the vertex's own where it has one."""
    painted = []
    for part in parts:
        base = np.broadcast_to(np.asarray(part.base_colour, np.float32), (len(part.vertices), 4))
        painted.append(base if part.colours is None else base * part.colours)
    return _stack(painted, 4)


def _face_normals(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    edges = corners.astype(np.float64)
    normal = np.cross(edges[:, 1] - edges[:, 0], edges[:, 2] - edges[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return (normal / np.where(length > 0, length, 1)).astype(np.float32)
