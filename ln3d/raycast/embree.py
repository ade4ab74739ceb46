"""First hits of rays on a triangle soup: Embree (through `embreex`) behind one small interface."""

import os
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

_pinned = False


@dataclass
class Hits:
    """What every ray of a batch met first.

    `face` (n,) int32 is the triangle, -1 where nothing was met; `distance` (n,) float32 is in units of the
    ray's direction, 0 where nothing was met; `u`, `v` (n,) float32 weigh the second and third corner.
    """

    face: NDArray[np.int32]
    distance: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    def of(self, rays: NDArray[np.integer] | NDArray[np.bool_]) -> "Hits":
        """Return a copy of what some of the rays met: those with these numbers, or where a mask is true."""
        return Hits(self.face[rays], self.distance[rays], self.u[rays], self.v[rays])


class RayCaster:
    """Triangles prepared for ray casting.

    `vertices` is (n, 3) in any unit, `faces` (m, 3) indices into it; m = 0 is allowed and is never hit.
    """

    def __init__(self, vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> None:
        """Build the search tree."""
        self._scene = _new_scene() if len(faces) else None
        if self._scene is not None:
            TriangleMesh(
                self._scene,
                np.ascontiguousarray(vertices, dtype=np.float32),
                np.ascontiguousarray(faces, dtype=np.int32),
            )

    def first_hits(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """Return the first hit of every ray; both arguments are (n, 3) float32."""
        count = len(directions)
        if self._scene is None or count == 0:
            nothing = np.zeros(count, np.float32)
            return Hits(np.full(count, -1, np.int32), nothing, nothing.copy(), nothing.copy())
        found = self._scene.run(
            np.ascontiguousarray(origins, dtype=np.float32),
            np.ascontiguousarray(directions, dtype=np.float32),
            output=True,
        )
        face = found["primID"]
        return Hits(face, np.where(face >= 0, found["tfar"], np.float32(0)), found["u"], found["v"])


def _new_scene() -> EmbreeScene:
    """Return an empty scene whose trees are built by one thread.

    Threads that build a tree together may order faces that lie on top of each other differently from run to
    run, and then another of them is hit. Embree asks for the cores of the process when it starts, so the
    process is held on one core for that moment.
    """
    global _pinned
    if _pinned or not hasattr(os, "sched_setaffinity"):
        return EmbreeScene(robust=True)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        scene = EmbreeScene(robust=True)
    finally:
        os.sched_setaffinity(0, cores)
    _pinned = True
    return scene
