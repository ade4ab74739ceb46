"""The common formats: geometry and colour come through exactly, and damage or mischief is a MeshError."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.general import linear_to_srgb
from ln3d.data.readers.mesh import normalised, read_scene
from ln3d.errors import MeshError
from ln3d.export.mesh import Mesh, write_mesh

LIMITS = LimitsConfig()
OBJ = "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 2 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"


def png(size=(2, 2), colour=(255, 0, 0, 255)):
    buffer = io.BytesIO()
    Image.new("RGBA", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def gltf(tmp_path, *, uri=None, image_uri=None, material=None, indices=(0, 1, 2), points=None):
    """Write a one-triangle .gltf with its buffer beside it."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]] if points is None else points, "<f4")
    uv = np.array([[0, 0], [1, 0], [0, 1]], "<f4")
    blob = points.tobytes() + uv.tobytes() + np.array(indices, "<u4").tobytes()
    (tmp_path / "data.bin").write_bytes(blob)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [10, 0, 0]}],
        "buffers": [{"uri": uri or "data.bin", "byteLength": len(blob)}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 24},
            {"buffer": 0, "byteOffset": 60, "byteLength": 12},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0] * 3, "max": [1] * 3},
            {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
        "meshes": [
            {"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]},
        ],
        "materials": [material or {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.2, 0.0, 1]}}],
    }
    if image_uri:
        document["images"] = [{"uri": image_uri}]
        document["textures"] = [{"source": 0}]
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(document))
    return path


TEXTURED = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl", "off"])
def test_every_format_gives_the_same_triangles(tmp_path, suffix):
    box = trimesh.creation.box((1, 2, 3)).apply_translation((5, 0, 0))
    box.export(tmp_path / f"box.{suffix}")
    scene = read_scene(tmp_path / f"box.{suffix}", LIMITS)
    assert scene.face_count == 12
    np.testing.assert_allclose(scene.bounds, [[4.5, -1, -1.5], [5.5, 1, 1.5]], atol=1e-5)
    triangles = np.concatenate([part.vertices[part.faces] for part in scene.parts])
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1) / 2
    assert area.sum() == pytest.approx(22, rel=1e-5)


def test_normalised_sphere_around_the_bounding_box(tmp_path):
    trimesh.creation.box((1, 2, 3)).apply_translation((50, 0, -7)).export(tmp_path / "box.ply")
    low, high = normalised(read_scene(tmp_path / "box.ply", LIMITS)).bounds
    np.testing.assert_allclose(low, -high, atol=1e-5)
    assert np.linalg.norm(high) == pytest.approx(0.9, abs=1e-5)


def test_normalised_refuses_a_point(tmp_path):
    (tmp_path / "a.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    with pytest.raises(MeshError, match="no extent"):
        normalised(read_scene(tmp_path / "a.obj", LIMITS))


def test_obj_material_and_texture(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 0.2 0.4 0.6\n")
    (part,) = read_scene(tmp_path / "a.obj", LIMITS).parts
    np.testing.assert_allclose(part.base_colour, [0.2, 0.4, 0.6, 1], atol=1 / 255)
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 0 0 0\nmap_Kd -s 1 1 1 t.png\n")
    (tmp_path / "t.png").write_bytes(png(colour=(10, 20, 30, 255)))
    (part,) = read_scene(tmp_path / "a.obj", LIMITS).parts
    assert part.texture.shape == (2, 2, 4) and (part.texture == (10, 20, 30, 255)).all()
    np.testing.assert_array_equal(part.base_colour, 1)  # exporters write any Kd beside a texture
    assert not part.cutout
    by_place = {tuple(v): tuple(t) for v, t in zip(part.vertices.tolist(), part.uv.tolist(), strict=True)}
    assert by_place == {(0, 0, 0): (0, 0), (1, 0, 0): (1, 0), (0, 2, 0): (0, 1)}


def test_missing_texture_leaves_the_colour(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0 0\nmap_Kd gone.png\n")
    (part,) = read_scene(tmp_path / "a.obj", LIMITS).parts
    assert part.texture is None
    np.testing.assert_allclose(part.base_colour, [1, 0, 0, 1])


def test_invisible_material_is_left_out(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ + "usemtl glass\nf 1 3 2\n")
    (tmp_path / "a.mtl").write_text("newmtl m\nKd 1 0 0\nnewmtl glass\nKd 0 0 1\nd 0.05\n")
    assert read_scene(tmp_path / "a.obj", LIMITS).face_count == 1


def test_gltf_factor_is_linear_and_nodes_move(tmp_path):
    (part,) = read_scene(gltf(tmp_path), LIMITS).parts
    np.testing.assert_allclose(part.base_colour, [0.7354, 0.4845, 0, 1], atol=0.005)
    assert part.vertices[:, 0].min() == 10


def test_srgb_curve():
    np.testing.assert_allclose(linear_to_srgb(np.array([0, 0.002, 0.21404, 1, 2])), [0, 0.02584, 0.5, 1, 1], atol=1e-4)


def test_gltf_texture_is_not_upside_down(tmp_path):
    image = np.zeros((2, 1, 3), np.uint8)
    image[0] = 255  # white above black; glTF's v points down
    Image.fromarray(image).save(tmp_path / "t.png")
    (part,) = read_scene(gltf(tmp_path, image_uri="t.png", material=TEXTURED), LIMITS).parts
    top = part.vertices[:, 1].argmin()  # this vertex has glTF v = 0: the image's top row
    row = int((1 - part.uv[top, 1]) * 2 * 0.999)
    assert part.texture[row, 0, 0] == 255


@pytest.mark.parametrize("mode, cutout", [("OPAQUE", False), ("MASK", True), ("BLEND", True)])
def test_gltf_alpha_modes(tmp_path, mode, cutout):
    (tmp_path / "t.png").write_bytes(png(colour=(1, 2, 3, 100)))
    material = {**TEXTURED, "alphaMode": mode}
    (part,) = read_scene(gltf(tmp_path, image_uri="t.png", material=material), LIMITS).parts
    assert part.cutout == cutout


def test_gltf_alpha_cutoff_is_moved_to_one_half(tmp_path):
    (tmp_path / "t.png").write_bytes(png(colour=(1, 2, 3, 100)))
    material = {**TEXTURED, "alphaMode": "MASK", "alphaCutoff": 0.2}
    (part,) = read_scene(gltf(tmp_path, image_uri="t.png", material=material), LIMITS).parts
    assert (part.texture[..., 3] == 255).all()


@pytest.mark.parametrize(
    "uri", ["../outside.bin", "/etc/hostname", "http://localhost/a.bin", "file:///etc/hostname", "a/../../outside.bin"]
)
def test_gltf_references_stay_inside(tmp_path, uri):
    (tmp_path / "outside.bin").write_bytes(bytes(72))
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(MeshError, match="refers to"):
        read_scene(gltf(folder, uri=uri), LIMITS)
    with pytest.raises(MeshError, match="refers to"):
        read_scene(gltf(folder, image_uri=uri, material=TEXTURED), LIMITS)


@pytest.mark.parametrize("reference", ["../t.png", "/etc/t.png", "https://example.org/t.png", "C:\\t.png", "..\\t.png"])
def test_obj_references_stay_inside(tmp_path, reference):
    (tmp_path / "t.png").write_bytes(png())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.obj").write_text(OBJ)
    (folder / "a.mtl").write_text(f"newmtl m\nmap_Kd {reference}\n")
    with pytest.raises(MeshError, match="refers to"):
        read_scene(folder / "a.obj", LIMITS)
    (folder / "a.obj").write_text(OBJ.replace("a.mtl", reference.replace("png", "mtl")))
    with pytest.raises(MeshError, match="refers to"):
        read_scene(folder / "a.obj", LIMITS)


def test_root_widens_the_folder(tmp_path):
    (tmp_path / "t.png").write_bytes(png())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.obj").write_text(OBJ)
    (folder / "a.mtl").write_text("newmtl m\nmap_Kd ../t.png\n")
    (part,) = read_scene(folder / "a.obj", LIMITS, root=tmp_path).parts
    assert part.texture is not None


def test_links_that_lead_out_are_refused(tmp_path):
    (tmp_path / "t.png").write_bytes(png())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "t.png").symlink_to(tmp_path / "t.png")
    (folder / "a.obj").write_text(OBJ)
    (folder / "a.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    with pytest.raises(MeshError, match="leads outside"):
        read_scene(folder / "a.obj", LIMITS)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.obj", b"", "no triangles|cannot be parsed"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", "no triangles|cannot be parsed"),
        ("a.obj", b"v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", "not finite|cannot be parsed"),
        ("a.obj", b"v 0 0 0\nv 1e39 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "vertex|cannot be parsed|damaged"),
        ("a.stl", b"solid", "claims a solid, holds no endsolid"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 3\n", "claims a header, holds no end_header"),
        ("a.glb", b"glTF\x02\0\0\0\xff\xff\0\0", "truncated"),
        ("a.glb", b"not a mesh", "not a glTF"),
        ("a.gltf", b'{"asset": {"version": "2.0"}, "buffers": 3}', "malformed|cannot be parsed"),
        ("a.ac", b"OBJECT world\n", "not an AC3D"),
        ("a.pmd", b"PSMD", "truncated"),
        ("a.step", b"x", "cannot read .step"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=message) as caught:
        read_scene(tmp_path / name, LIMITS)
    assert name in caught.value.message


def test_missing_file(tmp_path):
    with pytest.raises(MeshError, match="cannot be read"):
        read_scene(tmp_path / "gone.obj", LIMITS)


@pytest.mark.parametrize("suffix", ["glb", "stl", "ply"])
def test_every_truncation_of_a_binary_file_is_noticed(tmp_path, suffix):
    data = trimesh.creation.box().export(file_type=suffix)
    for keep in (0.2, 0.5, 0.9, 0.99):
        (tmp_path / f"a.{suffix}").write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(MeshError):
            read_scene(tmp_path / f"a.{suffix}", LIMITS)


def test_gltf_indices_out_of_range(tmp_path):
    with pytest.raises(MeshError):
        read_scene(gltf(tmp_path, indices=(0, 1, 7)), LIMITS)


def test_caps(tmp_path):
    trimesh.creation.box().export(tmp_path / "box.ply")
    with pytest.raises(MeshError, match="12 triangles"):
        read_scene(tmp_path / "box.ply", LimitsConfig(faces=11))
    with pytest.raises(MeshError, match="8 vertices"):
        read_scene(tmp_path / "box.ply", LimitsConfig(vertices=7))
    assert read_scene(tmp_path / "box.ply", LimitsConfig(faces=12, vertices=8)).face_count == 12
    with pytest.raises(MeshError, match="bytes"):
        read_scene(tmp_path / "box.ply", LimitsConfig(file_bytes=10))


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "stl", "off"])
def test_the_caps_hold_in_every_format(tmp_path, suffix):
    trimesh.creation.box().export(tmp_path / f"box.{suffix}")
    with pytest.raises(MeshError, match="claims 12 triangles, more than 11"):
        read_scene(tmp_path / f"box.{suffix}", LimitsConfig(faces=11))
    with pytest.raises(MeshError, match=r"claims \d+ vertices, more than 7"):
        read_scene(tmp_path / f"box.{suffix}", LimitsConfig(vertices=7))


def test_a_mesh_of_lines_has_no_area(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 1.7 0.3\nv 2 3.4 0.6\nv 0 0 1e-5\nf 1 2 3\n")
    with pytest.raises(MeshError, match="no area"):
        normalised(read_scene(tmp_path / "a.obj", LIMITS))
    with (tmp_path / "a.obj").open("a") as file:
        file.write("f 1 2 4\n")
    assert normalised(read_scene(tmp_path / "a.obj", LIMITS)).face_count == 2


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_text_in_any_encoding(tmp_path, encoding):
    (tmp_path / "a.obj").write_bytes(OBJ.replace("usemtl m", "usemtl brûlé").encode(encoding))
    (tmp_path / "a.mtl").write_bytes("newmtl brûlé\nKd 0.2 0.4 0.6\n".encode(encoding))
    (part,) = read_scene(tmp_path / "a.obj", LIMITS).parts
    np.testing.assert_allclose(part.base_colour, [0.2, 0.4, 0.6, 1], atol=1 / 255)


def bomb():
    """A PNG of a few bytes whose header declares 60000 x 60000 pixels."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_image_bombs_beside_the_mesh(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    (tmp_path / "t.png").write_bytes(bomb())
    with pytest.raises(MeshError, match="60000 x 60000"):
        read_scene(tmp_path / "a.obj", LIMITS)


def test_image_bombs_inside_the_mesh(tmp_path):
    uri = "data:image/png;base64," + base64.b64encode(bomb()).decode()
    with pytest.raises(MeshError, match="60000 x 60000"):
        read_scene(gltf(tmp_path, image_uri=uri, material=TEXTURED), LIMITS)


def test_damaged_texture(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "t.png")
    data = (tmp_path / "t.png").read_bytes()
    (tmp_path / "t.png").write_bytes(data[:500])
    with pytest.raises(MeshError, match="texture"):
        read_scene(tmp_path / "a.obj", LIMITS)


def test_vertex_and_face_colours(tmp_path):
    box = trimesh.creation.box()
    box.visual.face_colors = np.tile([[255, 0, 0, 255], [0, 0, 255, 255]], (6, 1)).astype(np.uint8)
    box.export(tmp_path / "box.ply")
    (part,) = read_scene(tmp_path / "box.ply", LIMITS).parts
    corner = part.colours[part.faces]
    assert (corner[:, 0] == corner[:, 1]).all() and (corner[:, 0] == corner[:, 2]).all()
    assert set(map(tuple, corner[:, 0].tolist())) == {(1, 0, 0, 1), (0, 0, 1, 1)}


def test_trimesh_stays_silent(tmp_path, capfd):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd gone.png\nKd one two three\n")
    read_scene(tmp_path / "a.obj", LIMITS)
    assert capfd.readouterr() == ("", "")


def test_a_written_glb_reads_back_with_its_vertex_colours(tmp_path: Path) -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    colours = np.array([[213, 170, 59], [10, 20, 30], [255, 0, 0], [0, 128, 255]], dtype=np.uint8)
    write_mesh(Mesh(vertices, faces, colours), tmp_path / "mesh.glb")
    (part,) = read_scene(tmp_path / "mesh.glb", LimitsConfig()).parts
    np.testing.assert_allclose(part.colours[:, :3] * 255, colours, atol=0.05)
