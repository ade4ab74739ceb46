"""Checks that turn an absurd or broken mesh into a named rejection."""

import numpy as np

from ln3d.config.render import LimitsConfig
from ln3d.errors import MeshError


def check_size(size: int, largest: int, label: str) -> None:
    """Raise MeshError when a file of `size` bytes is larger than `largest`."""
    if size > largest:
        raise MeshError(f"{label}: {size} bytes, more than {largest}", "Raise dataset.limits.file_bytes to allow it.")


def check_claims(vertices: int, faces: int, limits: LimitsConfig, label: str) -> None:
    """Raise MeshError when a file says that it holds more than `limits` allows, or less than nothing.

    Called with what stands in a header, before anything of that size is read or reserved.
    """
    for count, largest, what in ((vertices, limits.vertices, "vertices"), (faces, limits.faces, "triangles")):
        if count > largest:
            key = "faces" if what == "triangles" else what
            raise MeshError(
                f"{label}: claims {count} {what}, more than {largest}",
                f"Simplify the mesh or raise dataset.limits.{key}.",
            )
        if count < 0:
            raise MeshError(f"{label}: claims {count} {what}", "The file is damaged; export it again.")


def check_pixels(size: tuple[int, int], largest: int, label: str) -> None:
    """Raise MeshError when an image of width x height `size` has more than `largest` pixels."""
    if size[0] * size[1] > largest:
        raise MeshError(
            f"{label}: a texture of {size[0]} x {size[1]} pixels, more than {largest} in all",
            "Shrink the texture or raise dataset.limits.texture_pixels.",
        )


def check_geometry(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray | None, label: str) -> None:
    """Raise MeshError unless used vertices and uv are finite, every face has its vertices, and uv fits them."""
    if faces.min() < 0 or faces.max() >= len(vertices):
        worst = int(faces.max() if faces.max() >= len(vertices) else faces.min())
        raise MeshError(
            f"{label}: a face refers to vertex {worst} of {len(vertices)}",
            "The file is damaged; export it again or leave it out.",
        )
    if not np.isfinite(vertices[faces]).all():
        raise MeshError(f"{label}: a vertex is not finite", "Repair the mesh (NaN or infinite positions).")
    if uv is not None and len(uv) != len(vertices):
        raise MeshError(f"{label}: {len(uv)} texture coordinates for {len(vertices)} vertices", "Export it again.")
    if uv is not None and not np.isfinite(uv[faces]).all():
        raise MeshError(f"{label}: a texture coordinate is not finite", "Repair the mesh (NaN or infinite UVs).")
