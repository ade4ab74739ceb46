"""A corpus of broken and hostile meshes, rendered by the real command: each a rejection with its reason, no more.

Nothing of it is stored: `CORPUS` is made here, from a few triangles and a picture of one pixel.
"""

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from ln3d.artifacts.workspace import Workspace
from ln3d.data.shards import ShardSet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are the kernel's")

# Small caps, so that little files are too much.
LIMITS = (
    "{seconds: 4, vertices: 60000, faces: 50000, texture_pixels: 4000000, file_bytes: 4000000, "
    "archive_bytes: 7000000, memory_bytes: 1000000000}"
)
CLAIMED = 100_000_000
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


FLAT = ((0, 0, 0), (1, 0, 0), (0, 1, 0))
BRACKETS = '{"asset": {"version": "2.0"}, "nodes": ' + "[" * 200_000
MANY_SOLIDS = "solid\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendsolid\n" * 45_000
TEXT_PLY = PLY.format("ascii", 3, 1, "") + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
IMAGE = {"materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}], "textures": [{"source": 0}]}

# By cause: the mesh's file name, its content, and the reason that is expected.
CORPUS = {
    "truncated": {
        "cut.glb": (box("glb")[:200], r"truncated \(200 bytes of \d+\)"),
        "cut.stl": (box("stl")[:300], "claims 12 triangles, holds 300 bytes"),
        "text.stl": ("solid\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\n", "claims a solid, holds no endsolid"),
        "cut.ply": (box("ply")[:-20], "unexpected length"),
        "text.ply": (TEXT_PLY[:-8], "claims 3 of vertex, 1 of face, holds 3 lines"),
        "header.ply": (TEXT_PLY[:60], "claims a header, holds no end_header"),
        "cut.off": ("OFF\n3 2 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "claims 3 vertices and 2 faces, holds 4 lines"),
        "cut.pmd": (pmd()[:100], r"claims \d+ bytes, holds 88"),
        "cut.ac": (AC + "OBJECT poly\nnumvert 3\n0 0 0\n", "claims 3 vertices, holds 1 more lines"),
        "cut.wrl": (WRL.format(2, "")[:90], "cut short"),
        "buffer.gltf": (gltf(buffers__0__uri="buffer.bin"), "lengths and offsets do not fit its data"),
        "texture.obj": (TEXTURED.format("texture"), "a damaged texture"),
    },
    "empty": {
        "empty.obj": ("", "no triangles|cannot be parsed"),
        "empty.glb": (b"", "not a glTF file"),
        "empty.stl": (b"", "claims a header, holds 0 bytes"),
        "points.obj": (TRIANGLE, "no triangles"),
        "points.ply": (PLY.format("ascii", 1, 0, "") + "0 0 0\n", "no triangles"),
        "world.ac": ("AC3Db\nOBJECT world\nkids 0\n", "no triangles"),
    },
    "not_finite": {
        "nan.obj": (TRIANGLE.replace("1 0 0", "nan 0 0") + "f 1 2 3\n", "not finite"),
        "overflow.obj": (TRIANGLE.replace("1 0 0", "1e39 0 0") + "f 1 2 3\n", "not finite"),
        "infinite.ply": (binary_ply([(0, 0, 0), (np.inf, 0, 0), (0, 1, 0)], [(0, 1, 2)]), "not finite"),
        "nan.stl": (stl([facet(*FLAT[:2], (np.nan, 0, 0))]), "not finite"),
        "matrix.gltf": (gltf(nodes__0={"mesh": 0, "matrix": [float("nan")] * 16}), "not finite"),
        "place.ac": (AC + "OBJECT poly\nloc nan 0 0\n" + AC_TRIANGLE.format(2), "not finite"),
        "uv.obj": (TEXTURED.format("uv").replace("vt 1 0", "vt nan 0"), "a texture coordinate is not finite"),
    },
    "indices": {
        "far.obj": (TRIANGLE + "f 1 2 9\n", "an index out of range: index 8"),
        "negative.obj": (TRIANGLE + "f -1 -2 -9\n", "an index out of range: index -9"),
        "zero.obj": (TRIANGLE + "f 0 1 2\n", "a face refers to vertex 0, and OBJ counts from 1"),
        "far.gltf": (gltf(indices=(0, 1, 7)), "vertex 7 of 3|index 7 is out of bounds"),
        "far.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "face index outside the range"),
        "negative.ply": (binary_ply(FLAT, [(0, 1, -3)]), "vertex -3 of 3"),
        "far.ac": (AC + "OBJECT poly\n" + AC_TRIANGLE.format(7), "a face refers to vertex 7 of 3"),
        "far.pmd": (pmd(last=7), "a face refers to vertex 7 of 3"),
        "far.wrl": (WRL.format(7, ""), "a face refers to vertex 7 of 3"),
    },
    "degenerate": {
        "point.obj": ("v 1 1 1\n" * 3 + "f 1 2 3\n", "no extent"),
        "line.off": ("OFF\n3 1 0\n0 0 0\n1 1.7 0.3\n2 3.4 0.6\n3 0 1 2\n", "no area"),
        "scaled.gltf": (gltf(nodes__0={"mesh": 0, "scale": [0, 0, 0]}), "no extent"),
        "clear.obj": (TEXTURED.format("clear"), "no camera sees anything of it"),
    },
    "claims": {
        "huge.ply": (binary_ply(FLAT, [(0, 1, 2)], CLAIMED), f"claims {CLAIMED} triangles, more than 50000"),
        "huge.stl": (stl([facet(*FLAT)], CLAIMED), f"claims {CLAIMED} triangles, more than 50000"),
        "huge.off": (f"OFF\n3 {CLAIMED} 0\n0 0 0\n", f"claims {CLAIMED} triangles, more than 50000"),
        "huge.ac": (AC + f"OBJECT poly\nnumvert {CLAIMED}\n0 0 0\n", f"claims {CLAIMED} vertices, holds 1"),
        "vertices.pmd": (pmd(vertices=CLAIMED), f"claims {CLAIMED} vertices, holds"),
        "uv.pmd": (pmd(sets=CLAIMED), f"claims {CLAIMED} sets of texture coordinates"),
        "points.gltf": (gltf(accessors__0__count=10**12), f"claims {10**12} vertices, more than 60000"),
        "indices.gltf": (
            gltf(accessors__1={"componentType": 5125, "count": 3 * CLAIMED, "type": "SCALAR"}),
            f"claims {CLAIMED} triangles, more than 50000",
        ),
        "copies.gltf": (
            gltf(indices=[0, 1, 2] * 1000, nodes=[{"mesh": 0}] * 60, scenes=[{"nodes": list(range(60))}]),
            "claims 60000 triangles, more than 50000",
        ),
        "uses.wrl": (
            "#VRML V2.0 utf8\nDEF n0 Group { }\n"
            + "".join(f"DEF n{n + 1} Group {{ children [ {f'USE n{n} ' * 10}] }}\n" for n in range(9)),
            "more than 200000 nodes",
        ),
        "negative.off": ("OFF\n3 -1 0\n0 0 0\n1 0 0\n0 1 0\n", "claims -1 triangles"),
        "one_line.obj": (TRIANGLE + "f" + " 1 2 3" * 200_000 + "\n", "more than 50000|out of range"),
    },
    "bombs": {
        "image.obj": (TEXTURED.format("image"), "a texture of 50000 x 50000 pixels, more than 4000000"),
        "image.gltf": (gltf(images=[{"uri": data_uri(image_bomb())}], **IMAGE), "a texture of 50000 x 50000 pixels"),
        "image.ply": (TEXT_PLY.replace("element", "comment TextureFile bomb.png\nelement", 1), "50000 x 50000 pixels"),
        "large.stl": (bytes(5_000_000), "5000000 bytes, more than 4000000"),
        "slow.stl": (MANY_SOLIDS, "timed out after 4 s"),
        "program.obj": (TEXTURED.format("program"), "a texture in the format EPS"),
    },
    "paths": {
        "up.gltf": (gltf(buffers__0__uri="../../outside/canary.bin"), "outside the mesh's folder"),
        "percent.gltf": (gltf(buffers__0__uri="%2e%2e/%2E%2E/outside/canary.bin"), "outside the mesh's folder"),
        "image.glb": (
            glb(gltf(images=[{"uri": "../../outside/canary.png"}], **IMAGE)),
            "refers to '../../outside/canary.png', outside",
        ),
        "absolute.obj": ("mtllib {outside}/canary.mtl\n" + TRIANGLE + "f 1 2 3\n", "canary.mtl', outside"),
        "backslash.obj": (TEXTURED.format("backslash"), "outside the mesh's folder"),
        "texture.ac": (AC + 'OBJECT poly\ntexture "../../outside/canary.png"\n' + AC_TRIANGLE.format(2), "outside"),
        "texture.ply": (
            TEXT_PLY.replace("element", "comment TextureFile ../../outside/canary.png\nelement", 1),
            "outside the mesh's folder",
        ),
        "texture.wrl": (WRL.format(2, WRL_TEXTURE.format("../../outside/canary.png")), "outside the mesh's folder"),
        "drive.obj": ("mtllib C:\\canary.mtl\n" + TRIANGLE + "f 1 2 3\n", r"refers to 'C:\\\\canary.mtl'"),
        "linked_texture.obj": (TEXTURED.format("linked_texture"), "canary_link.png: leads outside the folder"),
        "linked_folder.obj": (TEXTURED.format("linked_folder"), "canary.png: leads outside the folder"),
    },
    "network": {
        "buffer.gltf": (gltf(buffers__0__uri="http://127.0.0.1:9/a.bin"), "refers to 'http://127.0.0.1:9/a.bin'"),
        "image.gltf": (gltf(images=[{"uri": "ftp://127.0.0.1/a.png"}], **IMAGE), "refers to 'ftp://127.0.0.1/a.png'"),
        "https.obj": ("mtllib https://127.0.0.1/a.mtl\n" + TRIANGLE + "f 1 2 3\n", "refers to 'https://"),
        "file.gltf": (gltf(buffers__0__uri="file:{outside}/canary.bin"), "refers to 'file:"),
        "encoded.gltf": (gltf(buffers__0__uri="http%3A//127.0.0.1/a.bin"), "refers to 'http%3A"),
        "inline.wrl": ('#VRML V2.0 utf8\nInline { url "http://127.0.0.1/a.wrl" }', "includes"),
        "texture.ac": (AC + 'OBJECT poly\ntexture "http://127.0.0.1/a"\n' + AC_TRIANGLE.format(2), "refers to 'http"),
    },
    "not_a_mesh": {
        "text.glb": ("not a mesh", "not a glTF file"),
        "picture.stl": (png(), r"claims a header, holds \d+ bytes"),
        "zip.ply": (b"PK\x03\x04", "not a PLY file"),
        "text.off": ("FFO\n3 1 0\n", "not an OFF file"),
        "text.pmd": (b"DMSP", "not a .pmd mesh"),
        "next.pmd": (pmd(version=9), "version 9, not 4"),
        "text.ac": ("OBJECT world\n", "not an AC3D file"),
        "first.wrl": ("#VRML V1.0 ascii\nSeparator { }\n", "not a VRML97 file"),
        "bytes.gltf": (b'{"asset": "\xff\xfe"}', "not a glTF file"),
        "bytes.ply": (TEXT_PLY.encode().replace(b"element", b"comment \xff\nelement", 1), "a malformed PLY header"),
    },
    "special_files": {
        "pipe.obj": (TEXTURED.format("pipe"), "pipe.png: not a regular file"),
        "pipe.gltf": (gltf(buffers__0__uri="pipe.png"), "pipe.png: not a regular file"),
        "device.obj": (TEXTURED.format("device"), "endless.png: leads outside the folder"),
    },
    "recursion": {
        "cycle.gltf": (gltf(nodes=[{"children": [1]}, {"children": [0], "mesh": 0}]), "a node that holds itself"),
        "itself.gltf": (gltf(nodes=[{"children": [0], "mesh": 0}]), "a node that holds itself"),
        "chain.gltf": (
            gltf(nodes=[*({"children": [n + 1]} for n in range(3000)), {"mesh": 0}]),
            "nodes nested 3001 deep, more than 1000",
        ),
        "brackets.gltf": (BRACKETS, "not a glTF file"),
        "groups.wrl": ("#VRML V2.0 utf8\n" + "Group { children " * 500, "nodes nested too deeply"),
        "groups.ac": (AC + "OBJECT group\nkids 1\n" * 500, "objects nested more than 64 deep"),
    },
    "layout": {
        "stride.gltf": (gltf(bufferViews__0__byteStride=2**31), "an accessor that ends at byte 4294967308 of 36"),
        "overlap.gltf": (gltf(bufferViews__0__byteStride=4), "items of 12 bytes, 4 bytes apart"),
        "offset.gltf": (gltf(accessors__0__byteOffset=10**9), "an accessor that ends at byte 1000000036 of 36"),
        "backwards.gltf": (gltf(bufferViews__1__byteOffset=-12), "byteOffset is -12"),
        "view.gltf": (gltf(accessors__0__bufferView=9), "an accessor in buffer view 9 of 2"),
        "type.gltf": (gltf(accessors__0__type="VEC9"), "an accessor of type 'VEC9'"),
        "child.gltf": (gltf(nodes__0={"mesh": 0, "children": [5]}), "a node holds node 5 of 1"),
        "lists.gltf": (gltf(bufferViews=3), "a malformed 'bufferViews' list"),
        "uri.gltf": (gltf(images=[{"uri": "data:image/png;base64,!!!"}], **IMAGE), "a damaged data: URI"),
        "packed.gltf": (
            gltf(extensionsRequired=["KHR_draco_mesh_compression"]),
            "needs the extension KHR_draco_mesh_compression, which is not read",
        ),
    },
}
BESIDE = {
    "truncated/buffer.bin": bytes(20),
    "truncated/texture.mtl": "newmtl m\nmap_Kd texture.png\n",
    "truncated/texture.png": png(np.random.default_rng(0).integers(0, 255, (2000, 4)))[:500],
    "not_finite/uv.mtl": "newmtl m\nmap_Kd ../good/red.png\n",
    "degenerate/clear.mtl": "newmtl m\nmap_Kd clear.png\n",
    "degenerate/clear.png": png(((255, 255, 255, 0),)),
    "bombs/image.mtl": "newmtl m\nmap_Kd bomb.png\n",
    "bombs/bomb.png": image_bomb(),
    "bombs/program.mtl": "newmtl m\nmap_Kd program.eps\n",
    "bombs/program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\n",
    "paths/backslash.mtl": "newmtl m\nmap_Kd ..\\..\\outside\\canary.png\n",
    "paths/linked_texture.mtl": "newmtl m\nmap_Kd canary_link.png\n",
    "paths/linked_folder.mtl": "newmtl m\nmap_Kd canary_folder/canary.png\n",
    "special_files/pipe.mtl": "newmtl m\nmap_Kd pipe.png\n",
    "special_files/device.mtl": "newmtl m\nmap_Kd endless.png\n",
    "good/red.png": png(),
    "good/latin.mtl": "newmtl m\nKd 1 0 0\n",
}
GOOD = {
    "good/box.glb": box("glb"),
    "good/box.ply": box("ply"),
    "good/box.stl": box("stl"),
    "good/box.off": box("off"),
    "good/triangle.gltf": gltf(),
    "good/triangle.ac": AC + "OBJECT poly\n" + AC_TRIANGLE.format(2),
    "good/triangle.pmd": pmd(),
    "good/triangle.wrl": WRL.format(2, ""),
    "good/latin.obj": "# caf\xe9\nmtllib latin.mtl\n".encode("latin-1")
    + (TRIANGLE + "usemtl m\nf -3 -2 -1\n").encode(),
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_folder(root, outside):
    """Write the meshes and what lies beside them; links and pipes as well."""
    for cause, kinds in CORPUS.items():
        for name, (content, _) in kinds.items():
            if isinstance(content, str):
                content = content.replace("{outside}", str(outside))
            write(root / cause / name, content)
    for name, content in {**BESIDE, **GOOD}.items():
        write(root / name, content)
    for name in ("bin", "mtl", "obj"):
        write(outside / f"canary.{name}", b"newmtl m\nKd 1 0 1\n" if name == "mtl" else bytes(48))
    write(outside / "canary.png", png(((255, 0, 255, 255),)))
    (root / "paths/linked.obj").symlink_to(outside / "canary.obj")
    (root / "paths/canary_link.png").symlink_to(outside / "canary.png")
    (root / "paths/canary_folder").symlink_to(outside)
    (root / "special_files/endless.png").symlink_to("/dev/zero")
    os.mkfifo(root / "special_files/pipe.png")
    # What only looks like a mesh is not listed:
    os.mkfifo(root / "special_files/pipe.ply")
    (root / "special_files/endless.stl").symlink_to("/dev/zero")
    (root / "special_files/folder.obj").mkdir()
    (root / "special_files/nowhere.obj").symlink_to("nowhere")


# Members of a Sweet Home 3D archive, and the reasons.
PACKED = {
    "zeros.obj": ("# " + "0" * 5_000_000 + "\n" + TRIANGLE + "f 1 2 3\n", "5000035 bytes, more than 4000000"),
    "textures.obj": (
        "mtllib textures.mtl\n" + TRIANGLE + "vt 0 0\n" + "".join(f"usemtl {n}\nf 1/1 2/1 3/1\n" for n in range(4)),
        "bytes are unpacked for one object, more than 7000000",
    ),
    "liar.obj": (TRIANGLE + "f 1 2 3\n" + "#" * 900_000, "liar.obj: damaged"),
    "broken.obj": (TRIANGLE + "f 1 2 3\n" + "#" * 900, "broken.obj: damaged"),
    "../../outside/canary.obj": (None, "refers to '../../outside/canary.obj', outside"),
    "gone.obj": (None, "no such member"),
}


def write_archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        models = list(PACKED)
        archive.writestr(
            "PluginFurnitureCatalog.properties",
            "".join(f"name#{n}=thing {n}\nmodel#{n}={model}\n" for n, model in enumerate(models)),
        )
        for name, (content, _) in PACKED.items():
            if content is not None:
                archive.writestr(name, content)
        archive.writestr("textures.mtl", "".join(f"newmtl {n}\nmap_Kd {n}.bmp\n" for n in range(4)))
        bitmap = io.BytesIO()
        Image.new("RGB", (900, 900)).save(bitmap, "BMP")
        for number in range(4):
            archive.writestr(f"{number}.bmp", bitmap.getvalue())
        size, start = archive.getinfo("liar.obj").file_size, archive.getinfo("broken.obj").header_offset
    data = bytearray(path.read_bytes())
    # The directory says that one member is small, and a byte of another is changed.
    entry = data.rindex(b"liar.obj") - 46
    assert struct.unpack_from("<I", data, entry + 24) == (size,)
    struct.pack_into("<I", data, entry + 24, 40)
    data[start + 30 + len("broken.obj") + 5] ^= 0xFF
    path.write_bytes(data)


ACTOR = '<actor><group><variant frequency="1"><mesh>a.pmd</mesh>{0}</variant></group></actor>'
PROP = '<props><prop actor="{0}" attachpoint="root"/></props>'
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
# Animals of a 0 A.D. archive: what each holds, the XML of that, and the reason.
ACTORS = {
    "bear": ("props/laughs.xml", f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><actor>&l9;</actor>', "XML entities"),
    "deer": (
        "props/external.xml",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///{outside}/canary.obj">]><actor>&x;</actor>',
        "XML entities",
    ),
    "fox": ("props/hidden.xml", "<!DOC<!DOCTYPE a>TYPE b [<!ELEMENT c ANY>]><actor/>", "malformed document type"),
    "horse": ("props/loop.xml", ACTOR.format(PROP.format("props/loop.xml")), "props nested too deeply"),
    "pig": ("../../../outside/canary.xml", None, "outside the mesh's folder"),
    "whale": ("props/gone.xml", None, "no such member"),
    "zebra": ("props/open.xml", "<actor><group>", "not well-formed XML"),
}


def write_game(path, outside):
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("art/meshes/a.pmd", pmd())
        archive.writestr("art/actors/fauna/giraffe.xml", ACTOR.format(""))
        for animal, (prop, xml, _) in ACTORS.items():
            archive.writestr(f"art/actors/fauna/{animal}.xml", ACTOR.format(PROP.format(prop)))
            if xml is not None:
                archive.writestr(f"art/actors/{prop}", xml.replace("{outside}", str(outside)))


# In every process of the command: write down who opens what of the corpus' surroundings, and who goes online.
WATCH = """
import os, sys

log = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
watched = tuple(os.environ["WATCHED"].split(":"))

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith(watched):
            os.write(log, f"{os.getpid()} {path}\\n".encode(errors="replace"))
    elif event in ("socket.connect", "socket.getaddrinfo", "urllib.Request", "os.system", "subprocess.Popen"):
        os.write(log, f"{os.getpid()} {event} {arguments}\\n".encode(errors="replace"))

sys.addaudithook(watch)
"""


def expected(root):
    """Return the reason of every rejection by the object's id."""
    reasons = {
        f"folder/{root.name}/{cause}/{name}": reason
        for cause, kinds in CORPUS.items()
        for name, (_, reason) in kinds.items()
    }
    reasons[f"folder/{root.name}/paths/linked.obj"] = "linked.obj: outside"
    reasons |= {f"sweethome3d/packed/{n:03d}": reason for n, (_, reason) in enumerate(PACKED.values())}
    reasons |= {f"0ad/fauna/{animal}/plain": reason for animal, (_, _, reason) in ACTORS.items()}
    return reasons


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Render the whole corpus by the command in a process of its own; return the folder where all happened."""
    place = tmp_path_factory.mktemp("corpus")
    meshes, outside = place / "meshes", place / "outside"
    write_folder(meshes, outside)
    (place / "archives").mkdir()
    write_archive(place / "archives/packed.sh3f")
    write_game(place / "game/public.zip", outside)
    write(place / "watch/sitecustomize.py", WATCH)
    write(
        place / "recipe.yaml",
        "name: corpus\ndataset:\n  collections:\n"
        f"    - {{kind: folder, path: {meshes}}}\n    - {{kind: sweethome3d, path: {place / 'archives'}}}\n"
        f"    - {{kind: 0ad, path: {place / 'game'}}}\n"
        f"  cameras: {{views: 2}}\n  resolution: 16\n  limits: {LIMITS}\n",
    )
    for path in outside.iterdir():
        os.utime(path, (1e9, 1.5e9))  # read before written to: where times of access are kept, a reading shows
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(place / "watch"), str(Path(__file__).parents[2])]),
        "WATCH_LOG": str(place / "log"),
        "WATCHED": ":".join([str(outside), "/dev/zero", "/etc/passwd", str(meshes / "good/box.glb")]),
    }
    command = [sys.executable, "-m", "ln3d", "render-dataset", "recipe.yaml", "-w", "run", "--workers", "2"]
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout + result.stderr
    return place


def test_the_corpus_is_large_enough(tmp_path):
    names = [name for kinds in CORPUS.values() for name in kinds]
    assert len(names) >= 40
    assert len(CORPUS) >= 10
    assert len({Path(name).suffix for name in names}) >= 5


def test_every_broken_mesh_is_rejected_with_its_reason(rendered):
    shards = ShardSet(Workspace(rendered / "run").open("shards"))
    found = {rejection.source_id: rejection.reason for rejection in shards.rejected}
    wanted = expected(rendered / "meshes")
    assert found.keys() == wanted.keys()
    wrong = {name: found[name] for name in wanted if not re.search(wanted[name], found[name])}
    assert not wrong
    for reason in found.values():
        assert len(reason) <= 300 and reason.isprintable(), reason
        assert not re.match(r"\w*(Error|Exception|Warning): ", reason), reason


def test_the_good_meshes_beside_them_are_drawn(rendered):
    shards = ShardSet(Workspace(rendered / "run").open("shards", verify=True))
    drawn = {record.source_id for record in shards.objects}
    assert drawn == {*(f"folder/meshes/{name}" for name in GOOD), "0ad/fauna/giraffe/plain"}
    for record in shards.objects:
        assert all(shards.colour(record.index, view)[..., 3].any() for view in range(2))


def test_nothing_outside_is_touched_and_nothing_fetched(rendered):
    events = [line.split(" ", 1) for line in (rendered / "log").read_text().splitlines()]
    watched = {process for process, event in events if event.endswith("good/box.glb")}
    assert len(watched) >= 2  # the command itself and a worker: the watch works
    assert {event for _, event in events} == {str(rendered / "meshes/good/box.glb")}
    for path in (rendered / "outside").iterdir():
        assert path.stat().st_atime == 1e9, f"{path.name} was read"
        assert path.stat().st_mtime == 1.5e9
    assert sorted(path.name for path in rendered.iterdir()) == sorted(
        ["archives", "game", "log", "meshes", "outside", "recipe.yaml", "run", "watch"]
    )
