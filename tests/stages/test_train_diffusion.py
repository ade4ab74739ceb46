"""`train-diffusion`: from latents to a denoiser, once, and only from latents of the VAE beside them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_tensors, save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError
from ln3d.generation.model import Generator
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages import train_diffusion
from ln3d.talk import Talk

QUIET = Talk(verbosity=0)


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_diffusion, "_SHEET_SIZE", 16)


def _recipe(**diffusion: Any) -> Recipe:
    vae = {
        "encoder": {"resolution": 8, "width": 8, "multipliers": [1, 2]},
        "latent": {"channels": 2, "resolution": 4},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "upsampler": {"width": 8, "multipliers": [1]},
        "renderer": {"coarse": 6, "fine": 0},
    }
    chosen = {
        "dit": {"width": 16, "depth": 1, "heads": 2},
        "condition": {"kind": "text", "depth": 1},
        "training": {"steps": 4, "batch": 4, "warmup": 1, "log_every": 2, "validate_every": 2, "precision": "fp32"},
        "sampler": {"steps": 2},
    }
    return Recipe.model_validate({"name": "tiny", "vae": vae, "diffusion": chosen | diffusion})


def _workspace(root: Path, captions: bool = True, channels: int = 2) -> Workspace:
    workspace, recipe = Workspace(root), _recipe()
    torch.manual_seed(0)
    with publish(workspace.path("vae"), "vae", recipe=recipe, details={"iso": 3.0}) as scratch:
        save_tensors(scratch / "weights.safetensors", Autoencoder(recipe.vae).state_dict())
    mean = torch.randn(6, 3, channels, 4, 4)
    words = ["a red car", "a blue boat"]
    records = [
        {
            "split": "test" if i == 5 else "train",
            "category": words[i % 2][-4:],
            "captions": [words[i % 2]] if captions else [],
        }
        for i in range(6)
    ]
    inputs = {"vae": workspace.open("vae")}
    with publish(workspace.path("latents"), "latents", recipe=recipe, inputs=inputs) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": mean, "log_variance": torch.full_like(mean, -3.0)})
        shape = (3, channels, 1, 1)
        save_tensors(scratch / "statistics.safetensors", {"mean": torch.zeros(shape), "std": torch.ones(shape)})
        (scratch / "objects.json").write_text(json.dumps(records))
    return workspace


def test_a_denoiser_is_published_once_and_can_be_sampled(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path)
    report = train_diffusion.run(_recipe(), workspace, QUIET)
    artifact = workspace.open("denoiser", verify=True)
    assert report["id"] == artifact.id
    assert report["objects"] == 5
    assert set(artifact.manifest.files) == {
        "weights.safetensors",
        "statistics.safetensors",
        "metrics.jsonl",
        "curve.png",
        "contact.png",
    }
    assert artifact.manifest.inputs["vae"].id == workspace.open("vae").id
    assert artifact.manifest.inputs["latents"].id == workspace.open("latents").id
    assert not workspace.partial("denoiser").exists()
    assert train_diffusion.run(_recipe(), workspace, QUIET)["id"] == artifact.id
    assert Generator.load(tmp_path).sample(["a red car"], [0]).shape == (1, 3, 2, 4, 4)


def test_sampler_can_be_changed_afterwards_and_training_cannot(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path)
    train_diffusion.run(_recipe(), workspace, QUIET)
    before = load_tensors(workspace.open("denoiser").file("weights.safetensors"))
    train_diffusion.run(_recipe(sampler={"guidance": 3.5}), workspace, QUIET)
    generator = Generator.load(tmp_path)
    assert generator.recipe.diffusion.sampler.guidance == 3.5
    after = load_tensors(workspace.open("denoiser").file("weights.safetensors"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ArtifactError, match="made with another recipe"):
        train_diffusion.run(_recipe(balance=0.0), workspace, QUIET)


def test_a_start_from_other_weights_keeps_their_statistics(tmp_path: Path) -> None:
    base, workspace = _workspace(tmp_path / "base"), _workspace(tmp_path / "run")
    latents = base.path("latents")
    shutil.rmtree(latents)
    inputs, shape = {"vae": base.open("vae")}, (3, 2, 1, 1)
    mean = torch.randn(6, 3, 2, 4, 4)
    with publish(latents, "latents", recipe=_recipe(), inputs=inputs) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": mean, "log_variance": torch.full_like(mean, -3.0)})
        save_tensors(scratch / "statistics.safetensors", {"mean": torch.ones(shape), "std": 2 * torch.ones(shape)})
        shutil.copyfile(workspace.open("latents").file("objects.json"), scratch / "objects.json")
    train_diffusion.run(_recipe(), base, QUIET)
    still = _recipe(training={"steps": 2, "batch": 4, "learning_rate": 1e-12, "precision": "fp32"})
    train_diffusion.run(still, workspace, QUIET, init_from=base.path("denoiser"))
    mine, theirs = (place.open("denoiser") for place in (workspace, base))
    assert mine.manifest.inputs["start"].id == theirs.id
    for file in ("weights.safetensors", "statistics.safetensors"):
        tensors, expected = load_tensors(mine.file(file)), load_tensors(theirs.file(file))
        for name, value in expected.items():
            torch.testing.assert_close(tensors[name], value, atol=1e-6, rtol=1e-6)


def test_dry_run_builds_nothing_and_says_what_it_would(tmp_path: Path) -> None:
    plan = train_diffusion.run(_recipe(), Workspace(tmp_path / "none"), QUIET, dry_run=True)
    assert plan["tokens"] == 12
    assert plan["parameters"] > 0
    assert not plan["latents"]
    assert not (tmp_path / "none").exists()
    with pytest.raises(RecipeError, match="not built yet"):
        train_diffusion.run(_recipe(network="unet"), Workspace(tmp_path), QUIET, dry_run=True)


def test_latents_of_another_vae_or_shape_are_refused(tmp_path: Path) -> None:
    wrong = _workspace(tmp_path / "shape", channels=3)
    with pytest.raises(RecipeError, match=r"latents are \(3, 3, 4, 4\)"):
        train_diffusion.run(_recipe(), wrong, QUIET)
    other = _workspace(tmp_path / "vae")
    with publish(other.path("vae"), "vae", recipe=_recipe(), details={"iso": 4.0}, replace=True) as scratch:
        save_tensors(scratch / "weights.safetensors", Autoencoder(_recipe().vae).state_dict())
    with pytest.raises(ArtifactError, match="were not encoded by the VAE") as problem:
        train_diffusion.run(_recipe(), other, QUIET)
    assert "ln3d encode" in problem.value.hint


def test_a_text_model_needs_captions(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, captions=False)
    with pytest.raises(RecipeError, match="no training object has a caption"):
        train_diffusion.run(_recipe(), workspace, QUIET)
    report = train_diffusion.run(_recipe(condition={"kind": "none"}), workspace, QUIET)
    assert report["steps"] == 4
