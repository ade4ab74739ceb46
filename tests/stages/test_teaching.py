"""`train-vae` of an encoder that learns the latents of another VAE: where they come from, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError
from ln3d.stages import encode, train_vae
from ln3d.talk import Talk
from ln3d.training import vae_step
from ln3d.training.latent_step import FROZEN, LatentTask
from ln3d.training.parts import Part

RecipeOf = Callable[..., Recipe]
QUIET = Talk(0)
SHORT = ("vae.training.steps=4", "vae.training.validate_every=2", "vae.training.checkpoint_every=2")
LATENTS = (
    *SHORT,
    "vae.encoder.kind=image",
    "vae.supervision.kind=latents",
    "vae.augmentation.saturation=1",
    "vae.augmentation.permutation=0",
)


@pytest.fixture(scope="module")
def teacher(tiny_run: Workspace, tiny_recipe: RecipeOf, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a VAE of the aligned encoder and its latents."""
    workspace = Workspace(tmp_path_factory.mktemp("teacher"))
    shutil.copytree(tiny_run.path("shards"), workspace.path("shards"))
    train_vae.run(tiny_recipe(*SHORT), workspace, QUIET)
    encode.run(tiny_recipe(*SHORT), workspace, QUIET)
    return workspace


def test_the_encoder_is_new_and_all_else_the_teachers(
    own_run: Workspace, teacher: Workspace, tiny_recipe: RecipeOf
) -> None:
    recipe = tiny_recipe(*LATENTS)
    report = train_vae.run(recipe, own_run, QUIET, init_from=teacher.root)
    artifact, start = own_run.open("vae", verify=True), teacher.open("vae")
    lineage = {role: entry.id for role, entry in artifact.manifest.inputs.items()}
    kinds = {"shards": "shards", "start": "vae", "latents": "latents"}
    assert lineage == {role: teacher.open(kind).id for role, kind in kinds.items()}
    mine, theirs = (load_tensors(one.file("weights.safetensors")) for one in (artifact, start))
    shared = {name for name in theirs if not name.startswith("encoder.")}
    assert shared == {name for name in mine if not name.startswith("encoder.")}
    for name in shared:
        assert torch.equal(mine[name], theirs[name]), name
    assert report["figures"].keys() == {"psnr_train", "psnr_validation"}
    assert train_vae.run(recipe, own_run, QUIET, init_from=teacher.root) == report


def test_pretrained_blocks_are_not_asked_for_where_the_decoder_is_the_teachers(
    own_run: Workspace, teacher: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest names no file of pretrained blocks that nothing of the decoder comes from."""
    started: list[str] = []
    monkeypatch.setattr(vae_step, "check_start", lambda config, name: None)
    monkeypatch.setattr(vae_step, "start_from_blocks", lambda decoder, name: started.append(name) or "hash")
    recipe = tiny_recipe(*LATENTS, "vae.decoder.initial=dinov2=FILE")
    train_vae.run(recipe, own_run, QUIET, init_from=teacher.root)
    assert started == []
    assert "decoder_start" not in own_run.open("vae").manifest.details


def test_a_training_that_goes_on_leaves_the_teachers_decoder_as_it_is(
    own_run: Workspace, teacher: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed in the middle and started again, it ends with the bits of one that was left alone."""
    recipe, undisturbed = tiny_recipe(*LATENTS), Workspace(tmp_path / "undisturbed")
    shutil.copytree(own_run.path("shards"), undisturbed.path("shards"))
    train_vae.run(recipe, undisturbed, QUIET, init_from=teacher.root)

    class Killed(BaseException):
        pass

    loss = LatentTask.loss

    def doomed(self: LatentTask, batch: dict[str, torch.Tensor], step: int, part: Part) -> object:
        if step == 3:
            raise Killed
        return loss(self, batch, step, part)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(LatentTask, "loss", doomed)
        train_vae.run(recipe, own_run, QUIET, init_from=teacher.root)
    assert own_run.partial("vae").is_dir() and not own_run.has("vae")
    frozen: list[bool] = []

    def watched(self: LatentTask, batch: dict[str, torch.Tensor], step: int, part: Part) -> object:
        assert all(p.requires_grad for p in self.networks.encoder.parameters())
        for name in FROZEN:
            frozen.extend(not p.requires_grad for p in self.networks.get_submodule(name).parameters())
        return loss(self, batch, step, part)

    monkeypatch.setattr(LatentTask, "loss", watched)
    train_vae.run(recipe, own_run, QUIET, init_from=teacher.root)
    assert frozen and all(frozen)
    mine, theirs = (load_tensors(place.open("vae").file("weights.safetensors")) for place in (own_run, undisturbed))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_there_must_be_latents_of_the_same_vae_and_shards(
    own_run: Workspace, teacher: Workspace, tiny_recipe: RecipeOf, tmp_path: Path
) -> None:
    recipe = tiny_recipe(*LATENTS)
    with pytest.raises(RecipeError, match="no VAE whose latents could be learned") as lacking:
        train_vae.run(recipe, own_run, QUIET)
    assert "--init-from" in lacking.value.hint
    other = tmp_path / "other"
    shutil.copytree(teacher.path("vae"), other / "vae")
    with pytest.raises(ArtifactError, match="latents does not exist"):
        train_vae.run(recipe, own_run, QUIET, init_from=other)
    shutil.copytree(teacher.path("latents"), other / "latents")
    shutil.rmtree(other / "vae")
    elsewhere = Workspace(other)
    shutil.copytree(own_run.path("shards"), elsewhere.path("shards"))
    train_vae.run(tiny_recipe(*SHORT, "seed=1"), elsewhere, QUIET)
    with pytest.raises(ArtifactError, match="is not made from the vae of this training") as unlike:
        train_vae.run(recipe, own_run, QUIET, init_from=other)
    assert "ln3d encode" in unlike.value.hint
    assert not own_run.has("vae")
