"""A corpus of broken and hostile meshes, by cause, and whole ones beside them; none of it is stored."""

import os

import numpy as np
from mesh_bytes import (
    AC,
    AC_TRIANGLE,
    CLAIMED,
    FLAT,
    IMAGE,
    PLY,
    TEXT_PLY,
    TEXTURED,
    TRIANGLE,
    WRL,
    WRL_TEXTURE,
    binary_ply,
    box,
    data_uri,
    facet,
    glb,
    gltf,
    image_bomb,
    pmd,
    png,
    stl,
)

BRACKETS = '{"asset": {"version": "2.0"}, "nodes": ' + "[" * 200_000
MANY_SOLIDS = "solid\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendsolid\n" * 45_000

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
