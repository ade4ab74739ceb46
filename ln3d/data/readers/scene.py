"""A mesh as everything downstream sees it: parts with colours and textures."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_geometry
from ln3d.errors import MeshError

OBJECT_RADIUS = 0.9
WHITE = np.ones(4, dtype=np.float32)
_LEAST_HEIGHT = 1e-6  # of a triangle of the normalised object: float32 cannot tell less from a line


@dataclass
class Part:
    """Triangles of one material.

    The colour of a surface point is `base_colour`, times the vertex colour where there is one, times the
    texture where there is one, all in sRGB.
    """

    vertices: Float32[np.ndarray, "n 3"]
    """Positions, +y up, +z front."""
    faces: Int64[np.ndarray, "m 3"]
    """Vertex indices of every triangle; the winding is not reliable, so surfaces count as two-sided."""
    uv: Float32[np.ndarray, "n 2"] | None
    """Texture coordinates with v up: the texel row is (1 - v) * height; values outside [0, 1] repeat."""
    colours: Float32[np.ndarray, "n 4"] | None
    """Vertex colours, RGBA in [0, 1], sRGB."""
    base_colour: Float32[np.ndarray, "4"]
    """Material colour, RGBA in [0, 1], sRGB."""
    texture: UInt8[np.ndarray, "h w 4"] | None
    """RGBA pixels, sRGB, row 0 at the top."""
    cutout: bool = False
    """Whether the surface has a hole wherever alpha is below 0.5; otherwise alpha means nothing."""


@dataclass
class Scene:
    """One object: its parts, in one frame with +y up and +z front."""

    parts: list[Part]

    @property
    def bounds(self) -> Float32[np.ndarray, "2 3"]:
        """Lowest and highest corner over the vertices that faces use."""
        used = [part.vertices[np.unique(part.faces)] for part in self.parts if len(part.faces)]
        points = np.concatenate(used)
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @property
    def face_count(self) -> int:
        """Triangles of all parts."""
        return sum(len(part.faces) for part in self.parts)


def checked(scene: Scene, label: str, limits: LimitsConfig) -> Scene:
    """Return `scene` without empty parts, or raise MeshError that names `label` for what cannot be drawn."""
    parts = [part for part in scene.parts if len(part.faces)]
    if not parts:
        raise MeshError(f"{label}: no triangles", "The file is empty, or holds only points and lines.")
    for part in parts:
        check_geometry(part.vertices, part.faces, part.uv, label)
    total, points = sum(len(part.faces) for part in parts), sum(len(part.vertices) for part in parts)
    if total > limits.faces:
        raise MeshError(
            f"{label}: {total} triangles, more than {limits.faces}",
            "Simplify the mesh or raise dataset.limits.faces.",
        )
    if points > limits.vertices:
        raise MeshError(
            f"{label}: {points} vertices, more than {limits.vertices}",
            "Simplify the mesh or raise dataset.limits.vertices.",
        )
    return Scene(parts)


def normalised(scene: Scene) -> Scene:
    """Return the scene moved and scaled so that the sphere around its bounding box has radius 0.9 at the origin.

    Raises:
        MeshError: the object has no extent, or one that float32 cannot scale, or all its triangles are lines.
    """
    low, high = scene.bounds.astype(np.float64)
    centre, radius = (low + high) / 2, float(np.linalg.norm(high - low) / 2)
    magnitude = float(np.abs(scene.bounds).max())
    if not np.isfinite(radius) or radius <= 1e-6 * magnitude or radius < 1e-30:
        raise MeshError("the mesh has no extent: all its points coincide", "Remove the object from the collection.")
    scale = OBJECT_RADIUS / radius

    def moved(part: Part) -> Part:
        vertices = (part.vertices.astype(np.float64) - centre) * scale
        return replace(part, vertices=vertices.astype(np.float32))

    parts = [moved(part) for part in scene.parts]
    if not any(_has_area(part) for part in parts):
        raise MeshError("the mesh has no area: all its triangles are lines", "Remove the object from the collection.")
    return Scene(parts)


def _has_area(part: Part) -> bool:
    corners = part.vertices.astype(np.float64)[part.faces]
    edges = np.roll(corners, -1, axis=1) - corners
    twice_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    return bool((twice_area > _LEAST_HEIGHT * np.linalg.norm(edges, axis=2).max(axis=1)).any())
