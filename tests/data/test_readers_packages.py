"""AC3D, 0 A.D. meshes and their XML: tiny files with known geometry, and damaged ones."""

import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from ln3d.config.render import LimitsConfig
from ln3d.data.readers import ac3d, pmd
from ln3d.data.readers.markup import parse_xml
from ln3d.data.readers.mesh import read_scene
from ln3d.data.readers.sources import FolderSource, ZipSource, joined
from ln3d.data.readers.textures import has_gradual_alpha
from ln3d.errors import MeshError

LIMITS = LimitsConfig()
SQUARE = "numvert 4\n0 0 0\n1 0 0\n1 1 0\n0 1 0\nnumsurf 1\nSURF 0x0\nmat {mat}\nrefs 4\n0 0 0\n1 1 0\n2 1 1\n3 0 1\n"
AC = (
    'AC3Db\nMATERIAL "red paint" rgb 1 0 0 amb 1 1 1 emis 0 0 0 spec 0 0 0 shi 1 trans 0\n'
    'MATERIAL "glass" rgb 1 1 1 amb 1 1 1 emis 0 0 0 spec 0 0 0 shi 1 trans 0.9\n'
    "OBJECT world\nkids 3\n"
    'OBJECT poly\nname "body"\ndata 7\nkids  9\nloc 0 0 5\n' + SQUARE.format(mat=0) + "kids 0\n"
    'OBJECT poly\nname "window"\n' + SQUARE.format(mat=1) + "kids 0\n"
    'OBJECT group\nname "lights"\nloc 100 0 0\nkids 1\n'
    'OBJECT poly\nname "lamp"\n' + SQUARE.format(mat=0) + "kids 0\n"
)
BODY = AC[: AC.index('OBJECT poly\nname "window"')]


def test_ac3d_objects_materials_and_places(tmp_path):
    (tmp_path / "a.ac").write_text(AC)
    (part,) = read_scene(tmp_path / "a.ac", LIMITS).parts  # the glass is left out
    np.testing.assert_allclose(part.base_colour, [1, 0, 0, 1])
    places = part.vertices[part.faces].reshape(-1, 3)
    assert len(places) == 12  # the body's two triangles and the lamp's
    assert set(places[:, 2].tolist()) == {0, 5} and places[:, 0].max() == 101


def test_ac3d_skips_named_objects_with_their_kids(tmp_path):
    (tmp_path / "a.ac").write_text(AC)
    options = ac3d.Options(skip=re.compile("light"))
    (part,) = ac3d.read(FolderSource(tmp_path, LIMITS), "a.ac", LIMITS, options).parts
    assert part.vertices[:, 0].max() == 1


def test_ac3d_rotation_is_of_row_vectors(tmp_path):
    turned = BODY.replace("loc 0 0 5\n", "rot 0 1 0 -1 0 0 0 0 1\n")
    (tmp_path / "a.ac").write_text(turned)
    (part,) = read_scene(tmp_path / "a.ac", LIMITS).parts
    assert part.vertices[:, 0].min() == -1 and part.vertices[:, 1].max() == 1  # x became y, y became -x


def test_ac3d_texture_repeat_strip_and_lines(tmp_path):
    Image.new("RGBA", (4, 4), (9, 8, 7, 255)).save(tmp_path / "t.png")
    body = (
        'AC3Db\nMATERIAL "" rgb 1 1 1 amb 1 1 1 trans 0\nOBJECT world\nkids 1\nOBJECT poly\n'
        'texture "t.png"\ntexture "other.png" tiled\ntexrep 2 3\ntexoff 0.5 0\nnumvert 4\n0 0 0\n1 0 0\n0 1 0\n1 1 0\n'
        "numsurf 2\nSURF 0x14\nmat 0\nrefs 4\n0 0 0\n1 1 0\n2 0 1\n3 1 1\n"
        "SURF 0x22\nmat 0\nrefs 2\n0 0 0\n1 1 0\nkids 0\n"
    )
    (tmp_path / "a.acc").write_text(body)
    (part,) = read_scene(tmp_path / "a.acc", LIMITS).parts
    assert len(part.faces) == 2 and part.texture[0, 0].tolist() == [9, 8, 7, 255]
    np.testing.assert_allclose([part.uv.min(axis=0), part.uv.max(axis=0)], [[0.5, 0], [2.5, 3]])


def test_ac3d_alpha_is_gloss_or_holes(tmp_path):
    gloss = np.zeros((8, 8, 4), np.uint8)
    gloss[..., 3] = 100
    holes = np.full((8, 8, 4), 255, np.uint8)
    holes[:4, :, 3] = 0
    assert has_gradual_alpha(gloss) and not has_gradual_alpha(holes)
    textured = BODY.replace('name "body"\n', 'name "body"\ntexture "t.png"\n')
    (tmp_path / "a.ac").write_text(textured)
    for pixels, cutout in ((gloss, False), (holes, True)):
        Image.fromarray(pixels).save(tmp_path / "t.png")
        (part,) = read_scene(tmp_path / "a.ac", LIMITS).parts
        assert part.cutout == cutout
    (part,) = ac3d.read(FolderSource(tmp_path, LIMITS), "a.ac", LIMITS, ac3d.Options(opaque=True)).parts
    assert not part.cutout


def test_ac3d_reads_sgi_textures(tmp_path):
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "t.rgb", "SGI")
    (tmp_path / "a.ac").write_text(BODY.replace('name "body"\n', 'name "body"\ntexture "t.rgb"\n'))
    (part,) = read_scene(tmp_path / "a.ac", LIMITS).parts
    assert part.texture[0, 0].tolist() == [200, 100, 50, 255]


def test_ac3d_textures_stay_inside(tmp_path):
    (tmp_path / "a.ac").write_text(AC.replace('name "body"\n', 'name "body"\ntexture "../t.png"\n'))
    with pytest.raises(MeshError, match="outside"):
        read_scene(tmp_path / "a.ac", LIMITS)


@pytest.mark.parametrize("cut", [60, 200, 290, 330])
def test_ac3d_truncated_inside_an_object(tmp_path, cut):
    (tmp_path / "a.ac").write_text(AC[:cut])
    with pytest.raises(MeshError):
        read_scene(tmp_path / "a.ac", LIMITS)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("refs 4", "refs x", "invalid literal"),
        ("refs 4", "refs 400", "claims 400 corners, holds"),
        ("numvert 4", "numvert 400", "claims 400 vertices, holds"),
        ("3 0 1\n", "9 0 1\n", "vertex 9 of 4"),
        ("3 0 1\n", "-1 0 1\n", "vertex -1 of 4"),
        ("3 0 1\n", f"{10**400} 0 1\n", "damaged"),
    ],
)
def test_ac3d_damaged(tmp_path, old, new, message):
    (tmp_path / "a.ac").write_text(AC.replace(old, new))
    with pytest.raises(MeshError, match=message):
        read_scene(tmp_path / "a.ac", LIMITS)


def pmd_bytes(bone=255):
    """Return a .pmd of one triangle with a bone moved by 10 along x, and a prop point 1 above it."""
    vertex = b"".join(
        struct.pack("<3f3f2f4B4f", x, y, 0, 0, 0, 1, x, y, 0, 255, 255, 255, 1, 0, 0, 0)
        for x, y in ((0, 0), (1, 0), (0, 1))
    )
    body = struct.pack("<2I", 3, 1) + vertex + struct.pack("<I3H", 1, 0, 1, 2)
    body += struct.pack("<I7f", 1, 10, 0, 0, 0, 0, 0, 1)
    body += struct.pack("<II4s3f4fB", 1, 4, b"sail", 0, 1, 0, 0, 0, 0, 1, bone)
    return b"PSMD" + struct.pack("<2I", 4, len(body)) + body


def test_pmd_fields():
    mesh = pmd.parse(pmd_bytes(), "a.pmd")
    np.testing.assert_allclose(mesh.vertices, [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(mesh.uv, mesh.vertices[:, :2])
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.props["sail"].translation == (0, 1, 0) and mesh.bones[0, 0] == 10


def test_every_truncation_of_a_pmd_is_noticed():
    data = pmd_bytes()
    for length in range(len(data)):
        with pytest.raises(MeshError):
            pmd.parse(data[:length], "a.pmd")


def test_pmd_file_as_a_scene(tmp_path):
    (tmp_path / "a.pmd").write_bytes(pmd_bytes())
    assert read_scene(tmp_path / "a.pmd", LIMITS).face_count == 1


def test_xml_document_types_are_dropped():
    outside = '<!DOCTYPE a SYSTEM "../../x.dtd"><a t="1 &amp; 2">3&unknown;4</a>'
    root = parse_xml(outside.encode(), "a.xml")
    assert (root.get("t"), root.text) == ("1 & 2", "34")
    with pytest.raises(MeshError, match="a.xml"):
        parse_xml(b"<a>", "a.xml")


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "boom"><!ENTITY y "&x;&x;">]><a>&y;</a>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://a.example/b">%x;]><a/>',
        '<!DOC<!DOCTYPE c>TYPE a [<!ENT<!DOCTYPE c>ITY x "boom">]><a>&x;</a>',
        '<!DOCTYPE a [<!&b;ENTITY x "boom">]><!DOC&b;TYPE c><a>&x;</a>',
    ],
)
def test_xml_entities_are_refused(text):
    with pytest.raises(MeshError, match="XML entities|malformed document type"):
        parse_xml(text.encode(), "a.xml")


@pytest.mark.parametrize(
    "reference", ["../a", "b/../../a", "/a", "\\a", "c:/a", "http://h/a", "file:a", "a\0b", "%2e%2e/a"]
)
def test_references_that_leave(reference):
    with pytest.raises(MeshError):
        joined("folder/..", reference, "x")


def test_references_that_stay():
    assert joined("models", "../textures/a%20b.png", "x") == "textures/a b.png"
    assert joined("", "a\\b.png", "x") == "a/b.png"


def test_zip_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f/a.obj", "v 0 0 0\n" * 1000)
    source = ZipSource(tmp_path / "a.zip", LimitsConfig(file_bytes=9000))
    assert source.has("f/a.obj") and not source.has("f") and len(source.read("f/../f/a.obj")) == 8000
    with pytest.raises(MeshError, match="no such member"):
        source.read("b")
    with pytest.raises(MeshError, match="8000 bytes"):
        ZipSource(tmp_path / "a.zip", LimitsConfig(file_bytes=7999)).read("f/a.obj")


def test_what_one_object_may_unpack(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", "v 0 0 0\n" * 1000)
    source = ZipSource(tmp_path / "a.zip", LimitsConfig(archive_bytes=20_000))
    assert len(source.read("a.obj")) + len(source.read("a.obj")) == 16000
    with pytest.raises(MeshError, match="24000 bytes are unpacked for one object, more than 20000"):
        source.read("a.obj")
    assert len(ZipSource(source.path, source.limits).read("a.obj")) == 8000


def test_a_member_that_inflates_to_more_than_it_says_is_not_inflated(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", bytes(50_000_000))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    struct.pack_into("<I", data, data.rindex(b"a.obj") - 46 + 24, 100)
    (tmp_path / "a.zip").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(MeshError, match="damaged"):
        ZipSource(tmp_path / "a.zip", LIMITS).read("a.obj")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_damaged_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.obj", "v 0 0 0\n" * 100)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[100] ^= 0xFF
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(MeshError, match="damaged"):
        ZipSource(tmp_path / "b.zip", LIMITS).read("a.obj")
    (tmp_path / "c.zip").write_bytes(data[:50])
    with pytest.raises(MeshError, match="not a readable zip"):
        ZipSource(tmp_path / "c.zip", LIMITS).read("a.obj")
