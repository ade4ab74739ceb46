"""The painted surface of a scene: where rays meet it first, which way it faces there, and its colour."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.embree import Hits, RayCaster
from ln3d.raycast.painted import PaintedPart, PaintedTriangles

_MAX_HOLES = 16
_STEP = np.float32(1e-4)


@dataclass
class Found:
    """The first visible surface points of those rays of a batch that meet one, k in any order.

    `ray` (k,) is the number of the ray, `face` (k,) counts the triangles of all parts, `distance` (k,) float32 is along
    the ray; `normal` (k, 3), unit, world, is turned against the ray; `colour` (k, 3) in [0, 1] is the unlit surface
    where colours were asked for, and says nothing where not.
    """

    ray: NDArray[np.integer]
    face: NDArray[np.int32]
    distance: NDArray[np.float32]
    normal: NDArray[np.float32]
    colour: NDArray[np.float32]


@dataclass
class Seen:
    """The first visible surface point of every ray of a batch, in the order of the rays.

    `hit` (n,) bool; `distance`, `normal`, `colour` and `face` as in `Found`, 0 where nothing is hit, `face` -1.
    """

    hit: NDArray[np.bool_]
    distance: NDArray[np.float32]
    normal: NDArray[np.float32]
    colour: NDArray[np.float32]
    face: NDArray[np.int32]


class PaintedSurface:
    """All parts of a scene in one ray caster; `texel` as in `PaintedTriangles`."""

    def __init__(self, parts: Sequence[PaintedPart], texel: float) -> None:
        """Join the parts, build the search tree, and bring the textures to the sizes that are needed."""
        self._triangles = PaintedTriangles(parts, texel)
        self._caster = RayCaster(self._triangles.vertices, self._triangles.faces)
        self._holes = bool(self._triangles.cutout.any())

    @property
    def bounds(self) -> NDArray[np.float32]:
        """Lowest and highest corner (2, 3) of what there is to hit."""
        return self._triangles.bounds

    def look(self, origins: NDArray[np.float32], directions: NDArray[np.float32], colours: bool = True) -> Seen:
        """Return what `find` finds, ray by ray."""
        found, count = self.find(origins, directions, colours), len(directions)
        seen = Seen(
            np.zeros(count, bool), np.zeros(count, np.float32), np.zeros((count, 3), np.float32),
            np.zeros((count, 3), np.float32), np.full(count, -1, np.int32),
        )  # fmt: skip
        seen.hit[found.ray] = True
        seen.distance[found.ray] = found.distance
        seen.normal[found.ray] = found.normal
        seen.colour[found.ray] = found.colour
        seen.face[found.ray] = found.face
        return seen

    def find(self, origins: NDArray[np.float32], directions: NDArray[np.float32], colours: bool = True) -> Found:
        """Follow rays (n, 3), unit directions, to the first point that is not a hole of a cut-out texture.

        After 16 holes a ray counts as missing everything. Without `colours` only those are worked out that tell holes.
        """
        found: list[Found] = []
        rays, starts, towards = np.arange(len(directions)), origins, directions
        travelled = np.zeros(len(rays), np.float32)
        for _ in range(_MAX_HOLES if self._holes else 1):
            every = self._caster.first_hits(starts, towards)
            met = np.flatnonzero(every.face >= 0)
            hits = every.of(met)
            hits.distance += travelled[met]
            rays, towards = rays.take(met), towards.take(met, axis=0)
            paint = self._paint_at(hits, colours)
            if not self._holes:
                return self._found(rays, hits, towards, paint)
            solid = paint[:, 3] >= 0.5
            found.append(self._found(rays[solid], hits.of(solid), towards[solid], paint[solid]))
            rays, towards = rays[~solid], towards[~solid]
            if not len(rays):
                break
            travelled = hits.distance[~solid] + _STEP
            starts = origins[rays] + travelled[:, None] * towards
        return _joined(found)

    def _found(
        self, rays: NDArray[np.integer], hits: Hits, towards: NDArray[np.float32], paint: NDArray[np.float32]
    ) -> Found:
        normal = self._triangles.normals.take(hits.face, axis=0)
        along = normal[:, 0] * towards[:, 0] + normal[:, 1] * towards[:, 1] + normal[:, 2] * towards[:, 2]
        turn = np.where(along > 0, np.float32(-1), np.float32(1))
        for axis in range(3):  # long columns: NumPy is slow on many short rows
            normal[:, axis] *= turn
        return Found(rays, hits.face, hits.distance, normal, paint[:, :3])

    def _paint_at(self, hits: Hits, colours: bool) -> NDArray[np.float32]:
        """Return RGBA (n, 4) at the hits, not premultiplied; alpha is 1 on parts that are no cut-outs."""
        triangles = self._triangles
        cutout = triangles.cutout.take(hits.face) if self._holes else None
        if not colours and (cutout is None or not cutout.any()):
            return np.ones((len(hits.face), 4), np.float32)
        if triangles.one_paint:
            paint = triangles.paint.take(triangles.faces[:, 0].take(hits.face), axis=0)
        else:
            paint = _blend(triangles.paint, triangles.faces, hits)
        level = triangles.level.take(hits.face)
        textured = np.flatnonzero(level >= 0)
        if 0 < len(textured) < len(level):
            paint[textured] *= self._texel_at(hits.of(textured), level.take(textured))
        elif len(textured):
            paint *= self._texel_at(hits, level)
        paint[slice(None) if cutout is None else ~cutout, 3] = 1
        return paint

    def _texel_at(self, hits: Hits, level: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the texture's RGBA (n, 4), not premultiplied, at hits on faces that have one."""
        texel = self._triangles.atlas.sample(level, _blend(self._triangles.uv, self._triangles.faces, hits))
        least = np.maximum(texel[:, 3], np.float32(1 / 255))
        for channel in range(3):
            texel[:, channel] /= least
        return np.minimum(texel, 1, out=texel)


def _joined(found: list[Found]) -> Found:
    names = [field.name for field in fields(Found)]
    return Found(*(np.concatenate([getattr(part, name) for part in found]) for name in names))


def _blend(values: NDArray[np.float32], faces: NDArray[np.integer], hits: Hits) -> NDArray[np.float32]:
    """Return the values (n, c) at the hits from those of the vertices (v, c)."""
    first, second, third = faces.take(hits.face, axis=0).T
    rest = 1 - hits.u - hits.v
    blended = np.empty((len(rest), values.shape[1]), np.float32)
    for column, value in enumerate(values.T):
        blended[:, column] = value[first] * rest + value[second] * hits.u + value[third] * hits.v
    return blended
