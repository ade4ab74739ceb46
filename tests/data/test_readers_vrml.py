"""VRML97 files: groups and transforms, colours of materials, vertices and faces, textures, and what is refused."""

import time

import numpy as np
import pytest
from PIL import Image

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.collections.kicad import part_words
from ln3d.data.readers.mesh import read_scene
from ln3d.errors import MeshError, RecipeError

LIMITS = LimitsConfig()
SQUARE = "coordIndex [0,1,2,3,-1] coord Coordinate { point [0 0 0, 2 0 0, 2 2 0, 0 2 0] }"


def shape(geometry=SQUARE, look="material Material { diffuseColor 1 0 0 }"):
    return f"Shape {{ geometry IndexedFaceSet {{ {geometry} }} appearance Appearance {{ {look} }} }}"


def scene_of(tmp_path, text, head="#VRML V2.0 utf8\n", limits=LIMITS):
    (tmp_path / "a.wrl").write_text(head + text)
    return read_scene(tmp_path / "a.wrl", limits)


def test_polygons_become_fans_in_the_materials_colour(tmp_path):
    (part,) = scene_of(tmp_path, "# a comment, with [ and {\n" + shape()).parts
    assert part.faces.tolist() == [[0, 1, 2], [0, 2, 3]] and part.base_colour.tolist() == [1, 0, 0, 1]
    assert part.vertices.tolist() == [[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]


def test_the_last_face_needs_no_end_mark_and_lines_are_no_faces(tmp_path):
    text = SQUARE.replace("[0,1,2,3,-1]", "[0 1 -1 # a line\n -1 3 2 1]")
    assert scene_of(tmp_path, shape(text)).parts[0].faces.tolist() == [[3, 2, 1]]


def test_transforms_follow_the_standards_order(tmp_path):
    turned = "rotation 0 0 1 1.5707963 scale 2 1 1 translation 5 0 0 center 1 0 0"
    text = f"Transform {{ {turned} children [ Group {{ children {shape()} }} ] }}"
    (part,) = scene_of(tmp_path, text).parts
    # about (1, 0, 0): stretched along x, then a quarter turn about z, then moved
    expected = [[5 + 1 - y, 0 + 2 * (x - 1), z] for x, y, z in ([0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0])]
    np.testing.assert_allclose(part.vertices, expected, atol=1e-5)


def test_named_materials_serve_again_and_clear_ones_are_left_out(tmp_path):
    pins = "Shape { appearance Appearance { material DEF PIN-01 Material { diffuseColor 0.1 0.2 0.3 } } }"
    glass = shape(look="material Material { transparency 0.9 }")
    (part,) = scene_of(tmp_path, pins + shape(look="material USE PIN-01") + glass).parts
    np.testing.assert_allclose(part.base_colour, [0.1, 0.2, 0.3, 1])


@pytest.mark.parametrize(
    "extra, corners",
    [
        ("colorPerVertex FALSE color Color { color [1 0 0, 0 1 0] }", [0, 0, 0, 1, 1, 1]),
        ("colorPerVertex FALSE colorIndex [1 0] color Color { color [1 0 0, 0 1 0] }", [1, 1, 1, 0, 0, 0]),
        ("color Color { color [1 0 0, 0 1 0, 0 0 1, 1 1 1] }", [0, 1, 2, 2, 3, 0]),
        ("colorIndex [3 3 3 -1 2 1 0] color Color { color [1 0 0, 0 1 0, 0 0 1, 1 1 1] }", [3, 3, 3, 2, 1, 0]),
    ],
)
def test_colours_of_faces_and_vertices(tmp_path, extra, corners):
    text = SQUARE.replace("[0,1,2,3,-1]", "[0 1 2 -1 2 3 0 -1]")
    (part,) = scene_of(tmp_path, shape(f"{text} {extra}")).parts
    palette = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])
    np.testing.assert_array_equal(part.colours[part.faces.reshape(-1)], palette[corners])


def test_textures_beside_the_file(tmp_path):
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "t.png")
    points = "texCoord TextureCoordinate { point [0 0, 1 0, 1 1, 0 1] }"
    look = 'texture ImageTexture { url ["t.png"] }'
    (part,) = scene_of(tmp_path, shape(f"{SQUARE} {points}", look)).parts
    assert part.texture[0, 0, :3].tolist() == [9, 8, 7]
    np.testing.assert_array_equal(part.uv, [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]])


def test_the_first_level_of_detail_and_the_chosen_switch(tmp_path):
    other = shape(SQUARE.replace("2 2 0", "7 7 0"))
    assert scene_of(tmp_path, f"LOD {{ range [5] level [{shape()} {other}] }}").parts[0].vertices.max() == 2
    assert scene_of(tmp_path, f"Switch {{ whichChoice 1 choice [{shape()} {other}] }}").parts[0].vertices.max() == 7


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no triangles"),
        ("Shape {", "cut short|without a value"),
        (shape()[:60], "cut short|without a value|place of"),
        ("Shape { geometry }", "without a value"),
        ("Shape [ ]", "in place of '{'"),
        ('Inline { url "http://x/y.wrl" }', "includes"),
        ("PROTO Chair [ ] { }", "prototypes"),
        (shape(look="material USE NONE"), "not defined"),
        (shape(SQUARE.replace("0,1,2,3", "0,1,9,3")), "vertex 9 of 4"),
        (shape(SQUARE.replace("0,1,2,3", "0,1,-7,3")), "refers to vertex"),
        (shape(SQUARE.replace("2 2 0", "nan 2 0")), "in place of|not finite"),
        (shape(SQUARE.replace("2 2 0", "1e999 2 0")), "not finite"),
        (shape(SQUARE.replace("2 2 0", "2 2")), "no rows of 3"),
        (shape(SQUARE.replace("0,1,2,3", "0,1,2e,3")), "a word among numbers"),
        (shape(f"{SQUARE} colorIndex [0] color Color {{ color [1 1 1] }}"), "too short"),
        (
            shape(f"{SQUARE} texCoord TextureCoordinate {{ point [] }}", 'texture ImageTexture { url "../t.png" }'),
            "outside",
        ),
        ("Group { children " * 100 + shape() + "}" * 100, "nested too deeply"),
        ('WorldInfo { title "no end', "cut short|without a value"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    with pytest.raises(MeshError, match=message):
        scene_of(tmp_path, text)


def test_vrml_1_and_too_many_triangles(tmp_path):
    with pytest.raises(MeshError, match="not a VRML97 file"):
        scene_of(tmp_path, shape(), head="#VRML V1.0 ascii\n")
    with pytest.raises(MeshError, match="claims 2 triangles, more than 1"):
        scene_of(tmp_path, shape(), limits=LimitsConfig(faces=1))


def test_names_used_in_names_do_not_multiply_for_ever(tmp_path):
    text = f"DEF A0 {shape()}" + "".join(
        f"DEF A{n} Group {{ children [ USE A{n - 1} USE A{n - 1} ] }}" for n in range(1, 40)
    )
    began = time.process_time()
    with pytest.raises(MeshError, match="more than 200000 nodes|more than 1000000"):
        scene_of(tmp_path, text)
    assert time.process_time() - began < 30


@pytest.mark.parametrize("noise", ["#,,,," * 5000, ", # \t" * 5000, "[" * 5000, '"\\' * 5000])
def test_no_text_makes_the_reader_go_back_and_forth(tmp_path, noise):
    began = time.process_time()
    with pytest.raises(MeshError):
        scene_of(tmp_path, "Shape { geometry " + noise)
    assert time.process_time() - began < 5


# --- KiCad's parts


def test_kicad(tmp_path):
    base = tmp_path / "usr/share/kicad/3dmodels"
    for name in ("LED_THT.3dshapes/LED_D5.0mm", "Package_DIP.3dshapes/DIP-8_W7.62mm"):
        (base / name).parent.mkdir(parents=True)
        (base / f"{name}.wrl").write_text("#VRML V2.0 utf8\n" + shape(SQUARE.replace("2 2 0", "2 2 5")))
    config = CollectionConfig(kind="kicad", path=str(tmp_path))
    led, chip = list_objects(DatasetConfig(collections=(config,)))
    assert (led.source_id, led.category) == ("kicad/LED_THT/LED_D5.0mm", "led")
    assert led.captions == ("a through-hole led d5.0mm", "a through-hole led", "a led")
    assert (chip.category, chip.captions[0]) == ("chip", "a chip dip-8 w7.62mm")
    (part,) = load_object(led, LIMITS).parts  # up is +z there, and +y here
    assert part.vertices.tolist() == [[0, 0, 0], [2, 0, 0], [2, 5, -2], [0, 0, -2]]
    with pytest.raises(RecipeError, match="no folders such as"):
        list_objects(DatasetConfig(collections=(CollectionConfig(kind="kicad", path=str(base / "LED_THT.3dshapes")),)))


def test_words_of_parts():
    assert part_words("Capacitor_Tantalum_SMD", "CP_EIA-3216") == ("capacitor", "surface-mount capacitor cp eia-3216")
    assert part_words("OptoDevice", "Everlight_ITR8307") == ("opto device", "opto device everlight itr8307")
