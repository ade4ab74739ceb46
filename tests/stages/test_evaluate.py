"""`eval` on a small workspace: figures that must come out, and errors that say what to do."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.readers.scene import normalised
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, DivergedError, LN3DError, RecipeError
from ln3d.export.mesh import Mesh
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.dit import build_denoiser
from ln3d.stages import contestants, evaluate, render_dataset
from ln3d.stages.evaluation_store import Store
from ln3d.stages.reconstruction_scores import chosen_objects, view_scores
from ln3d.stages.reference import Reference
from ln3d.talk import Talk

RECIPE = Recipe.model_validate(
    {
        "name": "tiny",
        "dataset": {
            "cameras": {"views": 8},
            "resolution": 16,
            "supersampling": 1,
            "split": {"test": 0.3, "validation": 0},
        },
        "vae": {
            "encoder": {"kind": "aligned", "views": 4, "resolution": 16, "width": 8, "multipliers": [1, 2]},
            "latent": {"channels": 2, "resolution": 8},
            "decoder": {"width": 16, "depth": 1, "heads": 2},
            "upsampler": {"kind": "shuffle", "width": 8, "multipliers": [1, 2]},
            "field": {"channels": 8, "hidden": 8},
            "renderer": {"coarse": 8, "fine": 4},
            "supervision": {"held_out_views": [6, 7]},
        },
        "diffusion": {"dit": {"width": 16, "depth": 1, "heads": 2}, "sampler": {"steps": 1}},
        "mesh": {"resolution": 16},
        "evaluation": {"objects": 2, "samples": 4, "points": 256},
    }
)
QUIET = Talk(0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with shards and an untrained model."""
    torch.manual_seed(0)
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    render_dataset.run(RECIPE, workspace, QUIET, workers=1, limit=20)
    inputs = {"shards": workspace.open("shards")}
    with publish(workspace.path("vae"), "vae", recipe=RECIPE, inputs=inputs, details={"iso": 5.0}) as scratch:
        save_tensors(scratch / "weights.safetensors", dict(Autoencoder(RECIPE.vae).state_dict()))
    inputs = {"vae": workspace.open("vae")}
    with publish(workspace.path("denoiser"), "denoiser", recipe=RECIPE, inputs=inputs) as scratch:
        denoiser = build_denoiser(RECIPE.diffusion, RECIPE.vae.latent)
        save_tensors(scratch / "weights.safetensors", dict(denoiser.state_dict()))
        save_tensors(
            scratch / "statistics.safetensors", {"mean": torch.zeros(3, 2, 1, 1), "std": torch.ones(3, 2, 1, 1)}
        )
    return workspace.root


def test_psnr_reports_both_splits_and_is_not_measured_twice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = evaluate.run("psnr", root, Talk(1))
    train = report["details"]["train"]["all"]
    assert report["psnr"] == train["psnr"] > 0
    assert train["count"] == 2
    assert set(report["details"]) == {"train", "test"}
    assert report["protocol"]["compared_views"] == [6, 7]
    assert report["protocol"]["never_supervised"]
    artifact = open_artifact(report["report"], "report", verify=True)
    assert set(artifact.manifest.files) == {"report.json", "report.html", "contact.png"}
    assert json.loads(artifact.file("report.json").read_text())["psnr"] == report["psnr"]
    before = capsys.readouterr().err
    assert "PSNR" in before
    assert evaluate.run("psnr", root, Talk(1)) == report
    assert "up to date" in capsys.readouterr().err


def test_category_and_count_choose_the_objects(root: Path, tmp_path: Path) -> None:
    report = evaluate.run("psnr", root, QUIET, category="car", count=1, output=tmp_path / "out")
    assert report["details"]["train"]["all"]["count"] == 1
    assert list(report["details"]["train"]["categories"]) == ["car"]
    assert (tmp_path / "out" / "report.json").is_file()


def test_objects_are_chosen_by_their_source_not_by_their_place(root: Path) -> None:
    objects = ShardSet(Workspace(root).open("shards")).objects
    three = chosen_objects(objects, "train", None, 3)
    assert three == chosen_objects(objects[::-1], "train", None, 3)
    assert three[:2] == chosen_objects(objects, "train", None, 2)
    assert {r.split for r in three} == {"train"}


def reference_of(root: Path, kept: Path) -> Reference:
    workspace = Workspace(root)
    return Reference(workspace, workspace.open("shards"), (), Store(kept))


def _real_meshes(root: Path) -> list[Mesh]:
    entries = {entry.source_id: entry for entry in list_objects(RECIPE.dataset)}
    meshes = []
    for record in reference_of(root, root).shapes(None):
        scene = normalised(load_object(entries[record.source_id], RECIPE.dataset.limits))
        sizes = np.cumsum([0] + [len(part.vertices) for part in scene.parts])
        faces = [part.faces + first for part, first in zip(scene.parts, sizes[:-1], strict=True)]
        meshes.append(Mesh(np.concatenate([part.vertices for part in scene.parts]), np.concatenate(faces)))
    return meshes


def test_a_generator_of_the_real_shapes_is_perfect(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meshes = _real_meshes(root)
    left = iter(meshes)
    monkeypatch.setattr(contestants, "field_mesh", lambda *a, **k: next(left))
    report = evaluate.run("cov", root, QUIET, count=len(meshes), workspace=tmp_path / "real")
    assert report["cov"] == 100
    assert report["details"]["nna"]["value"] == 0
    assert report["details"]["held_out"]["mmd"]["value"] < 10

    monkeypatch.setattr(contestants, "field_mesh", lambda *a, **k: meshes[0])
    collapsed = evaluate.run("mmd", root, QUIET, count=3, workspace=tmp_path / "collapsed")
    assert collapsed["details"]["cov"]["value"] == pytest.approx(100 / len(meshes))
    assert collapsed["mmd"] > 3 * report["details"]["mmd"]["value"]
    assert collapsed["details"]["generated"] == 3


def test_samples_without_a_surface_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mesh, calls = _real_meshes(root)[0], iter(range(100))

    def sometimes(*_: object, **__: object) -> Mesh:
        if next(calls) % 2:
            raise DivergedError("the field is empty")
        return mesh

    monkeypatch.setattr(contestants, "field_mesh", sometimes)
    details = evaluate.run("mmd", root, QUIET, workspace=tmp_path / "half")["details"]
    assert (details["generated"], details["failed"]) == (2, 2)
    with pytest.raises(DivergedError, match=r"1 of 2 samples have no surface: no prompt \(seed 1\): the field"):
        evaluate.run("mmd", root, QUIET, count=2, workspace=tmp_path / "none")


@pytest.mark.parametrize(
    ("metric", "options", "error", "words"),
    [
        ("fid", {"count": 1}, RecipeError, "fid of 1 sample"),
        ("fid", {"meshes": Path("x"), "renders": Path("y")}, RecipeError, "name several systems"),
        ("fid", {"overrides": ("seed=3",)}, RecipeError, "--set seed=3: an evaluation changes"),
        ("fid", {"overrides": ("evaluation.view=3",)}, RecipeError, "did you mean views"),
        ("ssim", {"overrides": ("evaluation.resolution=8",)}, RecipeError, "ssim needs views of at least 11 pixels"),
        ("beauty", {}, RecipeError, "there is no metric beauty"),
        ("psnr", {"category": "vase"}, RecipeError, "no object of category vase"),
        ("psnr", {"count": 0}, RecipeError, "--count 0"),
        ("cov", {"count": 1}, RecipeError, "cov of 1 sample"),
    ],
)
def test_wrong_options_are_one_clear_line(
    root: Path, metric: str, options: dict, error: type[LN3DError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        evaluate.run(metric, root, QUIET, **options)
    assert caught.value.hint


def test_an_unknown_category_names_those_that_exist(root: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        evaluate.run("cov", root, QUIET, category="vase")
    assert "boat, car, chair, plane, table" in caught.value.hint


def test_a_model_without_shards_says_where_to_look(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(root / "vae")
    with pytest.raises(ArtifactError, match="has no shards and no reference set to compare with") as caught:
        evaluate.run("psnr", tmp_path, QUIET)
    assert "--reference DIR" in caught.value.hint
    with pytest.raises(ArtifactError, match="no workspace"):
        evaluate.run("psnr", tmp_path / "nowhere", QUIET)


def test_shards_that_the_vae_never_saw_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").symlink_to(root / "shards")
    with publish(tmp_path / "vae", "vae", recipe=RECIPE, details={"iso": 5.0}) as scratch:
        save_tensors(scratch / "weights.safetensors", dict(Autoencoder(RECIPE.vae).state_dict()))
    with pytest.raises(ArtifactError, match="was not trained on the shards") as caught:
        evaluate.run("psnr", tmp_path, QUIET)
    assert caught.value.hint


def test_prompts_are_the_words_of_the_references_in_turn(root: Path, tmp_path: Path) -> None:
    reference = reference_of(root, tmp_path)
    shapes = reference.shapes(None)
    assert len({record.shape_id for record in shapes}) == len(shapes)
    prompts = reference.prompts(None, 2 * len(shapes))
    for k, prompt in enumerate(prompts):
        assert prompt in shapes[k % len(shapes)].captions
    assert prompts == reference.prompts(None, 2 * len(shapes))
    assert prompts[:3] == reference.prompts(None, 3)


def test_dry_run_writes_nothing(root: Path, tmp_path: Path) -> None:
    plan = evaluate.run("cov", root, QUIET, output=tmp_path / "out", dry_run=True)
    assert (plan["metric"], plan["count"]) == ("cov", 4)
    assert not (tmp_path / "out").exists()


def test_a_perfect_view_scores_best_and_an_empty_one_like_the_white_baseline() -> None:
    alpha = torch.zeros(2, 16, 16)
    alpha[:, 4:12, 4:12] = 1
    real = torch.where(alpha[..., None] > 0, torch.tensor([1.0, 0, 0]), torch.tensor(1.0))
    best = view_scores(real, alpha, real, alpha)
    assert best["psnr"] == best["psnr_masked"] == best["flat_psnr"] == best["chroma_psnr"] == 100
    assert best["iou"] == 1
    assert best["ssim"] == pytest.approx(1)
    empty = view_scores(torch.ones_like(real), torch.zeros_like(alpha), real, alpha)
    assert empty["psnr"] == empty["white_psnr"] == pytest.approx(-10 * math.log10(2 / 3 / 4))
    assert empty["iou"] == 0
