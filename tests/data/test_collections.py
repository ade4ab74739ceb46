"""The catalogue, the built-in meshes and a folder of one's own."""

import json
import os

import numpy as np
import pytest
import trimesh

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import CatalogueEntry, list_objects, load_object
from ln3d.data.collections.entries import phrasings, shape_id, with_article
from ln3d.data.collections.parametric import PAINTS
from ln3d.data.readers.mesh import normalised
from ln3d.errors import RecipeError

LIMITS = LimitsConfig()


def listed(*collections, meshes=None):
    return list_objects(DatasetConfig(collections=collections), meshes)


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box().export(tmp_path / name)
    return tmp_path


def test_parametric_objects_are_sound_and_repeatable():
    found = listed(CollectionConfig(kind="parametric"))
    assert len(found) == 90 and len({entry.source_id for entry in found}) == 90
    assert len({entry.shape_id for entry in found}) == 15
    for entry in found[::17]:
        scene, again = load_object(entry, LIMITS), load_object(entry, LIMITS)
        assert scene.face_count < 600
        for part, other in zip(scene.parts, again.parts, strict=True):
            np.testing.assert_array_equal(part.vertices, other.vertices)
        low, high = normalised(scene).bounds
        assert np.linalg.norm(high) == pytest.approx(0.9, abs=1e-5)


def test_parametric_fronts_are_to_plus_z():
    found = {entry.source_id: entry for entry in listed(CollectionConfig(kind="parametric"))}
    chair = load_object(found["parametric/chair/plain/red"], LIMITS)
    tops = np.concatenate([part.vertices[part.vertices[:, 1] > 0.9] for part in chair.parts])
    assert tops[:, 2].max() < 0  # the back rest is at the back
    plane = load_object(found["parametric/plane/jet/red"], LIMITS)
    tops = np.concatenate([part.vertices[part.vertices[:, 1] > 0.4] for part in plane.parts])
    assert tops[:, 2].max() < 0  # so is the fin


def test_liveries_of_a_shape_differ_in_colour_only():
    found = [e for e in listed(CollectionConfig(kind="parametric")) if "/car/van/" in e.source_id]
    scenes = [load_object(entry, LIMITS) for entry in found]
    assert len({entry.shape_id for entry in found}) == 1
    bodies = {tuple(scene.parts[0].base_colour.tolist()) for scene in scenes}
    assert len(bodies) == len(PAINTS)
    for scene in scenes[1:]:
        np.testing.assert_array_equal(scene.parts[0].vertices, scenes[0].parts[0].vertices)


def test_categories_limits_and_liveries_per_shape():
    chairs = listed(CollectionConfig(kind="parametric", categories=("chair",)))
    assert {entry.category for entry in chairs} == {"chair"} and len(chairs) == 18
    assert len(listed(CollectionConfig(kind="parametric", categories=("chair",), per_shape=2))) == 6
    first = listed(CollectionConfig(kind="parametric", limit=5))
    assert {entry.category for entry in first} == {"chair", "table", "car", "plane", "boat"}


def test_no_colour_words_in_captions():
    for entry in listed(CollectionConfig(kind="parametric")):
        assert not set(PAINTS) & set(" ".join(entry.captions).split()) and len(entry.captions) >= 2


def test_entries_are_plain_data():
    for entry in listed(CollectionConfig(kind="parametric", limit=3)):
        assert CatalogueEntry(**json.loads(json.dumps(vars(entry)), object_hook=None)).source_id == entry.source_id


@pytest.mark.parametrize(
    "collection, message",
    [
        (CollectionConfig(kind="folder"), "needs a path"),
        (CollectionConfig(kind="folder", path="gone"), "no such folder"),
        (CollectionConfig(kind="torcs", path="$NOT_SET_AT_ALL/torcs"), "NOT_SET_AT_ALL is not set"),
        (CollectionConfig(kind="folder", path="."), "no objects"),
        (CollectionConfig(kind="torcs", path="."), "no TORCS cars"),
        (CollectionConfig(kind="flightgear", path="."), "neither AI/Aircraft"),
        (CollectionConfig(kind="0ad", path="."), "no public.zip"),
        (CollectionConfig(kind="sweethome3d", path="."), "no objects"),
        (CollectionConfig(kind="parametric", categories=("dog",)), "no category 'dog'"),
    ],
)
def test_wrong_collections(collection, message):
    with pytest.raises(RecipeError, match=message) as caught:
        listed(collection)
    assert caught.value.hint


def test_one_collection_twice():
    with pytest.raises(RecipeError, match="listed twice"):
        listed(CollectionConfig(kind="parametric"), CollectionConfig(kind="parametric"))


def test_a_file_name_that_is_no_text_is_said(tmp_path):
    root = folder_of(tmp_path / "mine", "chair/a.ply")
    (root / os.fsdecode(b"chair/b\xff.ply")).write_bytes(b"")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        listed(CollectionConfig(kind="folder", path=str(root)))


def test_folder_names_categories_and_order(tmp_path, monkeypatch):
    root = folder_of(
        tmp_path / "mine", "chair/OakChair_02.ply", "chair/b/model.obj", "03001627/1a2b3c4d5e6f/model.stl", "x.glb"
    )
    (root / "chair/.hidden.ply").write_bytes(b"")
    (root / "chair/notes.txt").write_text("no mesh")
    monkeypatch.setenv("MINE", str(root))
    found = listed(CollectionConfig(kind="folder", path="$MINE"))
    assert [(entry.source_id, entry.category, entry.name) for entry in found] == [
        ("folder/mine/03001627/1a2b3c4d5e6f/model.stl", "chair", "chair"),
        ("folder/mine/chair/OakChair_02.ply", "chair", "oak chair"),
        ("folder/mine/chair/b/model.obj", "chair", "chair"),
        ("folder/mine/x.glb", "object", "object"),
    ]
    assert found[1].captions == ("an oak chair", "a chair")
    assert len({entry.shape_id for entry in found}) == 4
    assert load_object(found[1], LIMITS).face_count == 12


def test_meshes_argument_replaces_the_collections(tmp_path):
    root = folder_of(tmp_path / "mine", "chair/a.ply")
    found = listed(CollectionConfig(kind="parametric"), meshes=root)
    assert [entry.source_id for entry in found] == ["folder/mine/chair/a.ply"]


def test_captions_file(tmp_path):
    root = folder_of(tmp_path / "mine", "chair/a.ply", "chair/b.ply")
    (root / "captions.csv").write_text(
        'path,caption,category,licence,author\nchair/a.ply,"A Red chair, old",,CC0,Ann\n./chair/a.ply,a seat,stool,,\n',
        encoding="utf-8-sig",
    )
    first, second = listed(CollectionConfig(kind="folder", path=str(root)))
    assert first.captions == ("a red chair, old", "a seat")
    assert (first.category, first.licence, first.author) == ("stool", "CC0", "Ann")
    assert (second.category, second.licence) == ("chair", "unknown")


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,text\n", "no column 'caption'"),
        ("path,caption\nchair/z.ply,x\n", "captions.csv:2: no mesh"),
        ("", "no column"),
    ],
)
def test_wrong_captions_files(tmp_path, text, message):
    root = folder_of(tmp_path / "mine", "chair/a.ply")
    (root / "captions.csv").write_text(text)
    with pytest.raises(RecipeError, match=message):
        listed(CollectionConfig(kind="folder", path=str(root)))


def test_words():
    for words in (
        "an oak chair",
        "a chair",
        "an f-15 eagle",
        "an sr-71 blackbird",
        "a mig-21",
        "a t-38 talon",
        "a glass",
    ):
        assert with_article(words.partition(" ")[2]) == words
    assert with_article("sneakers") == "sneakers"
    assert phrasings(" A  b ", "a b", "", "c,") == ("a b", "c")
    assert shape_id("a", "bc") != shape_id("ab", "c") and shape_id("a") == shape_id(b"a")
