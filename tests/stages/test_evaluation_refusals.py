"""What cannot be evaluated is one clear line with the remedy, and objects that are broken cost themselves alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.cli.app import app
from ln3d.config.load import recipe_from_dict
from ln3d.errors import ArtifactError, DivergedError, RecipeError, WeightsError
from ln3d.export.mesh import Mesh, write_mesh
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages import evaluate
from ln3d.stages.evaluation_store import Store
from ln3d.stages.reference import Reference
from ln3d.talk import Talk

pytestmark = pytest.mark.usefixtures("in_this_process")
SMALL = ("evaluation.views=3", "evaluation.image_resolution=16", "evaluation.samples=3", "evaluation.points=128")
BROKEN = {
    "a_point.obj": "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n",
    "a_line.obj": "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n",
    "no_number.obj": "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    "no_face.obj": "v 0 0 0\nv 1 0 0\nv 0 1 0\n",
    "no_vertex.obj": "v 0 0 0\nf 1 2 3\n",
    "empty.glb": "",
}


def _scored(metric: str, root: Path, kept: Path, **given: Any) -> dict[str, Any]:
    model = None if "meshes" in given else given.pop("model", root)
    reference = {"reference": root} if "meshes" in given else {}
    return evaluate.run(metric, model, Talk(0), overrides=SMALL, workspace=kept, **reference, **given)


def _boxes(folder: Path, count: int) -> Path:
    folder.mkdir()
    corners = torch.tensor([[n & 1, n >> 1 & 1, n >> 2] for n in range(8)]).float().numpy()
    quads = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
    faces = torch.tensor([[q[0], *pair] for q in quads for pair in (q[1:3], q[2:])]).numpy()
    for number in range(count):
        box = Mesh((corners * [1, 0.2 + 0.2 * number, 0.5]).astype("float32"), faces)
        write_mesh(box, folder / f"box_{number}.ply")
    return folder


def test_degenerate_meshes_are_counted_and_left_out(root: Path, tmp_path: Path) -> None:
    whole = _scored("cov", root, tmp_path / "a", meshes=_boxes(tmp_path / "whole", 2))
    mixed = _boxes(tmp_path / "mixed", 2)
    for name, text in BROKEN.items():
        (mixed / name).write_text(text)
    found = _scored("cov", root, tmp_path / "b", meshes=mixed)["details"]
    assert (found["generated"], found["failed"]) == (2, len(BROKEN))
    assert found["mmd"] == whole["details"]["mmd"] and found["cov"] == whole["details"]["cov"]


@pytest.mark.parametrize("name", BROKEN)
def test_where_too_few_are_left_the_first_reason_is_said(root: Path, tmp_path: Path, name: str) -> None:
    (_boxes(tmp_path / "meshes", 1) / name).write_text(BROKEN[name])
    with pytest.raises(DivergedError, match=rf"1 of 2 samples have no surface: {name}: ") as caught:
        _scored("cov", root, tmp_path / "w", meshes=tmp_path / "meshes")
    assert caught.value.hint.startswith("mend the meshes") and "\n" not in caught.value.message


@pytest.mark.parametrize("metric", ["cov", "mmd", "nna"])
def test_one_mesh_is_no_set(root: Path, tmp_path: Path, metric: str) -> None:
    with pytest.raises(RecipeError, match=f"{metric} of 1 object of meshes has no meaning: two at least") as caught:
        _scored(metric, root, tmp_path / "w", meshes=_boxes(tmp_path / "meshes", 1))
    assert "folder with more" in caught.value.hint


def test_a_category_of_one_shape_is_too_few(root: Path, tmp_path: Path) -> None:
    reference = Reference(Workspace(root), Workspace(root).open("shards"), (), Store(tmp_path))
    sizes = {name: len({r.shape_id for r in reference.objects(name)}) for name in reference.categories()}
    single = next(name for name, size in sizes.items() if size == 1)
    with pytest.raises(RecipeError, match=f"only 1 shape of category {single}: two at least are needed") as caught:
        _scored("cov", root, tmp_path / "w", category=single)
    assert "--category" in caught.value.hint


def test_missing_weights_name_the_command_that_brings_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path / "cache"))
    for metric, command in (("fid", "ln3d fetch inception"), ("kid", "ln3d fetch inception"), ("lpips", "ln3d fetch")):
        with pytest.raises(WeightsError) as caught:
            _scored(metric, root, tmp_path / "w")
        assert command in caught.value.hint and "\n" not in caught.value.message


def test_a_denoiser_of_another_vae_is_refused(root: Path, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other")
    other.root.mkdir()
    for kind in ("shards", "denoiser"):
        other.path(kind).symlink_to((root / kind).resolve())
    torch.manual_seed(1)
    recipe = recipe_from_dict(Workspace(root).open("vae").manifest.recipe)
    inputs = {"shards": other.open("shards")}
    with publish(other.path("vae"), "vae", recipe=recipe, inputs=inputs, details={"iso": 5.0}) as to:
        save_tensors(to / "weights.safetensors", dict(Autoencoder(recipe.vae).state_dict()))
    with pytest.raises(ArtifactError, match="was trained on the latents of the VAE") as caught:
        _scored("cov", other.root, tmp_path / "w")
    assert "ln3d train-diffusion" in caught.value.hint


def test_the_command_line_says_it_in_two_lines(root: Path, tmp_path: Path) -> None:
    for arguments, code, words in (
        (["cov", "--category", "vase"], 2, "there is no object of category vase"),
        (["cov", "--count", "1"], 2, "cov of 1 sample has no meaning"),
        (["cov", "--meshes", str(tmp_path / "none")], 2, "no such folder"),
    ):
        place = ["--reference", str(root)] if "--meshes" in arguments else ["--model", str(root)]
        result = CliRunner().invoke(app, ["eval", *arguments, *place, "-w", str(tmp_path / "w"), "-q"])
        lines = result.stderr.splitlines()
        assert result.exit_code == code and len(lines) == 2, result.stderr
        assert lines[0].startswith("error: ") and words in lines[0] and lines[1].startswith("hint: ")
        assert not list((tmp_path / "w").rglob("report.json"))
