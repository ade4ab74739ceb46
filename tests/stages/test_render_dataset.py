import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, LimitsConfig, SplitConfig
from ln3d.data import engines
from ln3d.data.collections.catalogue import list_objects
from ln3d.data.shards import ShardSet
from ln3d.data.unfinished import WHOLE, Part
from ln3d.data.workers import Outcome
from ln3d.errors import ArtifactError, MeshError, RecipeError
from ln3d.stages import render_dataset, shard_mark
from ln3d.talk import Talk

QUIET = Talk(0)


def recipe(**changes):
    dataset = {
        "collections": (CollectionConfig(kind="parametric", limit=9),),
        "cameras": CameraConfig(views=3),
        "resolution": 16,
        "objects_per_shard": 4,
        "split": SplitConfig(validation=0.2, test=0.2),
    }
    return Recipe(name="tiny", dataset=DatasetConfig(**{**dataset, **changes}))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "manifest.json"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    return workspace, render_dataset.run(recipe(), workspace, QUIET, workers=1)


def test_what_is_returned_is_what_is_published(whole):
    workspace, result = whole
    shards = ShardSet(workspace.open("shards", verify=True))
    assert json.loads(json.dumps(result)) == result
    assert (result["objects"], result["rejected"], result["views"]) == (9, 0, 3)
    assert sum(result["categories"].values()) == 9
    assert result["id"] == workspace.open("shards").id
    assert len(shards) == 9
    assert (shards.views, shards.resolution) == (3, 16)
    assert not workspace.partial("shards").exists()


def test_the_pictures_are_those_of_the_objects(whole):
    shards = ShardSet(whole[0].open("shards"))
    for record in shards.objects:
        paint = record.source_id.rsplit("/", 1)[1]
        assert record.captions[0].startswith(("a ", "an "))
        assert record.colours[0] in record.captions[0]
        assert paint in record.colours
        for view in range(shards.views):
            colour, depth = shards.colour(record.index, view), shards.depth(record.index, view)
            assert 0.02 < (depth > 0).mean() < 0.8
            assert (colour[..., 3][depth > 0] > 0).mean() > 0.95
            assert 3.2 - 0.91 < depth[depth > 0].min() < depth.max() < 3.2 + 0.91


def test_the_contact_sheet_is_a_picture(whole):
    with Image.open(whole[0].path("shards") / "contact.png") as sheet:
        assert sheet.width > 300
        assert np.asarray(sheet).std() > 10


def test_two_workers_give_the_same_bytes(whole, tmp_path):
    workspace = Workspace(tmp_path)
    result = render_dataset.run(recipe(), workspace, QUIET, workers=2)
    assert contents(workspace.path("shards")) == contents(whole[0].path("shards"))
    assert result["id"] == whole[1]["id"]


def test_again_it_is_up_to_date_and_another_recipe_is_refused(whole):
    workspace, result = whole
    before = os.stat(workspace.path("shards") / "manifest.json").st_mtime_ns
    assert render_dataset.run(recipe(), workspace, QUIET) == result
    with pytest.raises(ArtifactError, match="another recipe"):
        render_dataset.run(recipe(resolution=32), workspace, QUIET)
    assert os.stat(workspace.path("shards") / "manifest.json").st_mtime_ns == before


_RUN = """
import sys
from pathlib import Path
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.stages import render_dataset, shard_mark
from ln3d.talk import Talk

render_dataset.run(Recipe.model_validate_json(sys.argv[1]), Workspace(Path(sys.argv[2])), Talk(0), workers=1)
"""


@pytest.mark.parametrize("drawn", [1, 6])
def test_killed_and_run_again_it_gives_the_same_bytes(whole, tmp_path, drawn):
    workspace = Workspace(tmp_path)
    command = [sys.executable, "-c", _RUN, recipe().model_dump_json(), str(tmp_path)]
    child = subprocess.Popen(command, start_new_session=True)
    partial, patience = workspace.partial("shards"), time.monotonic() + 60
    while child.poll() is None and time.monotonic() < patience:
        if len(list(partial.glob("objects/*.run"))) + 4 * len(list(partial.glob("result/*.index.json"))) >= drawn:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    child.wait()
    render_dataset.run(recipe(), workspace, QUIET, workers=2)
    assert contents(workspace.path("shards")) == contents(whole[0].path("shards"))


class Inline:
    """Stands in for the pool of processes where they are not what is tested."""

    def __init__(self, make, workers, seconds, memory_bytes):
        self.make = make

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, tasks):
        for task in tasks:
            yield Outcome(task, self.make(task))


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(engines, "GuardedPool", Inline)


@pytest.mark.parametrize("order", [(2, 1), (3, 1, 2), (1, 5, 2, 4, 3)])
def test_parts_give_the_same_bytes_in_any_order(whole, tmp_path, order, inline):
    workspace = Workspace(tmp_path)
    for index in order[:-1]:
        drawn = render_dataset.run(recipe(), workspace, QUIET, workers=1, part=Part(index, len(order)))
        assert json.loads(json.dumps(drawn)) == drawn and not workspace.has("shards")
        assert drawn["part"] == f"{index}/{len(order)}"
        assert drawn["objects"] == {1: 4, 2: 4, 3: 1}.get(index, 0) + (1 if (index, len(order)) == (1, 2) else 0)
    last = Part(order[-1], len(order))
    result = render_dataset.run(recipe(), workspace, QUIET, workers=2, part=last)
    assert contents(workspace.path("shards")) == contents(whole[0].path("shards"))
    assert result["id"] == whole[1]["id"]
    assert not workspace.partial("shards").exists()
    for part in (Part(1, len(order)), WHOLE):
        assert render_dataset.run(recipe(), workspace, QUIET, part=part) == result


def test_the_renderer_is_tried_only_where_a_mesh_is_to_be_drawn(tmp_path, inline, monkeypatch):
    tried, workspace = [], Workspace(tmp_path)
    monkeypatch.setattr(render_dataset, "check_renderer", tried.append)
    monkeypatch.setattr(render_dataset, "needs_renderer", lambda entry: entry.category == "plane")
    for number, planes in enumerate([1, 0, 1], 1):  # shards of four objects, in which a plane comes every fifth time
        for to_draw in (planes, 0):  # the second time all of it is drawn
            tried.clear()
            render_dataset.run(recipe(), workspace, QUIET, part=Part(number, 3))
            assert tried == ["embree"] * to_draw
    assert workspace.has("shards")


def test_a_renderer_that_is_missing_is_said_and_spares_what_was_drawn(tmp_path, inline, monkeypatch):
    workspace = Workspace(tmp_path)
    render_dataset.run(recipe(), workspace, QUIET, part=Part(1, 3))
    drawn = sorted((workspace.partial("shards") / "result").iterdir())

    def check(name):
        raise RecipeError(f"no {name}", "Install it.")

    monkeypatch.setattr(render_dataset, "check_renderer", check)
    with pytest.raises(RecipeError, match="no embree"):
        render_dataset.run(recipe(), workspace, QUIET)
    assert sorted((workspace.partial("shards") / "result").iterdir()) == drawn
    assert not [*workspace.partial("shards").glob("rejected/*")]


def test_what_parts_left_is_finished_by_the_whole_command(whole, tmp_path, inline):
    workspace = Workspace(tmp_path)
    render_dataset.run(recipe(), workspace, QUIET, workers=1, part=Part(2, 3))
    kept = {path.name: path.stat().st_mtime_ns for path in (workspace.partial("shards") / "result").iterdir()}
    assert set(kept) == {"shard-00001.tar", "shard-00001.index.json"}
    result = render_dataset.run(recipe(), workspace, QUIET, workers=1)
    assert result["id"] == whole[1]["id"]
    assert {name: (workspace.path("shards") / name).stat().st_mtime_ns for name in kept} == kept


def test_processes_that_would_draw_the_same_are_kept_apart(tmp_path, inline):
    workspace = Workspace(tmp_path)

    def run(part):
        return render_dataset.run(recipe(), workspace, QUIET, workers=1, part=part)

    with workspace.lock("render-dataset.1-of-3"):
        for part in (Part(1, 3), Part(2, 4), WHOLE):
            with pytest.raises(ArtifactError, match="being written by process"):
                run(part)
        assert run(Part(3, 3))["objects"] == 1
    with workspace.lock("render-dataset"), pytest.raises(ArtifactError, match="being written by process"):
        run(Part(1, 3))


def test_parts_at_once_publish_once(whole, tmp_path):
    program = _RUN.replace("workers=1", "workers=1, part=Part(int(sys.argv[3]), 3)").replace(
        "from ln3d.talk", "from ln3d.data.unfinished import Part\nfrom ln3d.talk"
    )
    command = [sys.executable, "-c", program, recipe().model_dump_json(), str(tmp_path)]
    children = [subprocess.Popen([*command, str(index)]) for index in (1, 2, 3)]
    assert [child.wait(timeout=300) for child in children] == [0, 0, 0]
    assert contents(Workspace(tmp_path).path("shards")) == contents(whole[0].path("shards"))


def test_only_what_is_named_is_drawn(tmp_path):
    names = [entry.source_id for entry in list_objects(recipe().dataset)]
    plan = render_dataset.run(recipe(), Workspace(tmp_path), QUIET, only=["parametric/car/*", names[0]], dry_run=True)
    wanted = [name for name in names if name.startswith("parametric/car/")]
    assert plan["objects"] == len({*wanted, names[0]}) and set(plan["categories"]) == {"car", names[0].split("/")[1]}
    with pytest.raises(RecipeError, match="no object is called"):
        render_dataset.run(recipe(), Workspace(tmp_path), QUIET, only=["parametric/zeppelin/*"], dry_run=True)


def test_keys_that_came_later_leave_the_fingerprint_of_older_shards_alone():
    how = shard_mark._how(DatasetConfig())
    assert how == {
        "cameras": {"layout": "sphere", "views": 24, "radius": 3.2, "field_of_view": 36.0, "elevation": 20.0},
        "resolution": 64,
        "supersampling": 2,
        "lighting": "rig",
        "objects_per_shard": 64,
        "limits": {
            "seconds": 60.0,
            "faces": 1_000_000,
            "texture_pixels": 64_000_000,
            "file_bytes": 512_000_000,
            "memory_bytes": 8_000_000_000,
        },
        "split": {"validation": 0.03, "test": 0.07},
    }
    assert shard_mark._how(DatasetConfig(captions="described")) == {**how, "captions": "described"}


def test_another_rule_of_captions_makes_other_shards(monkeypatch):
    first = shard_mark.shards_mark(recipe(), [])
    monkeypatch.setattr(shard_mark, "RULE", shard_mark._FIRST_RULE)
    assert "caption_rule" not in shard_mark._how(recipe().dataset) and shard_mark.shards_mark(recipe(), []) == first
    marks = set()
    for rule in (1, 2, 3):
        monkeypatch.setattr(shard_mark, "RULE", rule)
        marks.add(shard_mark.shards_mark(recipe(), []))
    assert len(marks) == 3


def test_shards_of_an_older_rule_of_captions_are_not_up_to_date(whole, tmp_path, inline, monkeypatch):
    begun = Workspace(tmp_path)
    render_dataset.run(recipe(), begun, QUIET, part=Part(1, 3))
    monkeypatch.setattr(shard_mark, "RULE", shard_mark.RULE + 1)
    with pytest.raises(ArtifactError, match="made with another recipe or from other inputs"):
        render_dataset.run(recipe(), whole[0], QUIET)
    with pytest.raises(ArtifactError, match="unfinished shards of another recipe"):
        render_dataset.run(recipe(), begun, QUIET)


def test_described_captions_depend_on_the_seed_and_on_nothing_else(tmp_path, whole, inline):
    one = recipe(captions="described", collections=(CollectionConfig(kind="parametric", limit=2),))
    found = []
    for number, changes in enumerate([{}, {}, {"seed": 1}]):
        workspace = Workspace(tmp_path / str(number))
        render_dataset.run(one.model_copy(update=changes), workspace, QUIET, workers=1)
        found.append([record.captions for record in ShardSet(workspace.open("shards")).objects])
    assert found[0] == found[1] != found[2]
    assert [captions[0] for captions in found[0]] == [captions[0] for captions in found[2]]
    plain = [record.captions for record in ShardSet(whole[0].open("shards")).objects][:2]
    assert all(set(told) - set(said) for told, said in zip(found[0], plain, strict=True))


def test_unfinished_work_of_another_recipe_is_refused(tmp_path):
    partial = Workspace(tmp_path).partial("shards")
    partial.mkdir(parents=True)
    (partial / "state.json").write_text('{"fingerprint": "of something else"}')
    with pytest.raises(ArtifactError, match="another recipe") as error:
        render_dataset.run(recipe(), Workspace(tmp_path), QUIET)
    assert "-w" in error.value.hint


@pytest.fixture
def meshes(tmp_path):
    """A folder with two good meshes and three that nobody can draw."""
    for name, mesh in {"box/one.ply": trimesh.creation.box(), "ball/two.obj": trimesh.creation.icosphere()}.items():
        (tmp_path / "meshes" / name).parent.mkdir(parents=True)
        mesh.export(tmp_path / "meshes" / name)
    (tmp_path / "meshes/box/empty.obj").write_text("")
    (tmp_path / "meshes/box/cut.glb").write_bytes(trimesh.creation.box().export(file_type="glb")[:200])
    (tmp_path / "meshes/box/outside.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    return tmp_path / "meshes"


def test_meshes_that_cannot_be_drawn_are_recorded_with_their_reason(meshes, tmp_path):
    workspace = Workspace(tmp_path / "run")
    result = render_dataset.run(recipe(), workspace, QUIET, meshes=meshes, workers=1)
    assert (result["objects"], result["rejected"]) == (2, 3)
    shards = ShardSet(workspace.open("shards"))
    assert {record.category for record in shards.objects} == {"box", "ball"}
    assert all(rejection.reason for rejection in shards.rejected)
    assert {Path(rejection.source_id).name for rejection in shards.rejected} == {"empty.obj", "cut.glb", "outside.obj"}
    (meshes / "ball/two.obj").write_bytes((meshes / "ball/two.obj").read_bytes().replace(b"0.85", b"0.86", 1))
    with pytest.raises(ArtifactError, match="another recipe or from other inputs"):
        render_dataset.run(recipe(), workspace, QUIET, meshes=meshes)


def test_objects_are_held_out_of_a_folder_and_names_of_replaced_collections_are_left_alone(meshes, capsys, tmp_path):
    def plan(*names):
        split = SplitConfig(validation=0, test=0, held_out=names)
        return render_dataset.run(recipe(split=split), Workspace(tmp_path), Talk(1), meshes=meshes, dry_run=True)

    assert plan("folder/meshes/box/one.ply", "torcs/car1/x")["splits"] == {"train": 4, "test": 1}
    assert "held_out: 1 of 2 names are of collections that --meshes replaces" in capsys.readouterr().err
    assert plan("folder/meshes/ball/two.obj")["splits"] == {"train": 4, "test": 1}
    assert "held_out" not in capsys.readouterr().err
    with pytest.raises(RecipeError, match=r"no object is called folder/meshes/box/on\.ply \(1") as error:
        plan("folder/meshes/box/on.ply", "torcs/car1/x")
    assert error.value.hint == "did you mean folder/meshes/box/one.ply?"


def test_nothing_to_show_is_an_error_that_tells_why(meshes, tmp_path):
    for good in ("box/one.ply", "ball/two.obj"):
        (meshes / good).unlink()
    with pytest.raises(MeshError, match="none of 3 objects could be drawn"):
        render_dataset.run(recipe(), Workspace(tmp_path / "run"), QUIET, meshes=meshes, workers=1)
    assert not Workspace(tmp_path / "run").has("shards")


def test_a_time_limit_that_nothing_can_keep_rejects_everything(tmp_path):
    one = (CollectionConfig(kind="parametric", limit=1),)
    hasty = recipe(limits=LimitsConfig(seconds=0.02), collections=one, resolution=1024, supersampling=4)
    with pytest.raises(MeshError, match="timed out"):
        render_dataset.run(hasty, Workspace(tmp_path), QUIET, workers=1)


def test_dry_run_counts_and_writes_nothing(tmp_path):
    plan = render_dataset.run(recipe(), Workspace(tmp_path / "run"), QUIET, limit=5, dry_run=True)
    assert json.loads(json.dumps(plan)) == plan
    assert (plan["objects"], plan["views"], plan["pictures"], plan["shards"]) == (5, 3, 15, 2)
    assert sum(plan["categories"].values()) == 5
    assert len(plan["categories"]) == 5
    assert plan["estimated_bytes"] > 0
    assert not (tmp_path / "run").exists()


def test_estimated_bytes_are_about_right(whole):
    plan = render_dataset.run(recipe(), whole[0], QUIET, dry_run=True)
    written = sum(path.stat().st_size for path in whole[0].path("shards").glob("*.tar"))
    assert 0.4 < plan["estimated_bytes"] / written < 2.5


def test_torch_is_not_imported_to_draw_meshes():
    """It takes seconds and memory of every process, and its build for CUDA starts programs as it is imported."""
    code = "import sys, ln3d.stages.render_dataset, ln3d.data.worker_process; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
