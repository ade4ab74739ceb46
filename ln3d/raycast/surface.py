"""The painted surface of a scene: where rays meet it first, which way it faces there, and its colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.embree import Hits, RayCaster
from ln3d.raycast.textures import TextureAtlas

_MAX_HOLES = 16
_STEP = np.float32(1e-4)


class PaintedPart(Protocol):
    """Triangles of one material, as the mesh readers return them."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32] | None
    colours: NDArray[np.float32] | None
    base_colour: NDArray[np.float32]
    texture: NDArray[np.uint8] | None
    cutout: bool


@dataclass
class Seen:
    """The first visible surface point of every ray of a batch, in the order of the rays.

    `hit` (n,) bool; `distance` (n,) float32 along the ray; `normal` (n, 3) unit, world, turned against the ray;
    `colour` (n, 3) in [0, 1]: the unlit surface. All are 0 where nothing is hit.
    """

    hit: NDArray[np.bool_]
    distance: NDArray[np.float32]
    normal: NDArray[np.float32]
    colour: NDArray[np.float32]


class PaintedSurface:
    """All parts of a scene in one ray caster.

    `texel` is the distance between neighbouring samples on the object, in world units: textures finer
    than that are box-filtered first, so that they don't flicker from view to view.
    """

    def __init__(self, parts: Sequence[PaintedPart], texel: float) -> None:
        """Join the parts, build the search tree, and bring the textures to the sizes that are needed."""
        parts = [part for part in parts if len(part.faces)]
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        self.vertices = _stack([part.vertices for part in parts], 3)
        self.faces = _stack([part.faces + start for part, start in zip(parts, starts, strict=False)], 3, np.int64)
        used = self.vertices[self.faces].reshape(-1, 3)
        self.bounds = np.stack([used.min(axis=0), used.max(axis=0)]) if len(used) else np.zeros((2, 3), np.float32)
        """Lowest and highest corner (2, 3) of what there is to hit."""
        self.face_normals = _face_normals(self.vertices[self.faces])
        self._caster = RayCaster(self.vertices, self.faces)
        self._part = np.repeat(np.arange(len(parts)), [len(part.faces) for part in parts])
        self._uv = _stack([_or_zeros(part.uv, len(part.vertices)) for part in parts], 2)
        self._paint = _vertex_paint(parts)
        self._one_paint = all(part.colours is None for part in parts)
        self._cutout = np.array([part.cutout for part in parts], bool)
        self._atlas = TextureAtlas()
        self._level = self._choose_levels(parts, texel)

    def look(self, origins: NDArray[np.float32], directions: NDArray[np.float32], colours: bool = True) -> Seen:
        """Follow rays (n, 3), unit directions, to the first point that is not a hole of a cut-out texture.

        After 16 holes a ray counts as missing everything. Without `colours` the colour is left at 0.
        """
        count = len(directions)
        seen = Seen(
            np.zeros(count, bool), np.zeros(count, np.float32), np.zeros((count, 3), np.float32),
            np.zeros((count, 3), np.float32),
        )  # fmt: skip
        live = np.arange(count)
        travelled = np.zeros(count, np.float32)
        for _ in range(_MAX_HOLES if self._cutout.any() else 1):
            starts = origins[live] + travelled[live, None] * directions[live] if travelled.any() else origins[live]
            hits = self._caster.first_hits(starts, directions[live])
            met = hits.face >= 0
            live = live[met]
            hits = Hits(hits.face[met], hits.distance[met] + travelled[live], hits.u[met], hits.v[met])
            paint = self._paint_at(hits, colours)
            solid = paint[:, 3] >= 0.5
            self._record(seen, live[solid], hits, solid, paint, directions)
            travelled[live] = hits.distance + _STEP
            live = live[~solid]
            if not len(live):
                break
        return seen

    def _record(
        self,
        seen: Seen,
        rays: NDArray[np.integer],
        hits: Hits,
        solid: NDArray[np.bool_],
        paint: NDArray[np.float32],
        directions: NDArray[np.float32],
    ) -> None:
        normal = self.face_normals[hits.face[solid]]
        towards = directions[rays]
        away = normal[:, 0] * towards[:, 0] + normal[:, 1] * towards[:, 1] + normal[:, 2] * towards[:, 2] > 0
        normal[away] *= -1
        seen.hit[rays] = True
        seen.distance[rays] = hits.distance[solid]
        seen.normal[rays] = normal
        seen.colour[rays] = paint[solid, :3]

    def _paint_at(self, hits: Hits, colours: bool) -> NDArray[np.float32]:
        """Return RGBA (n, 4) at the hits, not premultiplied; alpha is 1 on parts that are no cut-outs."""
        part = self._part[hits.face]
        if not colours and not self._cutout[part].any():
            return np.ones((len(part), 4), np.float32)
        corners = self.faces[hits.face]
        if self._one_paint:
            paint: NDArray[np.float32] = self._paint[corners[:, 0]]
        else:
            paint = _blend(self._paint[corners], hits)
        level = self._level[hits.face]
        textured = np.flatnonzero(level >= 0)
        if len(textured):
            here = Hits(hits.face[textured], hits.distance[textured], hits.u[textured], hits.v[textured])
            texel = self._atlas.sample(level[textured], _blend(self._uv[corners[textured]], here))
            texel[:, :3] /= np.maximum(texel[:, 3:], np.float32(1 / 255))
            paint[textured] *= np.minimum(texel, 1)
        paint[~self._cutout[part], 3] = 1
        return paint

    def _choose_levels(self, parts: Sequence[PaintedPart], texel: float) -> NDArray[np.int64]:
        """Return the number of the atlas level of every face, -1 for faces without a texture.

        A face's level is the power of two that makes its texels about as large as the samples.
        """
        levels = np.full(len(self.faces), -1, np.int64)
        corners, uv = self.vertices[self.faces], self._uv[self.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        first, second = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
        uv_area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
        for number, part in enumerate(parts):
            if part.texture is None or part.uv is None:
                continue
            mine = np.flatnonzero(self._part == number)
            height, width = part.texture.shape[:2]
            texels = np.sqrt(uv_area[mine] * (width * height) / np.maximum(area[mine], 1e-12)) * texel
            largest = int(np.ceil(np.log2(max(width, height))))
            power = np.clip(np.rint(np.log2(np.maximum(texels, 1e-6))), 0, largest).astype(np.int64)
            for value in np.unique(power):
                levels[mine[power == value]] = self._atlas.add(part.texture, not part.cutout, 2 ** int(value))
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


def _blend(values: NDArray[np.float32], hits: Hits) -> NDArray[np.float32]:
    """Return the values (n, c) at the hits from those at the corners (n, 3, c)."""
    u, v = hits.u[:, None], hits.v[:, None]
    blended: NDArray[np.float32] = values[:, 0] * (1 - u - v) + values[:, 1] * u + values[:, 2] * v
    return blended
