"""What lists a collection runs before any guarded process: a hostile file there costs one object or gives one line."""

import gzip
import json
import os
import time
import zipfile

import numpy as np
import pytest
import trimesh

from ln3d.artifacts.manifest import fingerprint
from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections import annotations, catalogue
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.own_captions import read_own_captions
from ln3d.data.readers.markup import parse_xml
from ln3d.errors import MeshError, RecipeError

LIMITS = LimitsConfig()
TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
UID = "a" * 32


def listed(kind, path, **options):
    """Return a catalogue, all of which can be hashed and stored."""
    found = list_objects(DatasetConfig(collections=(CollectionConfig(kind=kind, path=str(path), **options),)))
    fingerprint([vars(entry) for entry in found])
    json.dumps([vars(entry) for entry in found], ensure_ascii=False).encode()
    return found


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def refused(message, action, *arguments, error=RecipeError, **options):
    with pytest.raises(error, match=message) as caught:
        action(*arguments, **options)
    assert "\n" not in caught.value.message and caught.value.hint


# --- a folder of one's own


@pytest.mark.parametrize("name", ["captions.csv", "captions.jsonl"])
def test_captions_are_not_read_from_outside(tmp_path, name):
    write(tmp_path, {"secret": "path,caption\n", "mine/inner.txt": "", "mine/a.ply": ""})
    place = tmp_path / "mine" / name
    place.symlink_to(tmp_path / "secret")
    refused("leads out of the folder", read_own_captions, tmp_path / "mine", frozenset({"a.ply"}))
    place.unlink()
    place.symlink_to(tmp_path / "mine" / "gone")
    refused("cannot be read: No such file", read_own_captions, tmp_path / "mine", frozenset({"a.ply"}))
    place.unlink()
    os.mkfifo(place)
    refused("not a regular file", read_own_captions, tmp_path / "mine", frozenset({"a.ply"}))
    place.unlink()
    (tmp_path / "mine/inner.txt").write_text("path,caption\na.ply,x\n" if name.endswith("csv") else "")
    place.symlink_to("inner.txt")
    assert len(read_own_captions(tmp_path / "mine", frozenset({"a.ply"}))) == name.endswith("csv")


def test_a_mesh_has_no_million_captions(tmp_path):
    write(tmp_path, {"captions.csv": "path,caption\n" + "a.ply,x\n" * 100_000})
    refused("captions.csv:1002: more than 1000", read_own_captions, tmp_path, frozenset({"a.ply"}))


def test_captions_that_no_terminal_could_print(tmp_path):
    trimesh.creation.box().export(tmp_path / "a.ply")
    told = {"path": "a.ply", "caption": "half \ud800 a\x1b[31m face", "author": "\udfff", "category": "c\0"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(told))
    (entry,) = listed("folder", tmp_path)
    assert entry.captions == ("half   a [31m face",) and entry.category == "c "


# --- Sweet Home 3D


def furniture(path, properties, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PluginFurnitureCatalog.properties", properties)
        for name, content in {"chair.obj": TRIANGLE, **files}.items():
            archive.writestr(name, content)


GOOD = "name#1=Chair\nmodel#1=/chair.obj\n"


def not_a_name(path):
    furniture(path, GOOD, **{"stra\u00dfe": ""})
    path.write_bytes(path.read_bytes().replace("\u00df".encode(), b"\xff\xff"))


def outside(path):
    furniture(path.parents[1] / "elsewhere.zip", GOOD)
    path.symlink_to(path.parents[1] / "elsewhere.zip")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b"binary \0 garbage"), "not a readable zip"),
        (lambda path: furniture(path, "name#1=x\n" * 10**7), "90000000 bytes, more than"),
        (lambda path: furniture(path, bytes(10**8)), "100000000 bytes, more than"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "no such member"),
        (os.mkfifo, "not a regular file"),
        (not_a_name, "not a readable zip"),
        (outside, "outside"),
        (lambda path: path.symlink_to("/dev/zero"), "outside"),
    ],
)
def test_an_archive_of_furniture_that_cannot_be_listed_is_one_rejection(tmp_path, make, reason):
    root = tmp_path / "furniture"
    root.mkdir()
    furniture(root / "Good.sh3f", GOOD)
    make(root / "Bad.sh3f")
    bad, good = listed("sweethome3d", root)
    assert (bad.source_id, good.source_id) == ("sweethome3d/Bad", "sweethome3d/Good/001")
    refused(reason, load_object, bad, LIMITS, error=MeshError)
    assert load_object(good, LIMITS).face_count == 1
    assert listed("sweethome3d", root, categories=("chair",)) == [bad, good]  # nobody knows what is in it: it is said
    assert listed("sweethome3d", root, categories=("boat",)) == [bad]
    (root / "Bad.sh3f").unlink()
    refused("sweethome3d: no category 'boat'", listed, "sweethome3d", root, categories=("boat",))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("model#2=../../../etc/passwd", "outside"),
        ("model#2=/../x.obj", "outside"),
        ("model#2=C:\\\\x.obj", "refers to"),
        ("model#2=http://a.example/b.obj", "refers to"),
        ("model#2=", "no such member|cannot|not"),
        ("model#2=chair.obj\nmodelRotation#2=nan 0 0 0 1 0 0 0 1", "not finite"),
        ("model#2=chair.obj\nmodelRotation#2=1 0 0 0 1 0 0 0 1e999", "not finite"),
        ("model#2=chair.obj\nmodelRotation#2=1 0 0", "nine numbers"),
        ("model#2=chair.obj\nmodelRotation#2=left", "nine numbers"),
    ],
)
def test_a_line_of_the_furniture_catalogue_costs_its_object_at_most(tmp_path, lines, reason):
    furniture(tmp_path / "A.sh3f", f"{GOOD}name#2=Bad\n{lines}\n")
    good, bad = listed("sweethome3d", tmp_path)
    assert load_object(good, LIMITS).face_count == 1
    with np.errstate(invalid="ignore", over="ignore"):
        refused(reason, load_object, bad, LIMITS, error=MeshError)


def test_nonsense_in_the_furniture_catalogue_is_no_object(tmp_path):
    garbage = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()
    odd = "name#\u00b2=x\nmodel#\u00b2=y\nname#-1=x\nmodel#-1=y\n" + "".join(
        f"{k}#{'9' * 5000}=x\n" for k in ("name", "model")
    )
    words = "name#7=\\ud800 \\u0000 \\u001b[2J\nmodel#7=chair.obj\ncategory#7=\\udfff\n"
    furniture(tmp_path / "A.sh3f", GOOD.encode() + garbage + b"\n" + odd.encode("latin-1") + words.encode())
    found = {entry.source_id: entry for entry in listed("sweethome3d", tmp_path)}
    assert {"sweethome3d/A/001", "sweethome3d/A/007"} <= set(found) and len(found) < 10
    assert found["sweethome3d/A/007"].name.isprintable()


# --- TORCS and FlightGear


AC = (
    'AC3Db\nMATERIAL "m" rgb 1 1 1 amb 1 1 1 trans 0\nOBJECT world\nkids 1\nOBJECT poly\n'
    "numvert 3\n0 0 0\n1 0 0\n0 1 0\nnumsurf {}\n"
)


def ac(surfaces=1):
    return AC.format(surfaces) + "SURF 0x0\nmat 0\nrefs 3\n0 0 0\n1 0 0\n2 0 0\n" * surfaces + "kids 0\n"


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        ("\0\xff binary", "not well-formed"),
        ("<params/>" + "<!-- -->" * 2_000_000, "bytes of XML"),
        ('<params><section name="Rear Axle"><attnum name="xpos" val="nan"/></section></params>', "not finite"),
        (
            '<params><section name="Rear Axle"><attnum name="xpos" val="far"/></section></params>',
            "xpos is not a number",
        ),
        (
            '<params><section name="Graphic Objects">'
            '<attstr name="3d wheel directory" val="../../.."/></section></params>',
            "outside|no such",
        ),
    ],
)
def test_a_hostile_car_costs_itself(tmp_path, setup, reason):
    files = {f"cars/{car}/{car}.acc": ac() for car in ("bad", "good")}
    write(
        tmp_path,
        {**files, "cars/bad/bad.xml": setup, "cars/good/good.xml": "<params/>", "wheels/trb1-3/wheel0.acc": ac()},
    )
    bad, good = listed("torcs", tmp_path)
    refused(reason, load_object, bad, LIMITS, error=MeshError)
    assert load_object(good, LIMITS).face_count == 5


@pytest.mark.parametrize(
    "unit", ["&", "<!DOCTYPE", "<!DOCTYPE[", "<!DOCTYPE a [ ]", "<!DOCTYPE" + " " * 99, "&#1", "]  "]
)
def test_xml_takes_time_in_proportion_to_its_length(unit):
    text = ("<!DOCTYPE a [" if unit[0] == "]" else "") + unit * (400_000 // len(unit))
    start = time.process_time()
    with pytest.raises(MeshError):
        parse_xml(text.encode(), "x.xml")
    assert time.process_time() - start < 2  # a square of the length is hours


def test_hostile_definitions_of_aircraft(tmp_path):
    folder = "AI/Aircraft/738"
    files = {
        f"{folder}/738.ac": ac(200),
        f"{folder}/738-Good.xml": "<a><path>738.ac</path><texture-path>t</texture-path></a>",
    }
    bad = {
        "garbage": "\0\xff",
        "itself": '<a include="738-itself.xml"/>',
        "outside": '<a include="../../../../../../etc/passwd"/>',
        "laughs": '<!DOCTYPE a [<!ENTITY x "boom">]><a>&x;</a>',
        "nowhere": "<a><path>/dev/zero</path></a>",
        "pipe": "<a><path>pipe.ac</path><texture-path>t</texture-path></a>",
        "deep": "<a>" * 100_000,
    }
    write(tmp_path, {**files, **{f"{folder}/738-{name}.xml": text for name, text in bad.items()}})
    os.mkfifo(tmp_path / folder / "pipe.ac")
    os.mkfifo(tmp_path / folder / "pipe.xml")
    found = {entry.source_id: entry for entry in listed("flightgear", tmp_path)}
    assert set(found) == {"flightgear/738/738-Good", "flightgear/738/738-pipe"}
    assert load_object(found["flightgear/738/738-Good"], LIMITS).face_count == 200
    refused("not a regular file", load_object, found["flightgear/738/738-pipe"], LIMITS, error=MeshError)


def test_ships_that_lead_outside_or_nowhere(tmp_path):
    root = write(tmp_path / "game", {"Models/Maritime/Civilian/barge.ac": ac(), "AI/Aircraft/Cub/Cub.ac": ac(200)})
    write(tmp_path, {"secret.ac": ac()})
    (root / "Models/Maritime/Civilian/Trawler.ac").symlink_to(tmp_path / "secret.ac")
    (root / "AI/Aircraft/Cub/a.ac").symlink_to("nowhere.ac")
    found = {entry.source_id.rsplit("/", 1)[1]: entry for entry in listed("flightgear", root)}
    assert set(found) == {"Cub", "barge", "Trawler"}
    refused("leads outside", load_object, found["Trawler"], LIMITS, error=MeshError)
    assert load_object(found["barge"], LIMITS).face_count == 1


# --- KiCad, ShapeNet, Objaverse


def test_odd_names_of_parts(tmp_path):
    root = tmp_path / "kicad"
    for name in (".3dshapes/a.wrl", "_.3dshapes/_.wrl", "LED_THT.3dshapes/x.wrl"):
        write(root, {name: "#VRML V2.0 utf8\n"})
    os.mkfifo(root / "LED_THT.3dshapes/pipe.wrl")
    write(tmp_path, {"secret.wrl": "#VRML V2.0 utf8\n"})
    (root / "LED_THT.3dshapes/out.wrl").symlink_to(tmp_path / "secret.wrl")
    found = {entry.source_id: entry for entry in listed("kicad", root)}
    assert len(found) == 5 and found["kicad//a"].category == "part"
    for name, reason in {"pipe": "regular file", "out": "outside"}.items():
        refused(reason, load_object, found[f"kicad/LED_THT/{name}"], LIMITS, error=MeshError)
    (root / "LED_THT.3dshapes" / os.fsdecode(b"\xff.wrl")).write_bytes(b"")
    refused("is not UTF-8", listed, "kicad", root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("taxonomy.json", "[" * 100_000, "not ShapeNet's taxonomy"),
        ("taxonomy.json", b"\xff\xfe\0", "not ShapeNet's taxonomy"),
        ("taxonomy.json", "[" + "1" * 5000 + "]", "not ShapeNet's taxonomy"),
        ("all.csv", b"\xff\xfe\0", "not ShapeNet's split"),
        ("all.csv", "synsetId,modelId,split,subSynsetId\n" + "x" * 200_000, "not ShapeNet's split"),
    ],
)
def test_hostile_tables_of_shapenet(tmp_path, name, content, message):
    write(tmp_path / "core", {"02958343/aa1/models/model_normalized.obj": TRIANGLE, name: content})
    refused(message, listed, "shapenet", tmp_path / "core")
    for make, said in ((os.mkfifo, "regular file"), (lambda path: path.symlink_to("/etc/passwd"), "leads out")):
        (tmp_path / "core" / name).unlink()
        make(tmp_path / "core" / name)
        refused(said, listed, "shapenet", tmp_path / "core")


def test_names_of_nothing_in_the_taxonomy(tmp_path):
    taxonomy = [{"synsetId": "02000000", "name": " ,"}, {"synsetId": "02000001", "name": "\ud800,x"}]
    models = {f"0200000{n}/aa1/models/model_normalized.obj": TRIANGLE for n in range(2)}
    write(tmp_path, {**models, "taxonomy.json": json.dumps(taxonomy)})
    assert [entry.category for entry in listed("shapenet", tmp_path)] == ["02000000", " "]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Cap3D.csv", f"{UID},x\n" * 2000, "more than 1000 captions"),
        ("Cap3D.csv", f"{UID},{'x' * 200_000}\n", "cannot be read"),
        ("cap3d.json", json.dumps({UID: ["x"] * 2000}), "more than 1000 captions"),
        ("cap3d.json", "[" * 100_000, "cannot be read"),
        ("lvis-annotations.json.gz", gzip.compress(b" " * 3_000_000, mtime=0), "more than 2000000 bytes"),
        ("lvis-annotations.json.gz", gzip.compress(b"{}", mtime=0)[:-9], "cannot be read"),
        ("lvis-annotations.json", '{"chair": [' + "[" * 100_000, "cannot be read"),
    ],
)
def test_hostile_annotations(tmp_path, monkeypatch, name, content, message):
    monkeypatch.setattr(annotations, "LARGEST", 2_000_000)
    root = write(tmp_path / "objaverse", {f"{UID}.glb": trimesh.creation.box().export(file_type="glb"), name: content})
    refused(message, listed, "objaverse", root)
    for make, said in ((os.mkfifo, "regular file"), (lambda path: path.symlink_to("/etc/passwd"), "leads out")):
        (root / name).unlink()
        make(root / name)
        refused(said, listed, "objaverse", root)


def test_annotations_with_halves_of_characters(tmp_path):
    root = write(tmp_path, {f"{UID}.glb": trimesh.creation.box().export(file_type="glb")})
    write(root, {"cap3d.json": json.dumps({UID: "a \ud800"}), "lvis-annotations.json": json.dumps({"\udfff": [UID]})})
    (entry,) = listed("objaverse", root)
    assert entry.captions == ("a  ",) and entry.category == " "


# --- games in one archive


def test_hostile_actors_cost_themselves(tmp_path):
    good = "<actor><group><variant><mesh>gone.dae</mesh></variant></group></actor>"
    actors = {
        "fauna/bear.xml": good,
        "fauna/garbage.xml": "\0\xff",
        "fauna/often.xml": good.replace("<variant>", '<variant frequency="often"/><variant frequency="nan">'),
        "fauna/self.xml": '<actor><group><variant file="../actors/fauna/self.xml"/></group></actor>',
        "fauna/12.xml": good,
        "flora/trees/_.xml": good,
        "fauna/laughs.xml": '<!DOCTYPE a [<!ENTITY x "ha">]><actor>&x;</actor>',
    }
    with zipfile.ZipFile(tmp_path / "public.zip", "w") as archive:
        for name, content in actors.items():
            archive.writestr(f"art/actors/{name}", content)
    found = listed("0ad", tmp_path)
    assert {entry.load[1]["actor"] for entry in found} == set(actors)
    assert {entry.name for entry in found} >= {"bear", "animal", "tree"}
    for entry in found:
        with pytest.raises(MeshError):
            load_object(entry, LIMITS)


def test_hostile_vehicles_cost_themselves(tmp_path):
    good = '<vehicle name="Cordo"><genparams wheelmodel="w.obj"/><part model="w.obj"/></vehicle>'
    vehicles = {"good": good, "garbage": "\0\xff", "empty": "<vehicle/>", "bomb": "<a/>" * 3_000_000}
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in vehicles.items():
            archive.writestr(f"vehicles/{name}/{name}.vehicle", content)
        archive.writestr("vehicles/good/w.obj", TRIANGLE)
    found = {entry.source_id.rsplit("/", 1)[1]: entry for entry in listed("trigger-rally", tmp_path)}
    assert load_object(found.pop("good"), LIMITS).face_count == 1
    reasons = {"garbage": "not well-formed", "empty": "no element 'part'", "bomb": "bytes of XML"}
    assert set(found) == set(reasons)
    for name, reason in reasons.items():
        refused(reason, load_object, found[name], LIMITS, error=MeshError)


# --- whatever is left


@pytest.mark.parametrize(
    "error", [TypeError("a\nb\x1b[31m"), MemoryError(), RecursionError("deep"), PermissionError(13, "no")]
)
def test_whatever_a_lister_does_is_one_line(tmp_path, monkeypatch, error):
    def lister(config, path):
        raise error

    monkeypatch.setitem(catalogue.COLLECTIONS, "kicad", (lister, None))
    refused(f"cannot be listed as kicad .{type(error).__name__}", listed, "kicad", tmp_path)
