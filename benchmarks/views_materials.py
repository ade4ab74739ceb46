"""A scene as the peers of `views.py` want it: all triangles of one texture together, and cameras in OpenGL's axes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import Views


@dataclass
class Material:
    """The triangles that share a texture: positions (n, 3), texture coordinates (n, 2), colours (n, 4), faces (m, 3).

    `texture` is uint8 (h, w, 4) with the first row at the bottom, as OpenGL, VTK and Blender have it; None for none.
    """

    vertices: NDArray[np.float32]
    uv: NDArray[np.float32]
    paint: NDArray[np.float32]
    faces: NDArray[np.int32]
    texture: NDArray[np.uint8] | None


def materials_of(scene: Scene) -> list[Material]:
    """Return the triangles of `scene` by texture, so that each takes one draw call. It must have no cut-outs."""
    if any(part.cutout for part in scene.parts):
        raise ValueError("the peers draw no holes: choose a mesh without cut-outs")
    groups: dict[int, list[Part]] = {}
    for part in scene.parts:
        textured = part.texture is not None and part.uv is not None
        groups.setdefault(id(part.texture) if textured else 0, []).append(part)
    return [_joined(parts, textured=key != 0) for key, parts in groups.items()]


def _joined(parts: list[Part], textured: bool) -> Material:
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    uv = [part.uv if textured else np.zeros((len(part.vertices), 2), np.float32) for part in parts]
    return Material(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate(uv).astype(np.float32),
        np.concatenate([_paint(part) for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)]).astype(np.int32),
        np.ascontiguousarray(parts[0].texture[::-1]) if textured else None,
    )


def _paint(part: Part) -> NDArray[np.float32]:
    own = np.ones((len(part.vertices), 4), np.float32) if part.colours is None else part.colours
    return (own * part.base_colour).astype(np.float32)


def empty_views(count: int, resolution: int) -> Views:
    """Return arrays for `count` views, not set."""
    shape = (count, resolution, resolution)
    return Views(np.empty((*shape, 4), np.uint8), np.empty(shape, np.float32), np.empty((*shape, 3), np.float32))


def depth_range(camera_to_world: NDArray[np.float32]) -> tuple[float, float]:
    """Return the nearest and the farthest distance from a camera (4, 4) at which an object of radius 0.9 can be."""
    distance = float(np.linalg.norm(camera_to_world[:3, 3]))
    return distance - 0.95, distance + 0.95


def projection(intrinsics: NDArray[np.float32], near: float, far: float) -> NDArray[np.float64]:
    """Return the matrix (4, 4) from our camera's axes to clip space; down is up there, so rows come in our order."""
    (fx, _, cx), (_, fy, cy) = intrinsics[:2].astype(np.float64)
    return np.array(
        [
            [2 * fx, 0, 2 * cx - 1, 0],
            [0, 2 * fy, 2 * cy - 1, 0],
            [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, 1, 0],
        ]
    )
