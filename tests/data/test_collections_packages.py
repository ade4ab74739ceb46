"""The game packages, on miniatures of them built here: liveries, placement, fronts, names and splits by shape."""

import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.collections.flightgear import livery_words
from ln3d.data.collections.sweethome3d import category_of, parse_properties
from ln3d.data.collections.zero_ad import living_name
from ln3d.errors import MeshError

LIMITS = LimitsConfig()
MATERIAL = 'AC3Db\nMATERIAL "m" rgb 1 1 1 amb 1 1 1 trans 0\nOBJECT world\nkids 1\n'


def listed(kind, path, **options):
    return list_objects(DatasetConfig(collections=(CollectionConfig(kind=kind, path=str(path), **options),)))


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def image(colour, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), colour).save(buffer, kind)
    return buffer.getvalue()


def ac(points, texture="", faces=None, name="body"):
    """Return an AC3D file of triangles."""
    faces = faces or [(0, 1, 2)]
    lines = [MATERIAL + "OBJECT poly", f'name "{name}"']
    lines += [f'texture "{texture}"'] if texture else []
    lines += [f"numvert {len(points)}", *(" ".join(map(str, point)) for point in points), f"numsurf {len(faces)}"]
    for face in faces:
        lines += ["SURF 0x0", "mat 0", f"refs {len(face)}", *(f"{index} 0 0" for index in face)]
    return "\n".join([*lines, "kids 0\n"])


# --- Sweet Home 3D


@pytest.fixture
def furniture(tmp_path):
    properties = (
        "# a comment\nid=x\nname#1=Chair\ntags#1=Blend Swap, Wooden\ncategory#1=Living room\nmodel#1=/a/chair.obj\n"
        "modelRotation#1=0 0 -1 0 1 0 1 0 0\ncreator#1=Ann \\u00e9\nname#2=Coffee table\ncategory#2=Living room\n"
        "model#2=/a/chair.obj\nname#3=Icon only\n"
    )
    (tmp_path / "usr/share").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "usr/share/Scopia.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", properties.encode("latin-1"))
        archive.writestr("a/chair.obj", "mtllib c.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl m\nf 1 2 3\n")
        archive.writestr("a/c.mtl", "newmtl m\nKd 1 0 0\nmap_Kd C:/Documents and Settings/x.png\n")
    return tmp_path


def test_sweethome3d(furniture):
    chair, table = listed("sweethome3d", furniture)
    assert (chair.source_id, chair.name, chair.category) == ("sweethome3d/Scopia/001", "chair", "chair")
    assert chair.captions == ("a chair", "a wooden chair", "a chair, wooden")
    assert (chair.author, chair.licence) == ("Ann \u00e9", "CC-BY-3.0")
    assert table.category == "table" and table.shape_id == chair.shape_id
    (part,) = load_object(chair, LIMITS).parts  # turned by its modelRotation; the author's own path is ignored
    assert part.texture is None and part.vertices[:, 2].max() == 1 and part.vertices[:, 0].max() == 0


@pytest.mark.parametrize(
    "name, group, category",
    [
        ("Winchester armchair", "Living room", "chair"),
        ("Bar stool", "Living room", "chair"),
        ("Bedside table", "Bedroom", "bedroom"),
        ("Coffee table", "Living room", "table"),
        ("Desk lamp", "Lights", "lamp"),
        ("Wooden desk", "Office", "table"),
        ("Corner sofa", "Living room", "sofa"),
        ("Smart car", "Vehicles", "car"),
        ("Shopping cart", "Kitchen", "kitchen"),
        ("Car model", "Bedroom", "car"),
        ("Christmas tree", "Living room", "plant"),
        ("Roasted chicken", "Kitchen", "kitchen"),
        ("Glass door", "Doors and windows", "door"),
        ("Bunk bed", "Bedroom", "bed"),
    ],
)
def test_sweethome3d_categories(name, group, category):
    assert category_of(name, group) == category


def test_properties():
    assert parse_properties("a = b=c\n#d=e\n!f=g\nno pair\nh=\\u20ac") == {"a": "b=c", "h": "\u20ac"}


# --- TORCS


@pytest.fixture
def torcs(tmp_path):
    setup = (
        '<!DOCTYPE params SYSTEM "x.dtd"><params><section name="Front Axle">'
        '<attnum name="xpos" unit="m" val="1.5"/></section><section name="Front Left Wheel">'
        '<attnum name="ypos" unit="m" val="0.8"/><attnum name="rim diameter" unit="in" val="20"/>'
        '<attnum name="tire width" unit="mm" val="200"/><attnum name="tire height-width ratio" val="0.5"/>'
        '<attnum name="ride height" unit="mm" val="100"/></section></params>'
    )
    wheel = [(-0.5, -0.5, -0.5), (0.5, -0.5, -0.5), (0.5, 0.5, 0.5)]
    write(
        tmp_path / "usr/share/games/torcs",
        {
            "cars/car1-trb1/car1-trb1.acc": ac([(2, 0, 0), (-2, 0, 0), (0, 1, 0.7)], "car1-trb1.rgb"),
            "cars/car1-trb1/car1-trb1.rgb": image((255, 0, 0, 0), "SGI"),
            "cars/car1-trb1/car1-trb1.xml": setup,
            "drivers/inferno/3/car1-trb1.rgb": image((0, 0, 255, 0), "SGI"),
            "wheels/trb1-3/wheel0.acc": ac(wheel),
        },
    )
    return tmp_path


def test_torcs_liveries_share_a_shape(torcs):
    own, painted = listed("torcs", torcs)
    assert own.shape_id == painted.shape_id and own.source_id != painted.source_id
    assert "of team inferno" in " ".join(painted.captions) and own.name == "gt race car 1"
    for entry, colour in ((own, [255, 0, 0]), (painted, [0, 0, 255])):
        body = load_object(entry, LIMITS).parts[0]
        assert body.texture[0, 0, :3].tolist() == colour and not body.cutout  # its alpha is gloss


def test_torcs_cars_face_plus_z_on_four_wheels(torcs):
    body, _, front_left, *rest = load_object(listed("torcs", torcs)[0], LIMITS).parts
    assert body.vertices[:, 2].max() == 2 and len(rest) == 2
    low, high = front_left.vertices.min(axis=0), front_left.vertices.max(axis=0)
    radius = 20 * 0.0254 / 2 + 0.1
    np.testing.assert_allclose((low + high) / 2, [0.8, radius - 0.1, 1.5], atol=1e-6)  # facing +z, left is +x
    np.testing.assert_allclose(high - low, [0.2, 2 * radius, 2 * radius], atol=1e-6)
    assert body.vertices[2, 0] == pytest.approx(-0.7)  # what was right of the car is at -x


# --- FlightGear


@pytest.fixture
def flightgear(tmp_path):
    many = [(0, 1, 2)] * 150
    body = ac([(-5, 0, 0), (5, 0, 0), (0, 0, 3)], "paint.png", many)
    lamp = ac([(90, 0, 0), (91, 0, 0), (90, 1, 0)], name="NavLight").split("kids 1\n")[1]
    write(
        tmp_path,
        {
            "AI/Aircraft/738/738-main.xml": "<PropertyList><path>Models/a.ac</path></PropertyList>",
            "AI/Aircraft/738/738-AirBerlin.xml": '<PropertyList include="738-main.xml">'
            "<texture-path>Textures/AirBerlin</texture-path></PropertyList>",
            "AI/Aircraft/738/738-KLM.xml": '<PropertyList include="738-main.xml">'
            "<texture-path>Textures/KLM</texture-path></PropertyList>",
            "AI/Aircraft/738/broken.xml": "<PropertyList>",
            "AI/Aircraft/738/loop.xml": '<PropertyList include="loop.xml"/>',
            "AI/Aircraft/738/Models/a.ac": body.replace("kids 1\n", "kids 2\n", 1) + lamp,
            "AI/Aircraft/738/Models/paint.png": image((1, 1, 1, 255)),
            "AI/Aircraft/738/Textures/AirBerlin/paint.png": image((200, 0, 0, 255)),
            "AI/Aircraft/f16/Models/f16.ac": body.replace("5 0 0", "6 0 0"),
            "AI/Aircraft/f16/Models/f16-lights.ac": body,
            "Models/Maritime/Civilian/Tanker.ac": body.replace("5 0 0", "7 0 0"),
        },
    )
    return tmp_path


def test_flightgear_catalogue(flightgear):
    found = {entry.source_id: entry for entry in listed("flightgear", flightgear)}
    assert list(found) == [
        "flightgear/738/738-AirBerlin",
        "flightgear/738/738-KLM",
        "flightgear/f16/f16",
        "flightgear/Maritime/Civilian/Tanker",
    ]
    berlin, klm, jet, ship = found.values()
    assert berlin.shape_id == klm.shape_id != jet.shape_id
    assert berlin.captions[0] == "a boeing 737-800 in air berlin livery" and berlin.category == "plane"
    assert jet.captions[0] == "an f-16 falcon"
    assert ship.category == "boat" and "a tanker" in ship.captions


def test_flightgear_liveries_noses_and_lamps(flightgear):
    berlin, klm, *_ = listed("flightgear", flightgear)
    painted, plain = load_object(berlin, LIMITS), load_object(klm, LIMITS)
    assert painted.parts[0].texture[0, 0].tolist() == [200, 0, 0, 255]
    assert plain.parts[0].texture[0, 0].tolist() == [1, 1, 1, 255]  # no such file in its folder: the mesh's own
    low, high = painted.bounds
    assert (low[2], high[2]) == (-5, 5) and high[0] == 3  # -x came to +z, the lamp far off is gone


@pytest.mark.parametrize(
    "text, words",
    [("AirBerlin", "air berlin"), ("KLM-BXA", "klm bxa"), ("default", ""), ("Jet2", "jet 2"), ("UPS", "ups")],
)
def test_livery_words(text, words):
    assert livery_words(text) == words


# --- 0 A.D.


def pmd(shift=0.0):
    vertex = b"".join(
        struct.pack("<3f3f2f4B4f", x + shift, y, z, 0, 0, 1, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0)
        for x, y, z in ((0, 0, 0), (1, 0, 0), (0, 1, -2))
    )
    body = struct.pack("<2I", 3, 1) + vertex + struct.pack("<I3H", 1, 0, 1, 2)
    body += struct.pack("<I7f", 1, 0, 3, 0, 0, 0, 0, 1)  # one bone, 3 up
    body += struct.pack("<II4s3f4fB", 1, 4, b"sail", 1, 0, 0, 0, 0, 0, 1, 0)  # a point 1 to the right of it
    return b"PSMD" + struct.pack("<2I", 4, len(body)) + body


@pytest.fixture
def zero_ad(tmp_path):
    ship = (
        "<actor><group><variant frequency='1' name='rare'><mesh>gone.dae</mesh></variant>"
        "<variant frequency='9' file='base.xml' name='usual'><mesh>s/ship.dae</mesh>"
        "<textures><texture name='normTex' file='n.png'/><texture name='baseTex' file='s/ship.png'/></textures>"
        "</variant></group><material>player_trans_ao.xml</material></actor>"
    )
    base = (
        "<variant><props><prop actor='props/sail.xml' attachpoint='sail'/>"
        "<prop actor='units/man.xml' attachpoint='root'/>"
        "<prop actor='' attachpoint='ram'/><prop actor='props/sail.xml' attachpoint='nowhere'/></props></variant>"
    )
    sail = (
        "<actor><group><variant><mesh>s/sail.dae</mesh></variant></group><material>basic_trans.xml</material></actor>"
    )
    with zipfile.ZipFile(tmp_path / "public.zip", "w") as archive:
        for name in ("romans/trireme", "persians/trireme"):
            archive.writestr(f"art/actors/structures/{name}.xml", ship)
        archive.writestr("art/actors/props/sail.xml", sail)
        archive.writestr("art/actors/fauna/bear_black.xml", sail)
        archive.writestr("art/variants/base.xml", base)
        archive.writestr("art/meshes/s/ship.dae.cached.pmd", pmd())
        archive.writestr("art/meshes/s/sail.dae.cached.pmd", pmd(10))
        archive.writestr("art/textures/skins/s/ship.png.cached.dds", image((100, 200, 50, 0)))
    return tmp_path


def test_zero_ad_ships(zero_ad):
    found = listed("0ad", zero_ad, categories=("boat",))
    assert len(found) == 12 and len({entry.shape_id for entry in found}) == 1  # one mesh, whoever sails it
    ship = next(entry for entry in found if entry.source_id == "0ad/structures/romans/trireme/red")
    assert ship.name == "roman trireme" and "a wooden ship" in ship.captions
    hull, sail = load_object(ship, LIMITS).parts
    assert hull.texture[0, 0].tolist() == [72, 20, 5, 255] and not hull.cutout  # tinted where alpha is 0
    assert hull.vertices[:, 2].max() == 2  # the bow, at -z in the file
    np.testing.assert_allclose(sail.vertices[0], [11, 3, 0])  # moved to the prop point of the moved bone


def test_zero_ad_missing_mesh(zero_ad):
    bear = listed("0ad", zero_ad, categories=("animal",))[0]
    assert bear.name == "black bear" and load_object(bear, LIMITS).face_count == 1
    kind, arguments = bear.load
    broken = type(bear)(**{**vars(bear), "load": (kind, {**arguments, "actor": "gone.xml"})})
    with pytest.raises(MeshError, match="no such member"):
        load_object(broken, LIMITS)


@pytest.mark.parametrize(
    "stem, category, name",
    [
        ("bear_black", "animal", "black bear"),
        ("horse_bay_01", "animal", "bay horse"),
        ("oak_aut", "tree", "autumn oak tree"),
        ("fir_tree_winter", "tree", "winter fir tree"),
        ("palm_date_new_2", "tree", "date palm tree"),
        ("deer1", "animal", "deer"),
    ],
)
def test_living_names(stem, category, name):
    assert living_name(stem, category) == name
