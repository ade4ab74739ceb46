"""Coloured triangle meshes as GLB, OBJ or PLY files.

World axes go out as they are, +y up and +z front, which is glTF's own convention. Colours are sRGB in a `Mesh`.
In GLB they become linear: glTF 2.0 defines COLOR_0 as a linear multiplier of the base colour, and viewers (three.js and
model-viewer, Babylon, Blender) take it so; raw sRGB bytes look washed out there. They are stored with 16 bits, because
8 linear bits show bands in the dark. OBJ and PLY have no such rule; there colours stay sRGB, as readers show them.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from trimesh.visual.material import PBRMaterial

from ln3d.errors import RecipeError
from ln3d.geometry.srgb import linear_from_srgb, srgb_from_linear

_UNSIGNED_SHORT = 5123  # glTF's component type


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in world units, faces counter-clockwise seen from outside, colours sRGB."""

    vertices: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    colours: UInt8[np.ndarray, "n 3"] | None = None


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Write `mesh` as the suffix of `path` says: .glb, .obj or .ply. A file there is replaced at once or not at all.

    Raises RecipeError for another suffix.
    """
    encode = WRITERS.get(path.suffix.lower())
    if encode is None:
        raise RecipeError(f"cannot write a mesh as {path.name}", f"use one of {', '.join(sorted(WRITERS))}")
    content = encode(mesh)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def to_linear(colours: UInt8[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Return linear intensities in [0, 1] of sRGB bytes."""
    return linear_from_srgb(colours.astype(np.float64) / 255.0)


def to_srgb(linear: Float[np.ndarray, "n c"]) -> UInt8[np.ndarray, "n c"]:
    """Return sRGB bytes of linear intensities in [0, 1]: the inverse of `to_linear`."""
    return np.rint(srgb_from_linear(linear).clip(0.0, 1.0) * 255.0).astype(np.uint8)


def _glb(mesh: Mesh) -> bytes:
    material = PBRMaterial(name="surface", roughnessFactor=1.0, metallicFactor=0.0, doubleSided=True)
    body = trimesh.Trimesh(
        mesh.vertices, mesh.faces, process=False, visual=trimesh.visual.TextureVisuals(material=material)
    )

    def add_colours(buffers: Any, tree: Any) -> None:
        if mesh.colours is None:
            return
        # trimesh writes 8-bit colours only, so the 16-bit ones are appended to what it has collected.
        rgba = np.full((len(mesh.vertices), 4), 65535, np.uint16)
        rgba[:, :3] = np.rint(to_linear(mesh.colours) * 65535.0)
        buffers["COLOR_0"] = rgba.tobytes()
        tree["accessors"]["COLOR_0"] = {
            "bufferView": len(buffers) - 1,
            "byteOffset": 0,
            "componentType": _UNSIGNED_SHORT,
            "normalized": True,
            "type": "VEC4",
            "count": len(rgba),
        }
        tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = len(tree["accessors"]) - 1

    scene = trimesh.Scene()
    scene.add_geometry(body, geom_name="mesh")
    return bytes(trimesh.exchange.gltf.export_glb(scene, include_normals=True, buffer_postprocessor=add_colours))


def _obj(mesh: Mesh) -> bytes:
    return str(trimesh.exchange.obj.export_obj(_coloured(mesh), include_texture=False, header="ln3d")).encode()


def _ply(mesh: Mesh) -> bytes:
    return bytes(trimesh.exchange.ply.export_ply(_coloured(mesh)))


def _coloured(mesh: Mesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=mesh.colours, process=False)


WRITERS: dict[str, Callable[[Mesh], bytes]] = {".glb": _glb, ".obj": _obj, ".ply": _ply}
"""Suffix -> the bytes of the file."""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
