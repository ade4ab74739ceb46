"""Fixed lists of objects: who is scored, what is said beside, and what is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages import evaluate
from ln3d.stages.listed_objects import listed_objects
from ln3d.talk import Talk

RecipeOf = Callable[..., Recipe]
QUIET = Talk(0)


def _lists(shards: ShardSet) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return all training and test objects, the training objects in two groups, last first."""
    names = {split: [r.source_id for r in shards.objects if r.split == split][::-1] for split in ("train", "test")}
    assert len(names["train"]) >= 4 and names["test"]
    train = {"some": tuple(names["train"][:1]), "others": tuple(names["train"][1:])}
    return {"train": train, "test": {"all of them": tuple(names["test"])}}


def test_objects_come_as_they_are_listed_and_groups_take_turns(tiny_shards: ShardSet) -> None:
    lists = _lists(tiny_shards)
    found = listed_objects(tiny_shards.objects, lists, None)
    assert {s: {g: tuple(r.source_id for r in rs) for g, rs in groups.items()} for s, groups in found.items()} == lists
    three = listed_objects(tiny_shards.objects, lists, None, 3)["train"]
    assert {group: len(records) for group, records in three.items()} == {"some": 1, "others": 2}
    assert three["others"] == found["train"]["others"][:2]
    category = tiny_shards.objects[0].category
    kept = listed_objects(tiny_shards.objects, lists, category)
    assert {r.category for groups in kept.values() for rs in groups.values() for r in rs} == {category}


def test_an_object_that_was_trained_on_is_not_scored_as_held_out(tiny_shards: ShardSet) -> None:
    trained = _lists(tiny_shards)["train"]["some"][0]
    with pytest.raises(RecipeError, match="is listed as a test object, and its split is train"):
        listed_objects(tiny_shards.objects, {"test": {"": (trained,)}}, None)
    with pytest.raises(RecipeError, match="have no object nowhere/1"):
        listed_objects(tiny_shards.objects, {"train": {"": ("nowhere/1",)}}, None)


@pytest.fixture
def workspace(own_run: Workspace, tiny_recipe: RecipeOf) -> Workspace:
    torch.manual_seed(0)
    inputs, recipe = {"shards": own_run.open("shards")}, tiny_recipe()
    with publish(own_run.path("vae"), "vae", recipe=recipe, inputs=inputs, details={"iso": 2.0}) as scratch:
        save_tensors(scratch / "weights.safetensors", dict(Autoencoder(recipe.vae).state_dict()))
    return own_run


def test_a_report_of_a_list_has_its_groups_its_baselines_and_a_sheet_of_each_group(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path / "nothing was fetched"))
    lists = _lists(ShardSet(workspace.open("shards")))
    (tmp_path / "list.json").write_text(json.dumps(lists))
    plain = evaluate.run("psnr", workspace.root, QUIET, count=99, output=tmp_path / "plain")
    report = evaluate.run("psnr", workspace.root, Talk(1), objects=tmp_path / "list.json", output=tmp_path / "listed")
    assert "no lpips" in capsys.readouterr().err
    assert list(report["details"]["train"]["groups"]) == ["some", "others"]
    assert report["protocol"]["objects"] == plain["protocol"]["objects"]
    for split in ("train", "test"):
        ours, theirs = report["details"][split]["all"], plain["details"][split]["all"]
        assert {name: ours[name] for name in theirs if not name.endswith("interval")} == pytest.approx(
            {name: value for name, value in theirs.items() if not name.endswith("interval")}, nan_ok=True
        )
        for name in ("flat", "common"):
            better = max(ours["white_psnr_masked"], ours[f"{name}_psnr_masked"])
            assert ours[f"above_{name}"] == pytest.approx(ours["psnr_masked"] - better)
        assert ours["flat_psnr_masked"] > ours["common_psnr_masked"]  # no one colour is better than an object's own
    counts = [report["details"][split]["all"]["saturated"] for split in ("train", "test")]
    assert report["saturated"]["count"] == sum(counts)
    assert not report["saturated"]["enough"]
    files = open_artifact(tmp_path / "listed", "report", verify=True).manifest.files
    assert {name for name in files if name.startswith("contact-")} == {
        "contact-some.png", "contact-others.png", "contact-all of them.png"
    }  # fmt: skip
    again = evaluate.run("psnr", workspace.root, QUIET, objects=tmp_path / "list.json", output=tmp_path / "listed")
    assert again == report


def test_a_list_of_held_out_objects_alone_has_their_figures_and_none_of_training_objects(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = _lists(ShardSet(workspace.open("shards")))
    figures = {}
    for name, chosen in {"both": lists, "test": {"test": lists["test"]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(chosen))
        figures[name] = evaluate.run("psnr", workspace.root, Talk(1), objects=tmp_path / f"{name}.json")
    alone, row = figures["test"], figures["test"]["details"]["test"]["all"]
    assert alone["psnr"] == row["psnr"] == figures["both"]["details"]["test"]["all"]["psnr"] != figures["both"]["psnr"]
    assert alone["interval"] == row["psnr_interval"]
    assert alone["protocol"]["mean"].endswith("over the test objects")
    assert alone["details"]["train"] == {"all": {"count": 0}, "categories": {}}
    assert row["above_flat"] == figures["both"]["details"]["test"]["all"]["above_flat"]
    assert row["above_common"] is None and "common_psnr_masked" not in row
    assert "report/psnr-list-" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="no object of the list to reconstruct"):
        evaluate.run("psnr", workspace.root, QUIET, objects=tmp_path / "test.json", category=_elsewhere(workspace))


def _elsewhere(workspace: Workspace) -> str:
    """Return a category that has no test object."""
    objects = ShardSet(workspace.open("shards")).objects
    return min({r.category for r in objects} - {r.category for r in objects if r.split == "test"})


def test_a_list_is_for_reconstructions(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cov is not measured on a list of objects"):
        evaluate.run("cov", workspace.root, QUIET, objects=tmp_path / "list.json")


def test_reports_without_a_list_say_what_they_always_said(workspace: Workspace, tmp_path: Path) -> None:
    report = evaluate.run("psnr", workspace.root, QUIET, count=1, output=tmp_path / "plain")
    assert "saturated" not in report and "list" not in report["protocol"]
    assert set(report["details"]["train"]) == {"all", "categories"}
    assert set(report["details"]["train"]["all"]) == {
        "count", "psnr", "psnr_interval", "psnr_masked", "iou", "luma_psnr", "chroma_psnr", "white_psnr", "flat_psnr",
        "flat_psnr_masked", "ssim", "ssim_interval", "colour_kept", "hue_kept",
    }  # fmt: skip
    assert math.isfinite(report["psnr"])
