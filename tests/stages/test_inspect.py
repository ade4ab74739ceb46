import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.config.render import CameraConfig
from ln3d.data.members import ObjectRecord, depth_scale, object_members
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.shard_files import tar_blocks, write_shard
from ln3d.data.views import draw
from ln3d.errors import ArtifactError, MeshError, RecipeError
from ln3d.export.mesh import Mesh, write_mesh
from ln3d.geometry.cameras import camera_set
from ln3d.stages.inspect import describe, run
from ln3d.talk import Talk

QUIET = Talk(verbosity=0)
RECIPE = {"name": "tiny", "seed": 7}


OBJECTS = (("car1-red", "car", "train"), ("car1-blue", "car", "train"), ("boat", "boat", "test"))


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three balls, one of which has a wrong camera: its view 5 stands nearer than it was drawn from."""
    root = tmp_path_factory.mktemp("balls")
    poses, k = camera_set(CameraConfig(views=16))
    astray = poses.copy()
    astray[5, :3, 3] *= 0.95
    scale = depth_scale(3.2)
    ball = trimesh.creation.icosphere(4, 0.8)
    vertices, paint = np.asarray(ball.vertices, np.float32), np.float32([0.8, 0.2, 0.2, 1])
    part = Part(vertices, np.asarray(ball.faces, np.int64), uv=None, colours=None, base_colour=paint, texture=None)
    views = draw(Scene([part]), poses, k, 32, 1)
    records = [
        ObjectRecord(n, f"{n:05d}", f"set/{name}", name[:4], name, category, split, (f"a {name}",), "CC0", "", ("red",))
        for n, (name, category, split) in enumerate(OBJECTS)
    ]
    with publish(root / "shards", "shards", recipe=RECIPE) as scratch:
        runs = [object_members(r, views, astray if r.name == "boat" else poses, k, scale) for r in records]
        write_shard(scratch, 0, map(tar_blocks, runs))
        bad = {"category": "car", "name": "bad"}
        reasons = ["a/b.glb: no triangles", "c.obj: no triangles", "timed out after 60 s", "timed out after 61 s"]
        rejected = [
            {"key": f"{n + 3:05d}", "source_id": f"set/x{n}", **bad, "reason": r} for n, r in enumerate(reasons)
        ]
        kept = [{key: value for key, value in asdict(record).items() if key != "index"} for record in records]
        head = {"views": 16, "resolution": 32, "depth_scale": scale, "objects_per_shard": 64}
        (scratch / "catalogue.json").write_text(json.dumps({**head, "objects": kept, "rejected": rejected}))
    return root / "shards"


@pytest.fixture
def workspace(tmp_path: Path, balls: Path) -> Path:
    root = tmp_path / "run"
    shutil.copytree(balls, root / "shards")
    objects = json.loads((balls / "catalogue.json").read_text())["objects"]
    shards = open_artifact(root / "shards")
    with publish(root / "vae", "vae", recipe=RECIPE, inputs={"shards": shards}, details={"iso": 12.5}) as scratch:
        save_tensors(scratch / "weights.safetensors", {"a": torch.zeros(2, 3), "b": torch.zeros(4)})
        (scratch / "metrics.jsonl").write_text('{"step": 10, "loss": 2}\n{"step": 20, "loss": 1.5}\n{"step": 30, "lo')
    inputs = {"shards": shards, "vae": open_artifact(root / "vae")}
    with publish(root / "latents", "latents", recipe=RECIPE, inputs=inputs) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": torch.zeros(3, 3, 4, 8, 8)})
        (scratch / "objects.json").write_text(json.dumps(objects))
    return root


def test_shards_tell_their_objects(workspace: Path) -> None:
    facts = run(workspace / "shards", QUIET)
    assert (facts["what"], facts["kind"], facts["name"], facts["seed"]) == ("artifact", "shards", "tiny", 7)
    assert facts["verified"] is True
    inside = facts["contents"]
    assert (inside["objects"], inside["shapes"], inside["views"], inside["shards"]) == (3, 2, 16, 1)
    assert inside["categories"] == {"car": 2, "boat": 1}
    assert inside["splits"] == {"train": 2, "test": 1}
    assert inside["rejected"] == 4
    assert inside["reasons"] == [
        {"count": 2, "reason": "no triangles", "such_as": "set/x0"},
        {"count": 2, "reason": "timed out after N s", "such_as": "set/x2"},
    ]
    index = json.loads((workspace / "shards" / "shard-00000.index.json").read_text())
    assert list(inside["sizes"]) == ["colour", "depth", "normal", "records"]
    assert sum(inside["sizes"].values()) == sum(length for _, length, _ in index.values())
    assert inside["bytes_per_object"] == pytest.approx(sum(inside["sizes"].values()) / 3, abs=1)


def test_a_wrong_camera_is_found_and_true_ones_are_not(workspace: Path) -> None:
    cameras = run(workspace / "shards", QUIET)["cameras"]
    assert cameras["objects_checked"] == 3 and cameras["pixel"] == pytest.approx(0.065, abs=0.001)
    assert cameras["cloud_thickness"] < 0.1 * cameras["pixel"]
    assert cameras["suspect_views"] >= 1 and cameras["suspects"][0] == cameras["worst"]
    assert {suspect["object"] for suspect in cameras["suspects"]} == {"set/boat"}
    assert all(other["thickness"] < cameras["worst"]["thickness"] / 2 for other in cameras["suspects"][1:])
    assert (cameras["worst"]["object"], cameras["worst"]["view"]) == ("set/boat", 5)
    assert 0.05 < cameras["worst"]["thickness"] < 0.2  # 5 % of the distance is 0.16
    true = run(workspace / "shards", QUIET, only=["set/car*"])["cameras"]
    assert (true["objects_checked"], true["suspect_views"], true["suspects"]) == (2, 0, [])


def test_shards_are_drawn_on_one_sheet(workspace: Path) -> None:
    for name, only, rows in (("all.png", (), 3), ("one.png", ("set/boat",), 1)):
        run(workspace / "shards", QUIET, output=workspace / name, only=only)
        with Image.open(workspace / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert pixels.shape[1] > 6 * 250 and rows * 270 < pixels.shape[0] < rows * 310 + 60
        for axis in ((206, 52, 47), (38, 143, 66), (45, 92, 205)):
            assert (np.abs(pixels - axis).max(axis=-1) < 8).sum() > 50 * rows
    doubt = pixels[:, -280:]
    assert (np.abs(doubt - [204, 26, 31]).max(axis=-1) < 12).sum() > 20  # points of the wrong view are red


def test_only_shards_can_be_drawn(workspace: Path) -> None:
    for place in (workspace, workspace / "vae"):
        for options in ({"output": Path("x.png")}, {"only": ["a"]}):
            with pytest.raises(RecipeError, match="no shards"):
                run(place, QUIET, **options)
    with pytest.raises(RecipeError, match="no picture"):
        run(workspace / "shards", QUIET, output=Path("x.glb"))
    with pytest.raises(RecipeError, match="no object is called"):
        run(workspace / "shards", QUIET, only=["set/ship"])


def test_a_vae_tells_where_it_came_from_and_what_is_in_it(workspace: Path) -> None:
    facts = run(workspace / "vae", QUIET)
    origin = facts["inputs"]["shards"]
    assert (origin["kind"], origin["id"]) == ("shards", open_artifact(workspace / "shards").id)
    assert origin["state"] == "beside it"
    tensors = facts["contents"]["tensors"]["weights.safetensors"]
    assert tensors == {"count": 2, "types": {"F32": 2}, "parameters": 10, "shapes": {"a": [2, 3], "b": [4]}}
    assert facts["contents"]["last_metrics"] == {"step": 20, "loss": 1.5}
    assert facts["details"] == {"iso": 12.5}
    assert facts["files"]["metrics.jsonl"] > 0 and facts["bytes"] == sum(facts["files"].values())


def test_a_workspace_tells_its_artifacts_and_what_does_not_fit(workspace: Path) -> None:
    with publish(workspace / "denoiser.partial" / "step-20", "checkpoint", recipe=RECIPE):
        pass
    whole = run(workspace, QUIET)
    assert [line["name"] for line in whole["artifacts"]] == ["latents", "shards", "vae"]
    assert not any("problem" in line for line in whole["artifacts"])
    assert whole["unfinished"] == [{"name": "denoiser.partial", "sealed": ["step-20"]}]
    with publish(workspace / "vae", "vae", recipe={**RECIPE, "seed": 8}, replace=True):
        pass
    (workspace / "shards" / "shard-00000.tar").unlink()
    latents, shards, _ = run(workspace, QUIET)["artifacts"]
    assert latents["problem"] == "made from another shards, vae than is here"
    assert "shard-00000.tar is missing" in shards["problem"]
    assert run(workspace / "latents", QUIET)["inputs"]["vae"]["state"] == "another one is beside it"


def test_checkpoints_of_a_training_are_artifacts_too(workspace: Path) -> None:
    with publish(workspace / "vae.partial" / "step-20", "checkpoint", recipe=RECIPE, details={"step": 20}) as scratch:
        save_tensors(scratch / "state.safetensors", {"a": torch.zeros(2, dtype=torch.bfloat16)})
    folder = run(workspace / "vae.partial", QUIET)
    assert [(line["name"], line["kind"]) for line in folder["artifacts"]] == [("step-20", "checkpoint")]
    facts = run(workspace / "vae.partial" / "step-20", QUIET)
    assert facts["details"] == {"step": 20}
    assert facts["contents"]["tensors"]["state.safetensors"]["types"] == {"BF16": 1}


def test_samples_and_meshes_tell_prompts_and_failures(tmp_path: Path) -> None:
    with publish(tmp_path / "samples", "samples", recipe=RECIPE) as scratch:
        (scratch / "samples.json").write_text('{"prompts": ["a car"], "seeds": [3], "steps": 25, "guidance": 2.0}')
    assert run(tmp_path / "samples", QUIET)["contents"]["prompts"] == ["a car"]
    mesh = {"watertight": True, "faces": 100, "prompt": "a car"}
    document = {"meshes": [mesh, mesh], "rejected": [{"sample": 1, "reason": "the field is empty"}]}
    with publish(tmp_path / "meshes", "meshes", recipe=RECIPE) as scratch:
        (scratch / "meshes.json").write_text(json.dumps(document))
    inside = run(tmp_path / "meshes", QUIET)["contents"]
    assert (inside["meshes"], inside["watertight"], inside["faces"], inside["rejected"]) == (2, 2, 200, 1)
    assert inside["prompts"] == {"a car": 2} and inside["reasons"] == ["sample 1: the field is empty"]


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_a_mesh_file_is_measured(tmp_path: Path, suffix: str) -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    path = tmp_path / f"x.{suffix}"
    write_mesh(Mesh(vertices, faces, np.zeros((4, 3), np.uint8)), path)
    facts = run(path, QUIET)
    assert (facts["what"], facts["faces"], facts["components"], facts["watertight"]) == ("mesh", 4, 1, True)
    assert facts["volume"] == pytest.approx(1.0)
    assert (facts["lowest"], facts["highest"]) == ([0, 0, 0], [1, 2, 3])


def test_a_flipped_byte_is_an_error_that_names_the_file(workspace: Path) -> None:
    path = workspace / "vae" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors is damaged"):
        run(workspace / "vae", QUIET)


def test_what_is_nothing_known_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0")
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    for name, message in (("gone", "there is no"), ("empty", "holds no artifact"), ("notes.txt", "nothing that ln3d")):
        with pytest.raises(ArtifactError, match=message) as caught:
            run(tmp_path / name, QUIET)
        assert caught.value.hint
    with pytest.raises(ArtifactError, match="no whole safetensors file"):
        run(tmp_path / "cut.safetensors", QUIET)
    with pytest.raises(MeshError):
        run(tmp_path / "bad.ply", QUIET)


def test_facts_are_json_and_text(workspace: Path) -> None:
    for place in (workspace, *(workspace / kind for kind in ("shards", "vae", "latents"))):
        facts = run(place, QUIET)
        assert json.loads(json.dumps(facts)) == facts
        text = describe(facts)
        assert str(place) in text and "{" not in text
    assert "categories  car 2  boat 1" in describe(run(workspace / "shards", QUIET))
    assert "count 2  reason no triangles  such as set/x0" in describe(run(workspace / "shards", QUIET))
