"""Trainings of an encoder alone, on the latents that another VAE's encoder gave."""

from pathlib import Path

from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.config.vae import VaeConfig
from ln3d.data.latents import LatentSet
from ln3d.errors import ArtifactError, RecipeError
from ln3d.stages.starting_weights import take_parts
from ln3d.training.latent_step import FROZEN, LatentTask
from ln3d.training.vae_step import VaeTask


def open_latents(config: VaeConfig, start: Artifact | None, shards_id: str) -> Artifact | None:
    """Return the latents beside `start` that the encoder is to learn; None where a recipe compares pictures.

    Raises RecipeError where there is nothing to start from, and ArtifactError where its latents are missing, damaged,
    or were made by another VAE or of other shards than those with the id `shards_id`.
    """
    if config.supervision.kind != "latents":
        return None
    if start is None:
        raise RecipeError(
            "vae.supervision.kind is latents, and there is no VAE whose latents could be learned",
            "name a workspace that holds `vae` and `latents`: --init-from DIR",
        )
    place = Path(start.path).parent
    latents = open_artifact(place / "latents", "latents", verify=["latents.safetensors"])
    for role, wanted in (("vae", start.id), ("shards", shards_id)):
        made_from = latents.manifest.inputs.get(role)
        if made_from is None or made_from.id != wanted:
            raise ArtifactError(
                f"{latents.path} is not made from the {role} of this training",
                f"train on the shards of {place}, and run there: ln3d encode RECIPE -w {place}",
            )
    return latents


def taught(task: VaeTask, start: Artifact, latents: Artifact) -> LatentTask:
    """Return the training of `task`'s encoder, as it is, on `latents`; the rest of the networks becomes `start`'s."""
    take_parts(task.networks, FROZEN, start)
    posteriors = LatentSet.read(latents)
    return LatentTask(task, posteriors.mean, 2 * posteriors.std.log())
