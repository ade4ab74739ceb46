"""ShapeNetCore.v2, on a miniature of its layout: names, official splits, fronts, categories by any name."""

import json

import numpy as np
import pytest

from ln3d.config.render import CollectionConfig, DatasetConfig, LimitsConfig, SplitConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.splits import assign_splits
from ln3d.errors import MeshError, RecipeError

LIMITS = LimitsConfig()
OBJ = (
    "mtllib model_normalized.mtl\nv 0.1 0 0.3\nv 0.2 0 0\nv 0 0.4 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
)
TAXONOMY = [
    {"synsetId": "02958343", "name": "car,auto,automobile,machine", "children": ["04285008"], "numInstances": 3},
    {"synsetId": "04285008", "name": "sports car,sport car", "children": [], "numInstances": 1},
    {"synsetId": "03797390", "name": "mug", "children": [], "numInstances": 1},
    {"synsetId": "02992529", "name": "cellular telephone,mobile phone", "children": [], "numInstances": 1},
]
SPLIT = (
    "id,synsetId,subSynsetId,modelId,split\n1,02958343,04285008,aa1,train\n2,2958343,02958343,bb2,val\n"
    "3,02958343,04285008,cc3,test\n"
)


@pytest.fixture
def root(tmp_path):
    from PIL import Image

    for name in ("02958343/aa1", "02958343/bb2", "02958343/cc3", "02958343/dd4", "02992529/ee5"):
        (tmp_path / name / "models").mkdir(parents=True)
        (tmp_path / name / "images").mkdir()
        (tmp_path / name / "models/model_normalized.obj").write_text(OBJ)
        (tmp_path / name / "models/model_normalized.mtl").write_text("newmtl m\nmap_Kd ../images/t.png\n")
        Image.new("RGB", (2, 2), (1, 2, 250)).save(tmp_path / name / "images/t.png")
    (tmp_path / "taxonomy.json").write_text(json.dumps(TAXONOMY))
    (tmp_path / "all.csv").write_text(SPLIT)
    return tmp_path


def listed(root, *categories):
    return list_objects(
        DatasetConfig(collections=(CollectionConfig(kind="shapenet", path=str(root), categories=categories),))
    )


def test_names_are_the_taxonomys(root):
    first, plain, *_, phone = listed(root)
    assert (first.source_id, first.name, first.category) == ("shapenet/02958343/aa1", "sports car", "car")
    assert first.captions == ("a sports car", "a car", "a sports car, a car")
    assert (plain.name, plain.captions) == ("car", ("a car",))
    assert (phone.category, phone.captions) == ("cellular telephone", ("a cellular telephone",))


def test_the_official_split_wins_and_the_rest_is_the_recipes(root):
    found = listed(root)
    assert [entry.official_split for entry in found] == ["train", "validation", "test", "", ""]
    splits = assign_splits(found, SplitConfig(validation=0, test=0.999999))
    assert splits == ["train", "validation", "test", "test", "test"]
    assert assign_splits(found, SplitConfig(validation=0, test=0))[2:] == ["test", "train", "train"]
    assert {entry.stamp for entry in found} == {("train",), ("validation",), ("test",), ()}


@pytest.mark.parametrize("name", ["02958343", "car", "automobile", "AUTO"])
def test_categories_by_synset_word_or_lemma(root, name):
    assert [entry.category for entry in listed(root, name)] == ["car"] * 4


def test_unknown_categories_get_a_suggestion(root):
    with pytest.raises(RecipeError, match="no category 'carr'; did you mean 'car'") as caught:
        listed(root, "carr")
    assert "cellular telephone" in caught.value.hint
    with pytest.raises(RecipeError, match="no category 'mug'"):  # in the taxonomy, but not in this folder
        listed(root, "mug")


def test_without_taxonomy_and_split(root):
    (root / "taxonomy.json").unlink()
    (root / "all.csv").unlink()
    found = listed(root)
    assert [entry.category for entry in found] == ["car"] * 4 + ["02992529"]
    assert all(entry.official_split == "" and entry.stamp == () for entry in found)


def test_the_front_is_turned_to_plus_z_and_textures_are_found_in_the_models_folder(root):
    (part,) = load_object(listed(root)[0], LIMITS).parts
    np.testing.assert_allclose(part.vertices, [[-0.1, 0, -0.3], [-0.2, 0, 0], [0, 0.4, 0]], atol=1e-6)
    assert part.texture[0, 0, :3].tolist() == [1, 2, 250]


def test_a_model_reads_nothing_of_its_neighbour(root):
    (root / "02958343/aa1/models/model_normalized.mtl").write_text("newmtl m\nmap_Kd ../../bb2/images/t.png\n")
    with pytest.raises(MeshError, match="outside"):
        load_object(listed(root)[0], LIMITS)


def test_a_missing_model_is_a_rejection(root):
    (root / "02958343/aa1/models/model_normalized.obj").unlink()
    with pytest.raises(MeshError, match="no such file"):
        load_object(listed(root)[0], LIMITS)


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("taxonomy.json", "[{}]", "not ShapeNet's taxonomy"),
        ("taxonomy.json", "{", "not ShapeNet's taxonomy"),
        ("all.csv", "id,modelId\n1,aa1\n", "not ShapeNet's split"),
        ("all.csv", SPLIT.replace("val\n", "holdout\n"), "not ShapeNet's split"),
    ],
)
def test_damaged_tables(root, file, text, message):
    (root / file).write_text(text)
    with pytest.raises(RecipeError, match=message):
        listed(root)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "chairs").mkdir()
    with pytest.raises(RecipeError, match="no folders named by a synset"):
        listed(tmp_path)
