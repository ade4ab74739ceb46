"""`train-vae`: from shards to a VAE, once."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ln3d.artifacts.tensors import load_tensors, save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.frozen_maps import FrozenFilters
from ln3d.backbones.perceptual import untrained_weights
from ln3d.backbones.timm_networks import untrained_timm
from ln3d.config.load import recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError, WeightsError
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.report.curves import read_series
from ln3d.stages import train_vae
from ln3d.talk import Talk
from ln3d.training import vae_step

RecipeOf = Callable[..., Recipe]
QUIET = Talk(0)
SHORT = ("vae.training.steps=4", "vae.training.validate_every=2", "vae.training.checkpoint_every=2")


def test_a_vae_is_published_once_with_all_that_belongs_to_it(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    report = train_vae.run(tiny_recipe(*SHORT), own_run, QUIET)
    artifact = own_run.open("vae", verify=True)
    assert json.loads(json.dumps(report)) == report
    assert report["id"] == artifact.id
    assert set(artifact.manifest.files) == {"weights.safetensors", "metrics.jsonl", "curve.png", "contact.png"}
    assert artifact.manifest.inputs["shards"].id == own_run.open("shards").id
    assert not own_run.partial("vae").exists()
    weights = load_tensors(artifact.file("weights.safetensors"))
    networks = Autoencoder(recipe_from_dict(artifact.manifest.recipe).vae)
    networks.load_state_dict(weights, strict=True)
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    assert report["parameters"] == count_parameters(networks)
    assert report["iso"] > 0
    assert report["figures"].keys() == {"psnr_train", "psnr_validation"}
    lines = [json.loads(line) for line in artifact.file("metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    drawn = {series.name for series in read_series(artifact.file("metrics.jsonl"))}
    assert drawn == set().union(*lines) - {"step", "seconds", "loader_seconds"}  # equal runs draw equal curves
    for name in ("curve.png", "contact.png"):
        with Image.open(artifact.file(name)) as picture:
            assert np.asarray(picture).std() > 1
    written = artifact.file("weights.safetensors").stat().st_mtime_ns
    own_run.partial("vae").mkdir()  # as if killed before it was cleared away
    assert train_vae.run(tiny_recipe(*SHORT), own_run, QUIET) == report
    assert artifact.file("weights.safetensors").stat().st_mtime_ns == written
    assert not own_run.partial("vae").exists()
    with pytest.raises(ArtifactError, match="made with another recipe"):
        train_vae.run(tiny_recipe(*SHORT, "seed=1"), own_run, QUIET)


def test_a_training_begun_with_another_recipe_is_not_gone_on_with(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    class Stop(Exception):
        pass

    def stopped(*_: object) -> None:
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_vae, "_publish", stopped)
        with pytest.raises(Stop):
            train_vae.run(tiny_recipe(*SHORT), own_run, QUIET)
    assert not own_run.has("vae")
    with pytest.raises(ArtifactError, match="begun with another recipe or other inputs"):
        train_vae.run(tiny_recipe(*SHORT, "vae.losses.l2=3"), own_run, QUIET)
    train_vae.run(tiny_recipe(*SHORT), own_run, QUIET)
    assert own_run.has("vae")


def test_a_training_can_start_from_another_ones_weights(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    """With a learning rate of almost nothing the start is also the end."""
    train_vae.run(tiny_recipe(*SHORT), own_run, QUIET)
    other = Workspace(own_run.root.with_name("other"))
    shutil.copytree(own_run.path("shards"), other.path("shards"))
    still = tiny_recipe(*SHORT, "vae.training.learning_rate=1e-12", "vae.training.sheet_every=2")
    report = train_vae.run(still, other, QUIET, init_from=own_run.root)
    artifact, start = other.open("vae", verify=True), own_run.open("vae")
    assert artifact.manifest.inputs["start"].id == start.id
    mine, theirs = (load_tensors(one.file("weights.safetensors")) for one in (artifact, start))
    for name, weight in theirs.items():
        torch.testing.assert_close(mine[name], weight, atol=1e-6, rtol=1e-6)
    sheets = {name for name in artifact.manifest.files if name.startswith("sheets/")}
    assert sheets == {"sheets/step-0000002.png", "sheets/step-0000004.png"}
    assert train_vae.run(still, other, QUIET, init_from=start.path) == report
    with pytest.raises(ArtifactError, match="made with another recipe or from other inputs"):
        train_vae.run(still, other, QUIET)
    shutil.rmtree(other.path("vae"))
    wider = tiny_recipe(*SHORT, "vae.decoder.width=32")
    with pytest.raises(ArtifactError, match=r"does not fit this recipe; \d+ misshaped: \S+ \S+ instead of") as error:
        train_vae.run(wider, other, QUIET, init_from=start.path)
    assert "--init-from" in error.value.hint
    assert not other.has("vae")
    with pytest.raises(ArtifactError, match="holds shards, not vae"):
        train_vae.run(still, other, QUIET, init_from=own_run.path("shards"))


def test_pretrained_blocks_are_named_in_the_manifest_and_not_asked_for_where_all_weights_are_given(
    own_run: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(vae_step, "check_start", lambda config, name: None)
    monkeypatch.setattr(vae_step, "start_from_blocks", lambda decoder, name: started.append(name) or "hash")
    file = own_run.root.with_name("dino.safetensors")
    file.write_bytes(b"weights")
    recipe = tiny_recipe(*SHORT, f"vae.decoder.initial=dinov2={file}")
    train_vae.run(recipe, own_run, QUIET)
    details = own_run.open("vae").manifest.details
    assert details["decoder_start"] == {"name": f"dinov2={file}", "sha256": "hash"}
    file.unlink()
    other = Workspace(own_run.root.with_name("other"))
    shutil.copytree(own_run.path("shards"), other.path("shards"))
    train_vae.run(recipe, other, QUIET, init_from=own_run.root)
    assert started == [f"dinov2={file}"]
    assert "decoder_start" not in other.open("vae").manifest.details


def test_a_start_that_does_not_fit_is_refused_before_anything_is_done(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    with pytest.raises(RecipeError, match="it has a width of 384, not 16; 6 heads, not 2"):
        train_vae.run(tiny_recipe("vae.decoder.initial=dinov2"), Workspace(tmp_path), QUIET, dry_run=True)


def test_unknown_sub_networks_are_named_before_anything_is_done(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe("vae.training.learning_rates={upsamplr: 0.1}")
    with pytest.raises(RecipeError, match="did you mean upsampler"):
        train_vae.run(recipe, Workspace(tmp_path), QUIET, dry_run=True)


def test_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    plan = train_vae.run(tiny_recipe(), Workspace(tmp_path / "none"), QUIET, dry_run=True)
    assert json.loads(json.dumps(plan)) == plan
    networks = Autoencoder(tiny_recipe().vae)
    assert plan["parameters"] == count_parameters(networks) == sum(plan["parts"].values())
    assert plan["parts"].keys() == {"encoder", "decoder", "upsampler", "head"}
    assert plan["latent"] == [3, 2, 4, 4]
    assert plan["planes"] == [3, 4, 8, 8]
    assert plan["shards"] is False
    assert not (tmp_path / "none").exists()


GAN = (
    "vae.supervision.kind=crop",
    "vae.supervision.crop=8",
    "vae.losses.adversarial=0.5",
    "vae.losses.adversarial_novel=0.25",
    "vae.discriminators.backbone=random",
    "vae.discriminators.levels=2",
    "vae.discriminators.hidden=8",
)


def test_dry_run_counts_discriminators_and_what_they_look_at(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    plain, plan = (
        train_vae.run(tiny_recipe(*overrides), Workspace(tmp_path), QUIET, dry_run=True)
        for overrides in ((*GAN[:2],), GAN)
    )
    assert plain["discriminators"] == plain["frozen"] == 0
    assert plan["frozen"] == 27 * 16 + 9 * 16 * 32
    heads = [17 * 8 + 2 * 8 + (9 * 8 + 1) * 8 + 9, 33 * 8 + 2 * 8 + (9 * 8 + 1) * 8 + 9, 33 * 8 + 9]
    assert plan["discriminators"] == 2 * sum(heads)  # entry, norm, mix and exit of both levels; the summary's layers
    assert plain["training_bytes"] == 20 * plain["parameters"]
    assert plan["training_bytes"] == plain["training_bytes"] + 16 * plan["discriminators"] + 4 * plan["frozen"]
    assert plan["parameters"] == plain["parameters"]
    with pytest.raises(RecipeError, match="discriminators cannot look at 'resnet'"):
        unknown = tiny_recipe(*GAN, "vae.discriminators.backbone=resnet")
        train_vae.run(unknown, Workspace(tmp_path), QUIET, dry_run=True)


def test_a_vae_trained_with_discriminators_is_published_without_them(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    recipe = tiny_recipe(*SHORT, *GAN)
    train_vae.run(recipe, own_run, QUIET)
    artifact = own_run.open("vae", verify=True)
    assert set(artifact.manifest.files) == {"weights.safetensors", "metrics.jsonl", "curve.png", "contact.png"}
    Autoencoder(recipe.vae).load_state_dict(load_tensors(artifact.file("weights.safetensors")), strict=True)
    drawn = {series.name for series in read_series(artifact.file("metrics.jsonl"))}
    assert drawn >= {"adversarial", "adversarial_novel", "discriminator", "discriminator_novel"}


def test_a_training_is_another_where_a_local_file_of_weights_is(
    own_run: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Discriminators that look through other weights teach others: neither goes on, nor is it up to date."""
    file = tmp_path / "dino.safetensors"
    recipe = tiny_recipe(*SHORT, *GAN, f"vae.discriminators.backbone=dinov2={file}")
    monkeypatch.setattr(vae_step, "load_frozen_maps", lambda name, levels: FrozenFilters(levels))
    with pytest.raises(WeightsError, match=r"dino\.safetensors are not here"):
        train_vae.run(recipe, own_run, QUIET)
    file.write_bytes(b"some weights")
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(train_vae, "_publish", lambda *_: 1 / 0)
        train_vae.run(recipe, own_run, QUIET)
    file.write_bytes(b"other weights")
    with pytest.raises(ArtifactError, match="a training begun with another recipe or other inputs"):
        train_vae.run(recipe, own_run, QUIET)
    file.write_bytes(b"some weights")
    report = train_vae.run(recipe, own_run, QUIET)
    assert report["discriminators"] == {"name": f"dinov2={file}", "sha256": hashlib.sha256(b"some weights").hexdigest()}
    file.write_bytes(b"other weights")
    with pytest.raises(ArtifactError, match="was made with another recipe or from other inputs"):
        train_vae.run(recipe, own_run, QUIET)
    file.unlink()  # what is gone has not become another
    assert train_vae.run(recipe, own_run, QUIET) == report


def test_local_networks_of_every_kind_are_trained_with_and_named(
    own_run: Workspace, tiny_recipe: RecipeOf, tmp_path: Path
) -> None:
    """A discriminator that looks through a ResNet of timm, and LPIPS on VGG, both with weights of one's own."""
    eyes, vgg = tmp_path / "eyes.safetensors", tmp_path / "vgg.safetensors"
    save_tensors(eyes, untrained_timm("test_resnet").state_dict())
    save_tensors(vgg, untrained_weights("vgg"))
    changes = ("vae.supervision.kind=full", "vae.losses.lpips=1", f"vae.losses.lpips_net=vgg={vgg}")
    recipe = tiny_recipe(*SHORT, *GAN, *changes, f"vae.discriminators.backbone=timm:test_resnet={eyes}")
    train_vae.run(recipe, own_run, QUIET)
    artifact = own_run.open("vae")
    assert artifact.manifest.details["discriminators"] == {
        "name": f"timm:test_resnet={eyes}",
        "sha256": hashlib.sha256(eyes.read_bytes()).hexdigest(),
    }
    assert artifact.manifest.details["perceptual"] == {
        "name": f"vgg={vgg}",
        "sha256": hashlib.sha256(vgg.read_bytes()).hexdigest(),
    }
    drawn = {series.name for series in read_series(artifact.file("metrics.jsonl"))}
    assert drawn >= {"lpips", "discriminator", "discriminator_novel"}
    vgg.write_bytes(vgg.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="was made with another recipe or from other inputs"):
        train_vae.run(recipe, own_run, QUIET)


def test_lpips_is_on_alexnet_or_vgg(tiny_recipe: RecipeOf) -> None:
    for name in ("squeeze", "alex=", "squeeze=weights.safetensors"):
        with pytest.raises(RecipeError, match="use alex or vgg, or one of them with a file of weights"):
            tiny_recipe(f"vae.losses.lpips_net={name}")


def test_what_is_missing_is_said_before_anything_is_done(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    workspace = Workspace(tmp_path / "none")
    with pytest.raises(RecipeError, match="discriminators cannot look at 'resnet'"):
        train_vae.run(tiny_recipe(*GAN, "vae.discriminators.backbone=resnet"), workspace, QUIET)
    with pytest.raises(ArtifactError) as error:
        train_vae.run(tiny_recipe(), workspace, QUIET)
    assert "ln3d render-dataset" in error.value.hint


def test_the_level_of_the_surface_is_where_the_depth_is(
    own_run: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a field whose density rises linearly through the true surface the level is that at the surface."""

    def known(_networks: object, _pictures: object, index: int, *_: object) -> np.ndarray:
        offsets = np.linspace(-0.15, 0.15, 61)
        return np.empty((0, 61)) if index == 2 else np.tile(50 + 100 * offsets, (5, 1))

    monkeypatch.setattr(train_vae, "_profiles", known)
    report = train_vae.run(tiny_recipe(*SHORT, "vae.training.steps=1"), own_run, QUIET)
    assert report["iso"] == pytest.approx(50, abs=1.0)


def test_an_object_that_a_view_does_not_show_has_no_profile(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    from ln3d.data.pictures import Pictures
    from ln3d.data.shards import ShardSet

    class Empty(Pictures):
        def stack(self, index, views, side=None):  # type: ignore[no-untyped-def]
            colour, alpha, depth = super().stack(index, views, side)
            return colour, alpha, np.zeros_like(depth)

    torch.manual_seed(0)
    networks, offsets = Autoencoder(tiny_recipe().vae).eval(), np.linspace(-0.1, 0.1, 5, dtype=np.float32)
    shards = ShardSet(own_run.open("shards"))
    assert train_vae._profiles(networks, Empty(shards), 0, [0, 1], 4, offsets).shape == (0, 5)
    with torch.no_grad():
        seen = train_vae._profiles(networks, Pictures(shards), 0, [0, 1], 4, offsets)
    assert seen.shape == (int((shards.depth(0, 4) > 0).sum()), 5)
    assert (seen > 0).all()
