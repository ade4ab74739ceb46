import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from ln3d.errors import RecipeError
from ln3d.export.mesh import Mesh, to_linear, to_srgb, write_mesh


@pytest.fixture
def tetrahedron() -> Mesh:
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.7, 0], [0, 0, 0.9]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return Mesh(vertices, faces, np.array([[255, 0, 0], [10, 128, 64], [0, 255, 255], [1, 2, 3]], np.uint8))


def glb(path: Path) -> tuple[dict, bytes]:
    """Take a GLB apart by the letter of its specification."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON"
    tail = 20 + size
    assert struct.unpack_from("<4s", content, tail + 4) == (b"BIN\0",)
    return json.loads(content[20:tail]), content[tail + 8 :]


def accessor(document: dict, data: bytes, number: int) -> np.ndarray:
    entry = document["accessors"][number]
    view = document["bufferViews"][entry["bufferView"]]
    dtype = {5123: np.uint16, 5125: np.uint32, 5126: np.float32}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[entry["type"]]
    start = view["byteOffset"] + entry.get("byteOffset", 0)
    assert start % 4 == 0 and dtype().itemsize * width * entry["count"] <= view["byteLength"]
    return np.frombuffer(data, dtype, entry["count"] * width, start).reshape(-1, width)


def test_srgb_bytes_survive_linear_light_exactly() -> None:
    every = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(to_srgb(to_linear(every)), every)
    np.testing.assert_array_equal(to_srgb(np.rint(to_linear(every) * 65535) / 65535), every)  # as a GLB stores them
    assert to_linear(np.array([[188]], np.uint8)).item() == pytest.approx(0.5, abs=0.003)


def test_a_glb_holds_positions_normals_and_linear_colours(tetrahedron: Mesh, tmp_path: Path) -> None:
    write_mesh(tetrahedron, tmp_path / "x.glb")
    document, data = glb(tmp_path / "x.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    names = primitive["attributes"]
    np.testing.assert_array_equal(accessor(document, data, names["POSITION"]), tetrahedron.vertices)
    np.testing.assert_array_equal(accessor(document, data, primitive["indices"]).reshape(-1, 3), tetrahedron.faces)
    np.testing.assert_allclose(np.linalg.norm(accessor(document, data, names["NORMAL"]), axis=1), 1, rtol=1e-6)
    colours = accessor(document, data, names["COLOR_0"])
    assert document["accessors"][names["COLOR_0"]]["normalized"] is True
    assert (colours[:, 3] == 65535).all()
    np.testing.assert_array_equal(colours[1, :3], [199, 14146, 3360])  # 65535 * EOTF(10, 128, 64)
    np.testing.assert_array_equal(to_srgb(colours[:, :3] / 65535), tetrahedron.colours)


def test_a_glb_is_matt_and_seen_from_both_sides(tetrahedron: Mesh, tmp_path: Path) -> None:
    write_mesh(tetrahedron, tmp_path / "x.glb")
    document, _ = glb(tmp_path / "x.glb")
    material = document["materials"][document["meshes"][0]["primitives"][0]["material"]]
    assert material["pbrMetallicRoughness"] == {"roughnessFactor": 1.0, "metallicFactor": 0.0}
    assert material["doubleSided"] is True
    assert all("matrix" not in node and "rotation" not in node for node in document["nodes"])


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply", "GLB"])
def test_trimesh_reads_back_what_was_written(tetrahedron: Mesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    write_mesh(tetrahedron, path)
    scene = trimesh.load_scene(io.BytesIO(path.read_bytes()), file_type=suffix.lower(), process=False)
    (body,) = scene.geometry.values()
    np.testing.assert_allclose(body.vertices, tetrahedron.vertices, atol=1e-7)
    np.testing.assert_array_equal(body.faces, tetrahedron.faces)
    assert body.is_watertight and body.volume > 0
    if suffix.lower() != "glb":
        np.testing.assert_array_equal(body.visual.vertex_colors[:, :3], tetrahedron.colours)


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_a_mesh_without_colours_can_be_written(tetrahedron: Mesh, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"x.{suffix}"
    write_mesh(Mesh(tetrahedron.vertices, tetrahedron.faces), path)
    assert len(trimesh.load(path, process=False, force="mesh").faces) == 4


def test_equal_meshes_give_equal_bytes(tetrahedron: Mesh, tmp_path: Path) -> None:
    for suffix in ("glb", "obj", "ply"):
        paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for path in paths:
            write_mesh(tetrahedron, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tetrahedron: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ply"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mesh(tetrahedron, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_suffix_is_refused_with_those_that_work(tetrahedron: Mesh, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"x\.stl") as caught:
        write_mesh(tetrahedron, tmp_path / "x.stl")
    assert ".glb, .obj, .ply" in caught.value.hint
    assert not list(tmp_path.iterdir())
