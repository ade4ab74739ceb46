"""Small meshes and pictures as bytes, format by format: whole ones, and ones whose numbers are what a test asks for."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import trimesh
from PIL import Image

CLAIMED = 100_000_000
FLAT = ((0, 0, 0), (1, 0, 0), (0, 1, 0))
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
TEXTURED = "mtllib {0}.mtl\n" + TRIANGLE + "vt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
PLY = (
    "ply\nformat {0} 1.0\n{3}element vertex {1}\nproperty float x\nproperty float y\nproperty float z\n"
    "element face {2}\nproperty list uchar int vertex_indices\nend_header\n"
)
AC = 'AC3Db\nMATERIAL "" rgb 1 1 1 trans 0\nOBJECT world\nkids 1\n'
AC_TRIANGLE = "numvert 3\n0 0 0\n1 0 0\n0 1 0\nnumsurf 1\nSURF 0\nmat 0\nrefs 3\n0 0 0\n1 1 0\n{0} 0 1\nkids 0\n"

WRL = (
    "#VRML V2.0 utf8\nShape {{ {1} geometry IndexedFaceSet {{ coord Coordinate {{ point [0 0 0, 1 0 0, 0 1 0] }} "
    "texCoord TextureCoordinate {{ point [0 0, 1 0, 0 1] }} coordIndex [0 1 {0} -1] }} }}\n"
)
WRL_TEXTURE = 'appearance Appearance {{ texture ImageTexture {{ url "{0}" }} }}'
TEXT_PLY = PLY.format("ascii", 3, 1, "") + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
IMAGE = {"materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}], "textures": [{"source": 0}]}


def box(kind):
    return trimesh.creation.box().export(file_type=kind)


def png(pixels=((255, 0, 0, 255),), kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.array([pixels], np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def image_bomb():
    """A PNG of a few bytes whose header declares 50000 x 50000 pixels."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def data_uri(data):
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def gltf(points=((0, 0, 0), (1, 0, 0), (0, 1, 0)), indices=(0, 1, 2), **changes):
    """Return the document of one triangle; `changes` are paths such as `nodes__0__mesh` and what is put there."""
    blob = np.array(points, "<f4").tobytes() + np.array(indices, "<u4").tobytes()
    start = 12 * len(points)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "buffers": [{"uri": data_uri(blob), "byteLength": len(blob)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": start},
            {"buffer": 0, "byteOffset": start, "byteLength": len(blob) - start},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": len(indices), "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
    }
    for path, value in changes.items():
        *way, last = (int(key) if key.isdigit() else key for key in path.split("__"))
        place = document
        for key in way:
            place = place[key]
        place[last] = value
    return json.dumps(document)


def glb(text, binary=b""):
    chunks = b"".join(
        struct.pack("<I4s", len(chunk), kind) + chunk
        for kind, chunk in ((b"JSON", text.encode() + b" " * (-len(text) % 4)), (b"BIN\0", binary))
        if chunk
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def pmd(vertices=3, faces=1, last=2, version=4, sets=1):
    """Return a 0 A.D. mesh of one triangle that claims these counts, and whose last corner is vertex `last`."""
    body = struct.pack("<2I", vertices, sets)
    for x, y in ((0, 0), (1, 0), (0, 1)):
        body += struct.pack("<3f3f2f4B4f", x, y, 0, 0, 0, 1, x, y, 0, 255, 255, 255, 1, 0, 0, 0)
    body += struct.pack("<I3HII", faces, 0, 1, last, 0, 0)
    return b"PSMD" + struct.pack("<2I", version, len(body)) + body


def stl(faces, claimed=None):
    return bytes(80) + struct.pack("<I", len(faces) if claimed is None else claimed) + b"".join(faces)


def facet(*corners):
    return struct.pack("<12fH", 0, 0, 1, *np.ravel(corners), 0)


def binary_ply(points, faces, claimed=None):
    head = PLY.format("binary_little_endian", len(points), len(faces) if claimed is None else claimed, "")
    body = np.array(points, "<f4").tobytes() + b"".join(struct.pack("<B3i", 3, *face) for face in faces)
    return head.encode() + body
