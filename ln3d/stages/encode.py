"""`encode`: shards and a VAE in, latents and their statistics out."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact, Sealed
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError
from ln3d.generation.model import read_autoencoder
from ln3d.models.autoencoder import Autoencoder
from ln3d.runtime import tune_allocator
from ln3d.stages.freshness import up_to_date
from ln3d.talk import Talk
from ln3d.training.ranks import join
from ln3d.training.reconstruction import encode_object, evaluation_views

_SMALLEST_STD = 1e-4


def run(
    recipe: Recipe, workspace: Workspace, talk: Talk, *, device: str = "auto", dry_run: bool = False
) -> dict[str, Any]:
    """Encode every rendered object to the mean and log-variance of its posterior; return what was published.

    Under torchrun every process encodes its share of the objects, and the first one publishes.
    Raises ArtifactError if the VAE was trained on other shards, is damaged, or encodes to non-finite values.
    """
    if dry_run:
        return {"stage": "encode", "writes": str(workspace.path("latents")), "vae": workspace.has("vae")}
    tune_allocator()
    with join(device) as (ranks, chosen), ExitStack() as held:
        with ranks.together():
            if ranks.first:
                held.enter_context(workspace.lock("encode"))
            source, vae = workspace.shards(), workspace.open("vae", verify=["weights.safetensors"])
            _check_lineage(source, vae)
            mark = fingerprint("latents", source.id, vae.id)
            done = up_to_date(workspace, "latents", mark)
        if done is not None:
            talk.say(f"{done.path} is up to date")
            return _summary(done)
        with ranks.together():
            shards = ShardSet(source)
            networks, _ = read_autoencoder(vae, chosen)
            parameters = _encoded(networks, shards, ranks.share(len(shards.objects)), talk)
        mean, log_variance = (ranks.joined(rows, len(shards.objects)) for rows in parameters)
        with ranks.together():
            if ranks.first:
                inputs: dict[str, Sealed] = {"shards": source, "vae": vae}
                _publish(recipe, workspace, inputs, shards, mean, log_variance, mark)
        artifact = workspace.open("latents")
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


def share_beyond(mean: Tensor, centre: Tensor, deviation: Tensor, most: float = 6.0) -> Tensor:
    """Return for every plane and channel (3 c) the share of the latents n (n 3 c h w) beyond `most` deviations.

    Centre and deviation are those of `latent_statistics`. Heavy tails of one channel, which the share of all values
    hides, make diffusion hard.
    """
    beyond: Tensor = ((mean - centre).abs() > most * deviation).float()
    return beyond.mean(dim=(0, 3, 4))


def _check_lineage(source: Sealed, vae: Artifact) -> None:
    trained_on = vae.manifest.inputs.get("shards")
    if trained_on is None or trained_on.id != source.id:
        raise ArtifactError(
            f"the VAE {vae.path} was not trained on the shards {source.address}",
            "run `ln3d train-vae` on these shards, or bring the shards it was trained on",
        )


def _publish(
    recipe: Recipe,
    workspace: Workspace,
    inputs: dict[str, Sealed],
    shards: ShardSet,
    mean: Tensor,
    log_variance: Tensor,
    mark: str,
) -> None:
    if not (mean.isfinite().all() and log_variance.isfinite().all()):
        raise ArtifactError("the VAE encodes to non-finite latents", "train the VAE again")
    centre, deviation = latent_statistics(mean, log_variance)
    tails = share_beyond(mean, centre, deviation)
    details: dict[str, Any] = {
        "objects": len(mean),
        "shape": list(mean.shape[1:]),
        "beyond_six_deviations": tails.mean().item(),
        "beyond_six_deviations_worst_channel": tails.max().item(),
        "beyond_six_deviations_of_channels": tails.tolist(),
    }
    path = workspace.path("latents")
    with publish(path, "latents", recipe=recipe, inputs=inputs, details=details, fingerprint=mark) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": mean, "log_variance": log_variance})
        save_tensors(scratch / "statistics.safetensors", {"mean": centre, "std": deviation})
        (scratch / "objects.json").write_text(json.dumps([asdict(r) for r in shards.objects], indent=1) + "\n")


def _encoded(networks: Autoencoder, shards: ShardSet, objects: range, talk: Talk) -> tuple[Tensor, Tensor]:
    """Return the posterior means and log-variances (n 3 c h w) of `objects`, on the CPU."""
    pictures = Pictures(shards)
    inputs, _ = evaluation_views(networks.config, shards)
    latent = networks.config.latent
    shape = (len(objects), 3, latent.channels, latent.resolution, latent.resolution)
    mean, log_variance = torch.empty(shape), torch.empty(shape)
    with talk.progress("encode", len(objects)) as progress:
        for place, index in enumerate(objects):
            posterior = encode_object(networks, pictures, index, inputs)
            mean[place], log_variance[place] = posterior.mean[0].cpu(), posterior.log_variance[0].cpu()
            progress.advance()
    return mean, log_variance


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
