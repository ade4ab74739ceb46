"""Imported pictures as shards: the same members as our own renders, and what they lack is said and heeded."""

import json

import numpy as np
import pytest
from layouts import truth_of, write_eg3d, write_gobjaverse, write_nerf, write_srn

from ln3d.artifacts.workspace import Workspace
from ln3d.config.render import CollectionConfig
from ln3d.config.vae import VaeConfig
from ln3d.data.batches import VaeBatches, input_views
from ln3d.data.lacking import check_lacks
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, RecipeError
from ln3d.stages import render_dataset
from ln3d.talk import Talk

SIDE, VIEWS = 16, 6


def run(recipe, place, *collections, **changes):
    values = {"collections": collections, "resolution": SIDE, **changes}
    recipe = recipe.model_copy(update={"dataset": recipe.dataset.model_copy(update=values)})
    workspace = Workspace(place)
    return recipe, workspace, render_dataset.run(recipe, workspace, Talk(0), workers=1)


@pytest.fixture(scope="module")
def truth():
    return truth_of("car", SIDE, VIEWS)


@pytest.fixture(scope="module")
def imported(truth, tiny_recipe, tmp_path_factory):
    """Return the published shards of one object in three layouts."""
    root = tmp_path_factory.mktemp("imported")
    write_nerf(truth, root / "nerf/toy")
    write_srn(truth, root / "srn/cars_test/toy")
    write_gobjaverse(truth, root / "gob/Cars/0/1")
    kinds = (("gobjaverse", "gob"), ("nerf", "nerf"), ("srn", "srn"))
    collections = [CollectionConfig(kind=kind, path=str(root / name)) for kind, name in kinds]
    recipe = tiny_recipe(f"dataset.cameras.views={VIEWS}")
    return run(recipe, root / "run", *collections)


def test_what_is_missing_is_said(imported):
    _, workspace, summary = imported
    assert summary["objects"] == 3 and summary["lacks"] == ["depth", "normal"] and summary["rejected"] == 0
    shards = ShardSet(workspace.open("shards"))
    assert [record.lacks for record in shards.objects] == [(), ("depth", "normal"), ("depth", "normal")]
    assert shards.lacks == ("depth", "normal") and [record.split for record in shards.objects][2] == "test"
    described = json.loads(shards.member(1, "json"))
    assert described["lacks"] == ["depth", "normal"] and "lacks" not in json.loads(shards.member(0, "json"))


def test_members_are_those_of_our_own_renders(imported, truth):
    shards = ShardSet(imported[1].open("shards"))
    for view in range(VIEWS):
        np.testing.assert_array_equal(shards.colour(1, view), truth.views.colour[view])
        solid = truth.views.colour[view][..., 3] == 255
        np.testing.assert_allclose(shards.depth(0, view)[solid], truth.views.depth[view][solid], atol=1e-4)
        np.testing.assert_allclose(shards.normal(0, view)[solid], truth.views.normal[view][solid], atol=1e-2)
    for i in range(3):
        np.testing.assert_allclose(shards.camera_to_world(i), truth.camera_to_world, atol=1e-5)
        np.testing.assert_allclose(shards.intrinsics(i), truth.intrinsics, atol=1e-5)
    assert shards.objects[0].colours and shards.objects[1].colours == shards.objects[0].colours


def test_ids_of_pictures_are_refused_before_anything_is_drawn(truth, tiny_recipe, tmp_path):
    write_nerf(truth, tmp_path / "nerf/toy")
    collections = CollectionConfig(kind="parametric", limit=1), CollectionConfig(kind="nerf", path=f"{tmp_path}/nerf")
    recipe = tiny_recipe(f"dataset.cameras.views={VIEWS}")
    with pytest.raises(RecipeError, match="dataset.ids: nerf/toy comes as pictures") as error:
        run(recipe, tmp_path / "run", *collections, ids=True)
    assert "dataset.ids: false" in error.value.hint and not (tmp_path / "run").exists()
    assert run(recipe, tmp_path / "run", collections[0], ids=True)[2]["objects"] == 1


def test_asking_for_what_is_missing_names_the_object(imported):
    shards = ShardSet(imported[1].open("shards"))
    for look in (shards.depth, shards.normal):
        with pytest.raises(ArtifactError, match="nerf/toy has no (depth|normal)"):
            look(1, 0)
    colour, alpha, depth = Pictures(shards).stack(1, [0, 1])
    assert np.isfinite(colour).all() and alpha.any() and not depth.any()


def test_a_recipe_that_needs_depth_is_refused_with_all_that_has_to_change(imported):
    recipe, workspace, _ = imported
    shards = ShardSet(workspace.open("shards"))
    with pytest.raises(RecipeError, match="without depth") as caught:
        VaeBatches(shards, [1], recipe.vae, 0)
    for change in ("vae.encoder.kind=image", "vae.losses.depth=0", "vae.renderer.guided_fine=0"):
        assert change in caught.value.hint
    with pytest.raises(ArtifactError, match="nerf/toy has no depth"):
        input_views(Pictures(shards), 1, [0, 1], recipe.vae, np.eye(3, dtype=np.float32))


def test_a_recipe_without_depth_takes_them(imported, tiny_recipe):
    changes = "encoder.kind=image encoder.depth=false losses.depth=0 losses.surface=0 renderer.guided_fine=0"
    recipe = tiny_recipe(*(f"vae.{change}" for change in changes.split()))
    shards = ShardSet(imported[1].open("shards"))
    batch = VaeBatches(shards, [0, 1, 2], recipe.vae, 0)(0, 0, range(2))
    assert all(bool(value.isfinite().all()) for value in batch.values())
    check_lacks(recipe.vae, ("depth", "normal"))
    with pytest.raises(RecipeError, match="without mask") as caught:
        check_lacks(recipe.vae, ("mask", "normal"))
    assert caught.value.hint == "set vae.losses.alpha=0"
    check_lacks(VaeConfig(), ())


def test_running_again_is_up_to_date_until_a_file_changes(imported, truth, tiny_recipe):
    recipe, workspace, summary = imported
    assert render_dataset.run(recipe, workspace, Talk(0))["id"] == summary["id"]
    folder = workspace.root.parent / "nerf/toy"
    (folder / "transforms.json").write_text((folder / "transforms.json").read_text() + " ")
    try:
        with pytest.raises(ArtifactError, match="other inputs"):
            render_dataset.run(recipe, workspace, Talk(0))
    finally:
        write_nerf(truth, folder)
    assert render_dataset.run(recipe, workspace, Talk(0))["id"] == summary["id"]


def test_single_pictures_with_lenses_too_long_for_our_own_cameras(truth, tiny_recipe, tmp_path):
    write_eg3d(truth, tmp_path / "ffhq")
    collection = CollectionConfig(kind="eg3d", path=str(tmp_path / "ffhq"))
    recipe = tiny_recipe("dataset.cameras={views: 1, radius: 5.4, field_of_view: 13.37}")
    _, workspace, summary = run(recipe, tmp_path / "run", collection)
    assert summary["objects"] == 2 * VIEWS and summary["lacks"] == ["depth", "mask", "normal"]
    record = ShardSet(workspace.open("shards")).objects[0]
    assert record.colours == () and record.captions == ("a face",)
