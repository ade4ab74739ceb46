"""The painted surface of a scene: where rays meet it first, which way it faces there, and its colour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.embree import Hits, RayCaster
from ln3d.raycast.painted import PaintedPart, PaintedTriangles

_MAX_HOLES = 16
_STEP = np.float32(1e-4)


@dataclass
class Seen:
    """The first visible surface point of every ray of a batch, in the order of the rays.

    `hit` (n,) bool; `distance` (n,) float32 along the ray; `normal` (n, 3) unit, world, turned against the ray;
    `colour` (n, 3) in [0, 1]: the unlit surface. All are 0 where nothing is hit. `face` (n,) counts the triangles of
    all parts, -1 where nothing is hit.
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
        """Follow rays (n, 3), unit directions, to the first point that is not a hole of a cut-out texture.

        After 16 holes a ray counts as missing everything. Without `colours` the colour is left at 0.
        """
        count = len(directions)
        seen = Seen(
            np.zeros(count, bool), np.zeros(count, np.float32), np.zeros((count, 3), np.float32),
            np.zeros((count, 3), np.float32), np.full(count, -1, np.int32),
        )  # fmt: skip
        live = np.arange(count)
        travelled = np.zeros(count, np.float32)
        for _ in range(_MAX_HOLES if self._holes else 1):
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
        normal = self._triangles.normals[hits.face[solid]]
        towards = directions[rays]
        away = normal[:, 0] * towards[:, 0] + normal[:, 1] * towards[:, 1] + normal[:, 2] * towards[:, 2] > 0
        normal[away] *= -1
        seen.hit[rays] = True
        seen.distance[rays] = hits.distance[solid]
        seen.normal[rays] = normal
        seen.colour[rays] = paint[solid, :3]
        seen.face[rays] = hits.face[solid]

    def _paint_at(self, hits: Hits, colours: bool) -> NDArray[np.float32]:
        """Return RGBA (n, 4) at the hits, not premultiplied; alpha is 1 on parts that are no cut-outs."""
        triangles = self._triangles
        cutout = triangles.cutout[hits.face]
        if not colours and not cutout.any():
            return np.ones((len(cutout), 4), np.float32)
        corners = triangles.faces[hits.face]
        if triangles.one_paint:
            paint: NDArray[np.float32] = triangles.paint[corners[:, 0]]
        else:
            paint = _blend(triangles.paint[corners], hits)
        level = triangles.level[hits.face]
        textured = np.flatnonzero(level >= 0)
        if len(textured):
            here = Hits(hits.face[textured], hits.distance[textured], hits.u[textured], hits.v[textured])
            texel = triangles.atlas.sample(level[textured], _blend(triangles.uv[corners[textured]], here))
            texel[:, :3] /= np.maximum(texel[:, 3:], np.float32(1 / 255))
            paint[textured] *= np.minimum(texel, 1)
        paint[~cutout, 3] = 1
        return paint


def _blend(values: NDArray[np.float32], hits: Hits) -> NDArray[np.float32]:
    """Return the values (n, c) at the hits from those at the corners (n, 3, c)."""
    u, v = hits.u[:, None], hits.v[:, None]
    blended: NDArray[np.float32] = values[:, 0] * (1 - u - v) + values[:, 1] * u + values[:, 2] * v
    return blended
