"""Objaverse's GLB files by uid, with Cap3D's captions and the LVIS categories."""

import gzip
import json

import pytest
import trimesh

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.errors import RecipeError

ONE, TWO, THREE = (digit * 32 for digit in "1ab")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "objaverse"
    for name in (f"glbs/000-001/{TWO}.glb", f"glbs/000-000/{ONE}.glb", f"{THREE}.glb", "notes.glb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box().export(folder / name)
    return folder


def listed(root, **options):
    return list_objects(DatasetConfig(collections=(CollectionConfig(kind="objaverse", path=str(root), **options),)))


def test_uids_alone(root):
    found = listed(root)
    assert [entry.source_id for entry in found] == [f"objaverse/{uid}" for uid in (ONE, TWO, THREE)]
    assert {(entry.category, entry.captions, entry.own_captions) for entry in found} == {
        ("object", ("an object",), False)
    }
    assert load_object(found[0], LimitsConfig()).face_count == 12


def test_captions_and_categories_beside_the_files(root):
    rows = f'{ONE},"A green and white rifle."\n{ONE},"A toy, green"\n{"f" * 32},not here\n'
    (root / "Cap3D_automated_Objaverse_full.csv").write_text(rows)
    lvis = {"pirate_ship": [TWO], "bow_(weapon)": [ONE, TWO]}
    (root / "lvis-annotations.json.gz").write_bytes(gzip.compress(json.dumps(lvis).encode()))
    one, two, three = listed(root)
    assert one.captions == ("a green and white rifle", "a toy, green") and one.own_captions
    assert (one.category, two.category, three.category) == ("bow", "pirate ship", "object")
    assert two.captions == ("a pirate ship",) and not two.own_captions
    assert [entry.source_id for entry in listed(root, categories=("bow",))] == [f"objaverse/{ONE}"]


def test_files_that_the_recipe_names_win(root, tmp_path, monkeypatch):
    (root / "Cap3D.csv").write_text(f"{ONE},from the folder\n")
    (tmp_path / "mine.json").write_text(json.dumps({ONE: "mine", TWO: ["a", "b"], "x": 3}))
    monkeypatch.setenv("MINE", str(tmp_path))
    one, two, _ = listed(root, captions="$MINE/mine.json")
    assert one.captions == ("mine",) and two.captions == ("a", "b")


@pytest.mark.parametrize(
    "options, content, message",
    [
        ({"captions": "gone.csv"}, None, "cannot be read"),
        ({"captions": "bad.json"}, b"{", "cannot be read"),
        ({"captions": "bad.json"}, b"[]", "not a JSON object"),
        ({"annotations": "bad.json"}, b'{"chair": "uid"}', "'chair' has no list"),
        ({"annotations": "bad.json.gz"}, b"not gzip", "cannot be read"),
        ({"captions": "bad.csv"}, b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_damaged_files(root, tmp_path, options, content, message):
    if content is not None:
        (tmp_path / next(iter(options.values()))).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        listed(root, **options)
