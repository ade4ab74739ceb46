"""0 A.D.'s binary meshes (.pmd), in their stored (bind) pose.

Little endian: "PSMD", u32 version, u32 payload size, u32 vertex count, u32 sets of texture coordinates; per vertex
3 f32 position, 3 f32 normal, 2 f32 per set, 4 u8 bones, 4 f32 weights; u32 face count, 3 u16 each; u32 bone count,
7 f32 each; u32 prop-point count, each u32 length, name, 3 f32 translation, 4 f32 quaternion (x y z w), u8 bone.
"""

import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.readers.sources import Source
from ln3d.errors import MeshError

_GREY = np.array([0.6, 0.6, 0.6, 1.0], dtype=np.float32)
_VERSION = 4
_MOST_UV_SETS = 16


@dataclass(frozen=True)
class PropPoint:
    """A named place on a mesh where another object can be put."""

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    """Unit quaternion (x, y, z, w)."""
    bone: int
    """The bone whose frame the point is in; 255 for none."""


@dataclass(frozen=True)
class PmdMesh:
    """One mesh: +y up."""

    vertices: Float32[np.ndarray, "n 3"]
    uv: Float32[np.ndarray, "n 2"] | None
    faces: Int64[np.ndarray, "m 3"]
    bones: Float32[np.ndarray, "b 7"]
    """Rest state of every bone: translation, then quaternion (x, y, z, w)."""
    props: dict[str, PropPoint]


def read(source: Source, name: str, limits: LimitsConfig) -> Scene:
    """Return the bare mesh in one grey; textures are named elsewhere, in an actor file."""
    mesh = parse(source.read(name), f"{source.label}/{name}")
    return Scene([Part(mesh.vertices, mesh.faces, mesh.uv, None, _GREY.copy(), None)])


def parse(data: bytes, label: str) -> PmdMesh:
    """Return the mesh stored in `data`; MeshError when it is truncated or not a .pmd file."""
    if data[:4] != b"PSMD":
        raise MeshError(f"{label}: not a .pmd mesh", "Name a file of 0 A.D.'s mesh cache.")
    try:
        return _parse(data)
    except struct.error:
        raise MeshError(f"{label}: a truncated .pmd mesh", "Fetch the package again.") from None
    except (ValueError, IndexError, OverflowError) as error:
        raise MeshError(f"{label}: a truncated or damaged .pmd mesh ({error})", "Fetch the package again.") from None


def _parse(data: bytes) -> PmdMesh:
    version, size, count, sets = struct.unpack_from("<4I", data, 4)
    if version != _VERSION:
        raise ValueError(f"version {version}, not {_VERSION}")
    if size > len(data) - 12:
        raise ValueError(f"claims {size} bytes, holds {len(data) - 12}")
    if sets > _MOST_UV_SETS:
        raise ValueError(f"claims {sets} sets of texture coordinates")
    record = np.dtype([("point", "<f4", 3), ("normal", "<f4", 3), ("uv", "<f4", (sets, 2)), ("skin", "u1", 20)])
    _check_rest(data, 20, count, record.itemsize, "vertices")
    table = np.frombuffer(data, record, count, 20)
    position = 20 + count * record.itemsize
    (face_count,) = struct.unpack_from("<I", data, position)
    _check_rest(data, position + 4, face_count, 6, "triangles")
    faces = np.frombuffer(data, "<u2", face_count * 3, position + 4).reshape(-1, 3)
    position += 4 + face_count * 6
    (bone_count,) = struct.unpack_from("<I", data, position)
    _check_rest(data, position + 4, bone_count, 28, "bones")
    bones = np.frombuffer(data, "<f4", bone_count * 7, position + 4).reshape(-1, 7)
    return PmdMesh(
        vertices=table["point"].astype(np.float32),
        uv=table["uv"][:, 0].astype(np.float32) if sets else None,
        faces=faces.astype(np.int64),
        bones=bones.astype(np.float32),
        props=_props(data, position + 4 + bone_count * 28),
    )


def _check_rest(data: bytes, position: int, count: int, size: int, what: str) -> None:
    if position + count * size > len(data):
        raise ValueError(f"claims {count} {what}, holds {len(data) - position} more bytes")


def _props(data: bytes, position: int) -> dict[str, PropPoint]:
    (count,) = struct.unpack_from("<I", data, position)
    position += 4
    props = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, position)
        name = data[position + 4 : position + 4 + length].decode("latin-1")
        x, y, z, a, b, c, d, bone = struct.unpack_from("<7fB", data, position + 4 + length)
        props[name] = PropPoint((x, y, z), (a, b, c, d), bone)
        position += 4 + length + 29
    return props
