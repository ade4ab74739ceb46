"""The part of a mesh that can be seen from outside, as points."""

import numpy as np
import torch
from jaxtyping import Float, Int

from ln3d.geometry.rays import image_rays
from ln3d.raycast.embree import RayCaster


def outer_points(
    vertices: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "m 3"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    size: int,
) -> Float[np.ndarray, "k 3"]:
    """Return where the rays of all pixels of `size` x `size` views first meet the mesh, in world units.

    These are the points that `ln3d.geometry.clouds.unproject` gives of the views' depth maps.
    """
    poses, lenses = torch.from_numpy(camera_to_world).float(), torch.from_numpy(intrinsics).float()
    origins, directions = (rays.reshape(-1, 3).numpy() for rays in image_rays(poses, lenses, size))
    hits = RayCaster(vertices, faces).first_hits(origins, directions)
    met = hits.face >= 0
    points: Float[np.ndarray, "k 3"] = origins[met] + hits.distance[met, None] * directions[met]
    return points
