"""`encode`: from shards and the VAE trained on them to latents, once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.latents import LatentSet
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages import encode, render_dataset
from ln3d.stages.encode import latent_statistics, share_beyond
from ln3d.talk import Talk
from ln3d.training.reconstruction import encode_object

RecipeOf = Callable[..., Recipe]
QUIET = Talk(0)


def _networks(recipe: Recipe) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(recipe.vae).eval()


def _publish_vae(workspace: Workspace, recipe: Recipe, spoil: bool = False) -> None:
    inputs = {"shards": workspace.open("shards")}
    with publish(workspace.path("vae"), "vae", recipe=recipe, inputs=inputs, details={"iso": 2.0}) as scratch:
        state = _networks(recipe).state_dict()
        if spoil:
            state["encoder.exit.bias"][0] = float("nan")
        save_tensors(scratch / "weights.safetensors", state)


@pytest.fixture
def workspace(own_run: Workspace, tiny_recipe: RecipeOf) -> Workspace:
    _publish_vae(own_run, tiny_recipe())
    return own_run


def test_every_object_is_encoded_once_and_recorded(workspace: Workspace, tiny_recipe: RecipeOf) -> None:
    report = encode.run(tiny_recipe(), workspace, QUIET)
    artifact = workspace.open("latents", verify=True)
    assert json.loads(json.dumps(report)) == report
    assert (report["id"], report["objects"], report["shape"]) == (artifact.id, 9, [3, 2, 4, 4])
    assert {role: reference.id for role, reference in artifact.manifest.inputs.items()} == {
        "shards": workspace.open("shards").id,
        "vae": workspace.open("vae").id,
    }
    shards, latents = ShardSet(workspace.open("shards")), LatentSet.read(artifact)
    assert [record["name"] for record in latents.objects] == [record.name for record in shards.objects]
    assert [record["split"] for record in latents.objects] == [record.split for record in shards.objects]
    networks, pictures = _networks(tiny_recipe()), Pictures(shards)
    for index in (0, 8):
        posterior = encode_object(networks, pictures, index, [0, 1])
        torch.testing.assert_close(latents.mean[index], posterior.mean[0])
        torch.testing.assert_close(latents.std[index], torch.exp(posterior.log_variance[0] / 2))
    written = artifact.file("latents.safetensors").stat().st_mtime_ns
    assert encode.run(tiny_recipe(), workspace, QUIET) == report
    assert artifact.file("latents.safetensors").stat().st_mtime_ns == written


def test_statistics_standardise_what_is_drawn(workspace: Workspace, tiny_recipe: RecipeOf) -> None:
    encode.run(tiny_recipe(), workspace, QUIET)
    latents = LatentSet.read(workspace.open("latents"))
    assert latents.statistics["mean"].shape == latents.statistics["std"].shape == (3, 2, 1, 1)
    numbers = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 9, 3, 2, 4, 4, generator=numbers)
    drawn = torch.stack([latents.draw(i, noise[n, i]) for n in range(400) for i in range(9)])
    torch.testing.assert_close(drawn.mean(dim=(0, 3, 4)), torch.zeros(3, 2), atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(dim=(0, 3, 4)), torch.ones(3, 2), atol=0.02, rtol=0)


def test_statistics_are_those_of_posterior_samples() -> None:
    numbers = torch.Generator().manual_seed(0)
    scale = torch.rand(1, 3, 4, 1, 1, generator=numbers) * 3
    mean = torch.randn(5, 3, 4, 8, 8, generator=numbers) * scale + scale
    log_variance = torch.randn(5, 3, 4, 8, 8, generator=numbers)
    centre, deviation = latent_statistics(mean, log_variance)
    noise = torch.randn(500, *mean.shape, generator=numbers)
    samples = mean + torch.exp(log_variance / 2) * noise
    np.testing.assert_allclose(centre[..., 0, 0], samples.mean(dim=(0, 1, 4, 5)), atol=0.02)
    np.testing.assert_allclose(deviation[..., 0, 0], samples.std(dim=(0, 1, 4, 5)), rtol=0.01)
    _, none = latent_statistics(torch.zeros(2, 3, 1, 2, 2), torch.full((2, 3, 1, 2, 2), -40.0))
    assert (none == 1e-4).all()  # a dead channel is not blown up


def test_a_channel_with_heavy_tails_is_found_however_good_the_others_are() -> None:
    mean = torch.randn(50, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    mean[0, 1, 2] = 200.0  # all 64 values of this channel in one of 50 objects
    centre, deviation = latent_statistics(mean, torch.full_like(mean, -20.0))
    share = share_beyond(mean, centre, deviation)
    expected = torch.zeros(3, 4)
    expected[1, 2] = 1 / 50
    assert torch.equal(share, expected)
    assert share.mean() < 0.002 < 0.02 <= share.max()


def test_the_worst_channel_is_reported(workspace: Workspace, tiny_recipe: RecipeOf) -> None:
    report = encode.run(tiny_recipe(), workspace, QUIET)
    channels = torch.tensor(report["beyond_six_deviations_of_channels"])
    assert channels.shape == (3, 2)
    assert report["beyond_six_deviations_worst_channel"] == channels.max().item()
    assert report["beyond_six_deviations"] == pytest.approx(channels.mean().item())


def test_dry_run_writes_nothing(tmp_path: Path, tiny_recipe: RecipeOf) -> None:
    plan = encode.run(tiny_recipe(), Workspace(tmp_path / "none"), QUIET, dry_run=True)
    assert plan["vae"] is False
    assert plan["writes"].endswith("latents")
    assert not (tmp_path / "none").exists()


def test_a_vae_of_other_shards_is_refused(workspace: Workspace, tiny_recipe: RecipeOf) -> None:
    shutil.rmtree(workspace.path("shards"))
    other = tiny_recipe("dataset.collections=[{kind: parametric, limit: 2}]", "dataset.resolution=8")
    render_dataset.run(other, workspace, QUIET, workers=1)
    with pytest.raises(ArtifactError, match="was not trained on the shards") as error:
        encode.run(tiny_recipe(), workspace, QUIET)
    assert "ln3d train-vae" in error.value.hint
    assert not workspace.has("latents")


def test_a_damaged_vae_is_refused(workspace: Workspace, tiny_recipe: RecipeOf) -> None:
    weights = workspace.path("vae") / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        encode.run(tiny_recipe(), workspace, QUIET)


def test_latents_that_are_not_finite_are_not_published(own_run: Workspace, tiny_recipe: RecipeOf) -> None:
    _publish_vae(own_run, tiny_recipe(), spoil=True)
    with pytest.raises(ArtifactError, match="non-finite latents"):
        encode.run(tiny_recipe(), own_run, QUIET)
    assert not own_run.has("latents")
