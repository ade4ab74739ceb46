"""Where points of the world appear in pictures, and which of them a depth map hides (numpy)."""

import itertools

import numpy as np
from jaxtyping import Bool, Float


def project(
    points: Float[np.ndarray, "n 3"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> tuple[Float[np.ndarray, "v n 2"], Float[np.ndarray, "v n"]]:
    """Return the positions (x, y) of points in the pictures of v cameras, in picture sides, and how far ahead they lie.

    (0, 0) is the top left corner of a picture and (1, 1) the bottom right one. `ahead` is measured along the optical
    axis; where it is not positive the point is not in front of the camera and its position means nothing.
    """
    pose, k = camera_to_world.astype(np.float64), intrinsics.astype(np.float64)
    local = np.einsum("vij,vni->vnj", pose[:, :3, :3], points[None].astype(np.float64) - pose[:, None, :3, 3])
    ahead = local[..., 2]
    plane = local[..., :2] / np.where(np.abs(ahead) > 1e-12, ahead, 1e-12)[..., None]
    focal = np.stack([k[:, 0, 0], k[:, 1, 1]], axis=-1)
    return plane * focal[:, None] + k[:, None, :2, 2], ahead


def hidden(
    points: Float[np.ndarray, "n 3"],
    depth: Float[np.ndarray, "h w"],
    camera_to_world: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    slack: float = 0.02,
) -> Bool[np.ndarray, " n"]:
    """Return which points lie behind the surface of a depth map (distance along the ray, 0 is background).

    Points out of the picture are not hidden, nor those less than `slack` behind the surface.
    """
    position, ahead = project(points, camera_to_world[None], intrinsics[None])
    height, width = depth.shape
    pixel = np.floor(np.clip(position[0], -1, 2) * [width, height]).astype(np.int64)
    inside = (ahead[0] > 0) & ((pixel >= 0) & (pixel < [width, height])).all(axis=-1)
    surface = np.zeros(len(points))
    surface[inside] = depth[pixel[inside, 1], pixel[inside, 0]]
    distance = np.linalg.norm(points - camera_to_world[:3, 3], axis=-1)
    return np.asarray((surface > 0) & (distance > surface + slack))


def box_edges(half: float = 1.0) -> Float[np.ndarray, "12 2 3"]:
    """Return the edges of the box [-half, half]^3 as pairs of corners."""
    corners = np.array(list(itertools.product((-half, half), repeat=3)))
    pairs = [(a, b) for a, b in itertools.combinations(range(8), 2) if (corners[a] != corners[b]).sum() == 1]
    return corners[np.array(pairs)]


def world_axes(length: float = 1.0) -> Float[np.ndarray, "3 2 3"]:
    """Return the axes x, y, z as pairs (origin, tip)."""
    return np.stack([np.zeros((3, 3)), np.eye(3) * length], axis=1)


def splat(
    points: Float[np.ndarray, "n 3"],
    colours: Float[np.ndarray, "n 3"],
    camera_to_world: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: int,
    radius: int = 1,
) -> tuple[Float[np.ndarray, "size size 3"], Float[np.ndarray, "size size"]]:
    """Return a picture of points as squares of 2 `radius` + 1 pixels on white, the nearest in front, and its depth.

    Depth is the distance along the ray to the point of a pixel, 0 where there is none.
    """
    picture, depth = np.ones((size, size, 3)), np.zeros((size, size))
    position, ahead = project(points, camera_to_world[None], intrinsics[None])
    pixel = np.floor(np.clip(position[0], -1, 2) * size).astype(np.int64)
    distance = np.linalg.norm(points - camera_to_world[:3, 3], axis=-1)
    reach = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 1, 2)
    order = np.argsort(-distance, kind="stable")
    order = order[ahead[0, order] > 0]
    # Of several points in a pixel the last one written stays: each square is written from far to near.
    place = pixel[order].repeat(len(offsets), axis=0) + np.tile(offsets[:, 0], (len(order), 1))
    inside = ((place >= 0) & (place < size)).all(axis=-1)
    x, y = place[inside].T
    source = order.repeat(len(offsets))[inside]
    picture[y, x], depth[y, x] = colours[source], distance[source]
    return picture, depth
