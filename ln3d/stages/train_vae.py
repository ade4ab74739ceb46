"""`train-vae`: shards in, a 3D-aware VAE out."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ln3d.artifacts.opening import Artifact, Sealed
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.data.subsets import spread
from ln3d.errors import ArtifactError
from ln3d.geometry.rays import image_rays
from ln3d.geometry.surfaces import iso_from_profiles
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.report.curves import loss_curve
from ln3d.report.sheets import contact_sheet
from ln3d.runtime import tune_allocator
from ln3d.stages.estimate import discriminator_weights, estimate, vae_state_bytes
from ln3d.stages.freshness import Hashes, mark_of_trained, stated_weights, training_mark, up_to_date
from ln3d.stages.local_weights import local_weights
from ln3d.stages.starting_weights import open_start, start_from
from ln3d.stages.teaching import open_latents, taught
from ln3d.talk import Talk
from ln3d.training.loop import Trained, keep_sheets, train
from ln3d.training.optimiser import check_parts
from ln3d.training.ranks import join
from ln3d.training.reconstruction import encode_object, evaluation_views, reconstruct
from ln3d.training.task import Task
from ln3d.training.vae_rendering import radiance
from ln3d.training.vae_step import VaeTask, check_networks

_SHEET_OBJECTS = 12
_ISO_OBJECTS = 12
_ISO_RAYS = 256
_ISO_REACH, _ISO_STEPS = 0.15, 61  # world units to either side of the true surface


def run(
    recipe: Recipe,
    workspace: Workspace,
    talk: Talk,
    *,
    device: str = "auto",
    dry_run: bool = False,
    init_from: Path | None = None,
) -> dict[str, Any]:
    """Train stage 1, or go on where a killed run stopped; return what was published.

    `init_from` is the artifact (or a workspace or pack that holds it) whose weights are the start, or whose latents the
    encoder alone learns where the recipe says so. Under torchrun all processes train and the first one publishes. With
    `dry_run` nothing is written and the plan is returned: parameters, steps, what would be made. Raises RecipeError,
    ArtifactError, DivergedError, and WeightsError where a file of pretrained weights is missing.
    """
    check_networks(recipe.vae)
    if dry_run:
        return _plan(recipe, workspace)
    tune_allocator()
    with join(device) as (ranks, chosen), ExitStack() as held:
        with ranks.together():
            if ranks.first:
                held.enter_context(workspace.lock("train-vae"))
            shards, start = workspace.shards(), open_start(init_from, "vae")
            latents = open_latents(recipe.vae, start, shards.id)
            roles: dict[str, Sealed | None] = {"shards": shards, "start": start, "latents": latents}
            inputs = {role: artifact for role, artifact in roles.items() if artifact is not None}
            local = local_weights(recipe.vae, start is not None, _stated(workspace))
            mark = training_mark("vae", recipe, {role: artifact.id for role, artifact in inputs.items()}, local)
            done = up_to_date(workspace, "vae", mark, lambda manifest: mark_of_trained(manifest, local))
        partial = workspace.partial("vae")
        if done is not None:
            if ranks.first:
                shutil.rmtree(partial, ignore_errors=True)  # should the run have been killed just there
            talk.say(f"{done.path} is up to date")
            return _summary(done)
        with ranks.together():
            task = _task(recipe, ShardSet(shards), start)
            learned: Task = task
            if start is not None and latents is not None:
                learned = taught(task, start, latents)
            else:
                start_from(task.networks, start)
        trained = train(
            learned,
            recipe.vae.training,
            partial,
            fingerprint=mark,
            device=chosen,
            talk=talk,
            title="train-vae",
            ranks=ranks,
            draw=lambda path: _sheet(task.networks, task, path),
        )
        with ranks.together():
            if ranks.first:
                _publish(recipe, workspace, inputs, task, trained, mark, local)
                shutil.rmtree(partial)
        artifact = workspace.open("vae")
    talk.say(f"published {artifact.path}")
    return _summary(artifact)


def _task(recipe: Recipe, shards: ShardSet, start: Artifact | None) -> VaeTask:
    config = recipe.vae
    if start is not None:  # its decoder is taken, which may have begun with pretrained blocks itself
        config = config.model_copy(update={"decoder": config.decoder.model_copy(update={"initial": None})})
    return VaeTask(shards, _split(shards, "train"), _split(shards, "validation"), config, recipe.seed)


def _stated(workspace: Workspace) -> dict[str, str]:
    """Return the hashes of local files that the workspace's VAE, if any, says it was made with."""
    return stated_weights(workspace.open("vae").manifest.details) if workspace.has("vae") else {}


def _split(shards: ShardSet, split: str) -> list[int]:
    chosen = [i for i, record in enumerate(shards.objects) if record.split == split]
    if not chosen and split == "train":
        raise ArtifactError("the shards hold no training objects", "render more shapes, or lower dataset.split")
    return chosen


def _plan(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    with torch.device("meta"):
        networks = Autoencoder(recipe.vae)
    check_parts(networks, recipe.vae.training)
    parts = {name: count_parameters(part) for name, part in networks.named_children()}
    heads = discriminator_weights(recipe)
    return {
        "stage": "train-vae",
        "writes": str(workspace.path("vae")),
        "shards": workspace.has_shards(),
        "parameters": count_parameters(networks),
        "parts": parts,
        "latent": [3, recipe.vae.latent.channels, recipe.vae.latent.resolution, recipe.vae.latent.resolution],
        "planes": [3, recipe.vae.field.channels, networks.plane_side, networks.plane_side],
        "weights_bytes": 4 * count_parameters(networks),
        "discriminators": heads.trained,
        "frozen": heads.frozen,
        "training_bytes": vae_state_bytes(recipe, networks),
        "steps": recipe.vae.training.steps,
        "batch": recipe.vae.training.batch,
        "estimate": estimate(recipe),
    }


def _publish(
    recipe: Recipe,
    workspace: Workspace,
    inputs: dict[str, Sealed],
    task: VaeTask,
    trained: Trained,
    mark: str,
    local: Hashes,
) -> None:
    networks = task.networks
    networks.load_state_dict(trained.weights)
    networks.eval()
    details = {
        "parameters": count_parameters(networks),
        "steps": recipe.vae.training.steps,
        "iso": _choose_iso(networks, task),
        "figures": trained.figures,
    }
    if task.decoder_start is not None:
        details["decoder_start"] = {"name": recipe.vae.decoder.initial, "sha256": task.decoder_start}
    named = {"discriminators": recipe.vae.discriminators.backbone, "perceptual": recipe.vae.losses.lpips_net}
    details |= {role: {"name": name, "sha256": local[role]} for role, name in named.items() if role in local}
    path = workspace.path("vae")
    with publish(path, "vae", recipe=recipe, inputs=inputs, details=details, fingerprint=mark) as scratch:
        save_tensors(scratch / "weights.safetensors", {name: networks.state_dict()[name] for name in trained.weights})
        shutil.copyfile(trained.metrics, scratch / "metrics.jsonl")
        loss_curve(scratch / "metrics.jsonl", scratch / "curve.png")
        _sheet(networks, task, scratch / "contact.png")
        keep_sheets(trained, scratch)


def _sheet(networks: Autoencoder, task: VaeTask, path: Path) -> None:
    """Draw truth and reconstruction of held-out views, side by side, of training and held-out objects."""
    pictures = task.batch.pictures
    inputs, targets = evaluation_views(networks.config, task.shards)
    held_out = [i for i, record in enumerate(task.shards.objects) if record.split != "train"]
    rows, labels = [], []
    for objects in (task.train, held_out):
        for index in spread(objects, _SHEET_OBJECTS // 2):
            truth, _, _ = pictures.stack(index, targets[:2], None)
            colour, _, _ = reconstruct(networks, pictures, index, inputs, targets[:2])
            rows.append([image for pair in zip(truth, colour.cpu().numpy(), strict=True) for image in pair])
            record = task.shards.objects[index]
            labels.append(f"{record.name} ({record.split})")
    contact_sheet(rows, labels, path)


@torch.no_grad()
def _choose_iso(networks: Autoencoder, task: VaeTask) -> float:
    """Return the density level whose surface lies, on average, where the data's depth says it is."""
    inputs, targets = evaluation_views(networks.config, task.shards)
    pictures = task.batch.pictures
    objects = spread(task.train, _ISO_OBJECTS)
    offsets = np.linspace(-_ISO_REACH, _ISO_REACH, _ISO_STEPS, dtype=np.float32)
    profiles = [_profiles(networks, pictures, index, inputs, targets[0], offsets) for index in objects]
    return float(iso_from_profiles(np.concatenate(profiles), offsets))


def _profiles(
    networks: Autoencoder, pictures: Pictures, index: int, inputs: list[int], target: int, offsets: np.ndarray
) -> np.ndarray:
    device = next(networks.parameters()).device
    _, _, depth = pictures.stack(index, [target], None)
    if "depth" in pictures.shards.objects[index].lacks:
        depth = _own_depth(networks, pictures, index, inputs, target)
    origins, directions = (r[0] for r in image_rays(*pictures.cameras(index, [target]), pictures.shards.resolution))
    surface = torch.from_numpy(depth.reshape(-1))
    hit = torch.nonzero(surface > 0)[:, 0]
    if not len(hit):  # a flat object seen edge-on may cover no pixel's centre
        return np.empty((0, len(offsets)), dtype=np.float32)
    hit = hit[:: max(1, len(hit) // _ISO_RAYS)]
    distances = surface[hit, None] + torch.from_numpy(offsets)
    points = origins[hit, None] + distances[..., None] * directions[hit, None]
    field = radiance(networks, networks.decode(encode_object(networks, pictures, index, inputs).mean))
    density, _ = field(points.reshape(1, -1, 3).to(device))
    return density.reshape(len(hit), len(offsets)).cpu().numpy()


def _own_depth(networks: Autoencoder, pictures: Pictures, index: int, inputs: list[int], target: int) -> np.ndarray:
    """Return the depth (1, h, w) that the networks render: imported pictures may have none."""
    _, alpha, depth = reconstruct(networks, pictures, index, inputs, [target])
    return torch.where(alpha > 0.5, depth, torch.zeros_like(depth)).cpu().numpy()


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
