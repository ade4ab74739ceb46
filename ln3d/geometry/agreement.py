"""Whether depth maps and cameras belong together: what one view sees must be where the others see it (numpy)."""

import numpy as np
from jaxtyping import Float, Int

from ln3d.geometry.clouds import unproject
from ln3d.geometry.projection import project

MISSED = 1.0
"""Disagreement, in world units, where another view shows background: half the side of the scene box."""
_FACING = 0.5  # cosine: a view is asked about what it should see from less than 60 degrees off the normal
_SEEN = 0.5
_MOST = 0.75  # of a view's points: a wrong turn leaves surfaces that lie along it where they are


def depth_disagreement(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    source: Int[np.ndarray, " n"],
    depth: Float[np.ndarray, "v h w"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
) -> Float[np.ndarray, " n"]:
    """Return for every point how far other views see the surface from it, in world units; NaN where none should see it.

    `source` is the view that a point comes from, which is not asked. The others are asked if the point faces them and
    is in their picture. A view is wrong by the difference between the distance to the point and the depth it shows
    there, interpolated or that of the best of the four pixels around, or by MISSED where these are background. The
    lower quartile over the views is taken, so that surfaces which hide the point from most of them do not count.
    """
    position, ahead = project(points, camera_to_world, intrinsics)
    towards = camera_to_world[:, None, :3, 3] - points[None]
    distance = np.linalg.norm(towards, axis=-1)
    cosine = np.einsum("vnc,nc->vn", towards, normals) / np.maximum(distance, 1e-12)
    height, width = depth.shape[1:]
    corner = np.floor(np.clip(position, -1, 2) * [width, height] - 0.5).astype(np.int64)
    inside = ((corner >= 0) & (corner < [width - 1, height - 1])).all(axis=-1)
    asked = inside & (ahead > 0) & (cosine > _FACING) & (np.arange(len(depth))[:, None] != source)
    view, point = np.nonzero(asked)
    wrong = _misses(depth, view, position[view, point], distance[view, point])
    told = np.full(asked.shape, np.inf)
    told[view, point] = wrong
    count = asked.sum(axis=0)
    quartile = np.sort(told, axis=0)[np.maximum(count - 1, 0) // 4, np.arange(len(points))]
    return np.where(count > 0, quartile, np.nan)


def _misses(
    depth: Float[np.ndarray, "v h w"],
    view: Int[np.ndarray, " k"],
    position: Float[np.ndarray, "k 2"],
    distance: Float[np.ndarray, " k"],
) -> Float[np.ndarray, " k"]:
    """Return how far the surface at `position` (picture sides) of a view is from `distance` along the ray."""
    height, width = depth.shape[1:]
    place = position * [width, height] - 0.5
    corner = np.floor(place).astype(np.int64)
    (x, y), (right, down) = corner.T, (place - corner).T
    around = np.stack([depth[view, y + j, x + i] for j in (0, 1) for i in (0, 1)])
    shares = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    covered = around > 0
    nearest = np.where(covered, np.abs(around - distance), MISSED).min(axis=0)
    smooth = np.where(covered.all(axis=0), np.abs((around * shares).sum(axis=0) - distance), MISSED)
    return np.minimum(nearest, smooth)


def cloud_thickness(
    depth: Float[np.ndarray, "v h w"],
    normal: Float[np.ndarray, "v h w 3"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    per_view: int = 256,
) -> Float[np.ndarray, " v"]:
    """Return per view the upper quartile of its points' disagreement with all other views, in world units.

    It is nearly 0 for true cameras, and for a view with a wrong one about the distance by which it is wrong. `depth`
    is the distance along the ray (0 is background), `normal` in the world; `per_view` points are taken from each view.
    NaN where a view sees nothing, or where the other views should see less than half of what it sees.
    """
    result = np.full(len(depth), np.nan)
    points, normals, source = sampled_surface(depth, normal, camera_to_world, intrinsics, per_view)
    if not len(points):
        return result
    wrong = depth_disagreement(points, normals, source, depth, camera_to_world, intrinsics)
    for view in range(len(depth)):
        own = wrong[source == view]
        known = own[np.isfinite(own)]
        if len(known) and len(known) >= _SEEN * len(own):
            result[view] = np.quantile(known, _MOST)
    return result


def sampled_surface(
    depth: Float[np.ndarray, "v h w"],
    values: Float[np.ndarray, "v h w c"],
    camera_to_world: Float[np.ndarray, "v 4 4"],
    intrinsics: Float[np.ndarray, "v 3 3"],
    per_view: int,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]:
    """Return points, their `values` and their views for at most `per_view` pixels of every view, evenly spaced."""
    thin = np.zeros_like(depth)
    flat, there = thin.reshape(len(depth), -1), depth.reshape(len(depth), -1)
    for view in range(len(depth)):
        covered = np.flatnonzero(there[view] > 0)
        kept = covered[np.linspace(0, len(covered) - 1, min(per_view, len(covered))).astype(np.int64)]
        flat[view, kept] = there[view, kept]
    source = np.nonzero(thin > 0)[0]
    return unproject(thin, camera_to_world, intrinsics), values[thin > 0], source
