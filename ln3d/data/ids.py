"""Which part and which triangle of a scene every pixel shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ln3d.data.readers.scene import Scene
from ln3d.data.views import pixel_directions, sample_spacing
from ln3d.raycast.surface import PaintedSurface


@dataclass(frozen=True)
class Ids:
    """What the ray through every pixel's centre meets first, -1 where it meets nothing; int32 (v, h, w) both.

    `part` counts the parts of the scene that have faces, one for every material of the mesh; `face` counts their
    triangles, one part after the other.
    """

    part: NDArray[np.int32]
    face: NDArray[np.int32]


def identify(
    scene: Scene,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int = 2,
) -> Ids:
    """Return what cameras (v, 4, 4) with intrinsics (v, 3, 3) meet: the surface that `draw` tells depth and normal of.

    `supersampling` is that of `draw`: it decides how finely the holes of cut-out textures are seen.
    """
    parts = [part for part in scene.parts if len(part.faces)]
    surface = PaintedSurface(parts, sample_spacing(camera_to_world, intrinsics, resolution * supersampling))
    owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.faces) for part in parts])
    face = np.full((len(camera_to_world), resolution, resolution), -1, np.int32)
    centres = np.arange(resolution) + 0.5
    for view, (pose, lens) in enumerate(zip(camera_to_world, intrinsics, strict=True)):
        directions = pixel_directions(pose, lens, centres, centres[:, None], resolution).reshape(-1, 3)
        origins = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
        face[view] = surface.look(origins, directions, colours=False).face.reshape(resolution, resolution)
    return Ids(np.where(face >= 0, owner[face], np.int32(-1)).astype(np.int32), face)
