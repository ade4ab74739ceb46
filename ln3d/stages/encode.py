"""`encode`: shards and a VAE in, latents and their statistics out."""

import json
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError
from ln3d.generation.model import read_autoencoder
from ln3d.models.autoencoder import Autoencoder
from ln3d.runtime import choose_device, tune_allocator
from ln3d.stages.freshness import up_to_date
from ln3d.talk import Talk
from ln3d.training.vae_step import encode_object, evaluation_views

_SMALLEST_STD = 1e-4


def run(
    recipe: Recipe, workspace: Workspace, talk: Talk, *, device: str = "auto", dry_run: bool = False
) -> dict[str, Any]:
    """Encode every rendered object to the mean and log-variance of its posterior; return what was published.

    Raises ArtifactError if the VAE was trained on other shards, is damaged, or encodes to non-finite values.
    """
    if dry_run:
        return {"stage": "encode", "writes": str(workspace.path("latents")), "vae": workspace.has("vae")}
    tune_allocator()
    with workspace.lock("encode"):
        source, vae = workspace.open("shards"), workspace.open("vae", verify=["weights.safetensors"])
        _check_lineage(source, vae)
        mark = fingerprint("latents", source.id, vae.id)
        done = up_to_date(workspace, "latents", mark)
        if done is not None:
            talk.say(f"{done.path} is up to date")
            return _summary(done)
        networks, _ = read_autoencoder(vae, choose_device(device))
        artifact = _publish(recipe, workspace, source, vae, networks, mark, talk)
    talk.say(f"published {artifact.path}")
    return _summary(artifact)


def latent_statistics(mean: Tensor, log_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (3 c 1 1) of posterior samples of n latents (n 3 c h w).

    Closed form: the variance of samples is the variance of the means plus the mean of the variances.
    """
    axes = (0, 3, 4)
    centre = mean.double().mean(dim=axes)
    variance = (mean.double() - centre[None, :, :, None, None]).square().mean(dim=axes)
    variance = variance + log_variance.double().exp().mean(dim=axes)
    deviation = variance.sqrt().clamp(min=_SMALLEST_STD)
    return centre[..., None, None].float(), deviation[..., None, None].float()


def _check_lineage(source: Artifact, vae: Artifact) -> None:
    trained_on = vae.manifest.inputs.get("shards")
    if trained_on is None or trained_on.id != source.id:
        raise ArtifactError(
            f"the VAE {vae.path} was not trained on the shards {source.path}",
            "run `ln3d train-vae` on these shards, or bring the shards it was trained on",
        )


def _publish(
    recipe: Recipe,
    workspace: Workspace,
    source: Artifact,
    vae: Artifact,
    networks: Autoencoder,
    mark: str,
    talk: Talk,
) -> Artifact:
    shards = ShardSet(source)
    mean, log_variance = _encode_all(networks, shards, talk)
    centre, deviation = latent_statistics(mean, log_variance)
    tails = ((mean - centre).abs() > 6 * deviation).float().mean().item()
    details: dict[str, Any] = {"objects": len(mean), "shape": list(mean.shape[1:]), "beyond_six_deviations": tails}
    inputs = {"shards": source, "vae": vae}
    path = workspace.path("latents")
    with publish(path, "latents", recipe=recipe, inputs=inputs, details=details, fingerprint=mark) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": mean, "log_variance": log_variance})
        save_tensors(scratch / "statistics.safetensors", {"mean": centre, "std": deviation})
        (scratch / "objects.json").write_text(json.dumps([asdict(r) for r in shards.objects], indent=1) + "\n")
    return workspace.open("latents")


def _encode_all(networks: Autoencoder, shards: ShardSet, talk: Talk) -> tuple[Tensor, Tensor]:
    pictures = Pictures(shards)
    inputs, _ = evaluation_views(networks.config, shards.views)
    means, log_variances = [], []
    with talk.progress("encode", len(shards.objects)) as progress:
        for index in range(len(shards.objects)):
            posterior = encode_object(networks, pictures, index, inputs)
            means.append(posterior.mean[0].cpu())
            log_variances.append(posterior.log_variance[0].cpu())
            progress.advance()
    mean, log_variance = torch.stack(means), torch.stack(log_variances)
    if not (mean.isfinite().all() and log_variance.isfinite().all()):
        raise ArtifactError("the VAE encodes to non-finite latents", "train the VAE again")
    return mean, log_variance


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
