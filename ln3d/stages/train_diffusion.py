"""`train-diffusion`: latents in, a denoiser out."""

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ln3d.artifacts.opening import Artifact, verify_file
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_tensors, save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.token_embeddings import open_text_encoder
from ln3d.config.load import recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.data.latents import LatentSet
from ln3d.errors import ArtifactError, RecipeError
from ln3d.generation.model import Generator, read_autoencoder, views_around
from ln3d.models.decoder import count_parameters
from ln3d.models.dit import build_denoiser
from ln3d.report.curves import loss_curve
from ln3d.report.sheets import contact_sheet
from ln3d.runtime import tune_allocator
from ln3d.stages.estimate import muon_weights, state_bytes
from ln3d.stages.freshness import mark_of_trained, training_mark, up_to_date
from ln3d.stages.starting_weights import open_start, start_from
from ln3d.talk import Talk
from ln3d.training.diffusion_step import DiffusionTask
from ln3d.training.loop import Trained, keep_sheets, train
from ln3d.training.optimiser import check_parts
from ln3d.training.ranks import join

_SHEET_SAMPLES = 10
_SHEET_VIEWS = 4
_SHEET_SIZE = 96


def run(
    recipe: Recipe,
    workspace: Workspace,
    talk: Talk,
    *,
    device: str = "auto",
    dry_run: bool = False,
    init_from: Path | None = None,
) -> dict[str, Any]:
    """Train stage 2, or go on where a killed run stopped; return what was published.

    `init_from` is the artifact (or a workspace or pack that holds it) whose weights are the start; its statistics
    are kept. Under torchrun all processes train and the first one publishes. With `dry_run` nothing is written and
    the plan is returned: parameters, tokens, steps, what would be made. Raises RecipeError for what is not built or
    does not fit the latents, ArtifactError, DivergedError.
    """
    if dry_run:
        return _plan(recipe, workspace)
    tune_allocator()
    with join(device) as (ranks, chosen), ExitStack() as held:
        with ranks.together():
            if ranks.first:
                held.enter_context(workspace.lock("train-diffusion"))
            inputs = _inputs(workspace, init_from)
            mark = training_mark("denoiser", recipe, {role: artifact.id for role, artifact in inputs.items()})
            done = up_to_date(workspace, "denoiser", mark, mark_of_trained)
        partial = workspace.partial("denoiser")
        if done is not None:
            with ranks.together():
                if ranks.first:
                    shutil.rmtree(partial, ignore_errors=True)  # should a run have been killed just there
                    _set_sampler(done, recipe)
            artifact = workspace.open("denoiser", verify=True)
            talk.say(f"{artifact.path} is up to date")
            return _summary(artifact)
        with ranks.together():
            task = _task(recipe, inputs)
        trained = train(
            task,
            recipe.diffusion.training,
            partial,
            fingerprint=mark,
            device=chosen,
            talk=talk,
            title="train-diffusion",
            ranks=ranks,
            draw=lambda path: _sheet(recipe, inputs["vae"], task, path),
        )
        with ranks.together():
            if ranks.first:
                _publish(recipe, workspace, inputs, task, trained, mark)
                shutil.rmtree(partial)
        artifact = workspace.open("denoiser")
    talk.say(f"published {artifact.path}")
    return _summary(artifact)


def _inputs(workspace: Workspace, init_from: Path | None) -> dict[str, Artifact]:
    start = open_start(init_from, "denoiser")
    latents = workspace.open("latents", verify=True)
    vae = workspace.open("vae")
    encoded_by = latents.manifest.inputs.get("vae")
    if encoded_by is None or encoded_by.id != vae.id:
        raise ArtifactError(
            f"the latents {latents.path} were not encoded by the VAE {vae.path}",
            f"remove {latents.path} and run: ln3d encode RECIPE -w {workspace.root}",
        )
    return {"latents": latents, "vae": vae} | ({"start": start} if start is not None else {})


def _task(recipe: Recipe, inputs: dict[str, Artifact]) -> DiffusionTask:
    latents, start = LatentSet.read(inputs["latents"]), inputs.get("start")
    if start is not None:  # what it has learned is in these units
        statistics = load_tensors(verify_file(start, "statistics.safetensors"))
        latents = replace(latents, statistics=statistics)
    config, latent = recipe.diffusion, recipe.vae.latent
    expected = (3, latent.channels, latent.resolution, latent.resolution)
    if latents.mean.shape[1:] != expected:
        raise RecipeError(
            f"the latents are {tuple(latents.mean.shape[1:])}, the recipe's vae.latent says {expected}",
            "use the recipe that the VAE was trained with",
        )
    train_objects = latents.of_split("train")
    if not train_objects:
        raise ArtifactError("the latents hold no training objects", "render more shapes, or lower dataset.split")
    if config.condition.kind == "text" and not any(latents.objects[index]["captions"] for index in train_objects):
        raise RecipeError("no training object has a caption", "set diffusion.condition.kind=none, or add captions")
    encoder = open_text_encoder(config.condition) if config.condition.kind == "text" else None
    held_out = latents.of_split("validation", "test")
    task = DiffusionTask(latents, train_objects, held_out, config, latent, recipe.seed, encoder)
    start_from(task.networks, start)
    return task


def _plan(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    with torch.device("meta"):
        denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent)
    check_parts(denoiser, recipe.diffusion.training)
    latent, training = recipe.vae.latent, recipe.diffusion.training
    parameters = count_parameters(denoiser)
    return {
        "stage": "train-diffusion",
        "writes": str(workspace.path("denoiser")),
        "latents": workspace.has("latents"),
        "parameters": parameters,
        "tokens": 3 * denoiser.network.side**2,
        "latent": [3, latent.channels, latent.resolution, latent.resolution],
        "weights_bytes": 4 * parameters,
        "training_bytes": state_bytes(parameters, matrices=muon_weights(denoiser, training)),
        "steps": training.steps,
        "batch": training.batch,
    }


def _publish(
    recipe: Recipe, workspace: Workspace, inputs: dict[str, Artifact], task: DiffusionTask, trained: Trained, mark: str
) -> None:
    task.networks.load_state_dict(trained.weights)
    details = {
        "parameters": count_parameters(task.networks),
        "steps": recipe.diffusion.training.steps,
        "objects": len(task.train),
        "figures": trained.figures,
    }
    path = workspace.path("denoiser")
    with publish(path, "denoiser", recipe=recipe, inputs=inputs, details=details, fingerprint=mark) as scratch:
        save_tensors(scratch / "weights.safetensors", trained.weights)
        save_tensors(scratch / "statistics.safetensors", task.latents.statistics)
        shutil.copyfile(trained.metrics, scratch / "metrics.jsonl")
        loss_curve(scratch / "metrics.jsonl", scratch / "curve.png")
        _sheet(recipe, inputs["vae"], task, scratch / "contact.png")
        keep_sheets(trained, scratch)


def _sheet(recipe: Recipe, vae: Artifact, task: DiffusionTask, path: Path) -> None:
    """Draw one sample per category, for the caption of an object of it."""
    device = next(task.networks.parameters()).device
    autoencoder, iso = read_autoencoder(vae, device)
    recipe = recipe.model_copy(update={"vae": recipe_from_dict(vae.manifest.recipe).vae})
    statistics = {name: tensor.to(device) for name, tensor in task.latents.statistics.items()}
    generator = Generator(recipe, autoencoder, task.networks.eval(), statistics, iso, device)
    prompts: list[str | None] = [None] * _SHEET_SAMPLES
    if generator.conditional:
        records = {task.latents.objects[i]["category"]: task.latents.objects[i] for i in reversed(task.train)}
        prompts = [record["captions"][0] for record in records.values() if record["captions"]][:_SHEET_SAMPLES]
    latents = generator.sample(prompts, list(range(len(prompts))))
    pictures = generator.views(latents, *views_around(_SHEET_VIEWS), _SHEET_SIZE)
    contact_sheet(pictures.numpy(), [prompt or f"seed {i}" for i, prompt in enumerate(prompts)], path)


def _set_sampler(done: Artifact, recipe: Recipe) -> None:
    """Publish the denoiser anew with the recipe's way of sampling, where that has changed."""
    stored = recipe_from_dict(done.manifest.recipe)
    if stored.diffusion.sampler == recipe.diffusion.sampler:
        return
    diffusion = stored.diffusion.model_copy(update={"sampler": recipe.diffusion.sampler})
    changed, said = stored.model_copy(update={"diffusion": diffusion}), done.manifest
    with publish(
        done.path,
        "denoiser",
        recipe=changed,
        inputs=said.inputs,
        details=said.details,
        fingerprint=said.fingerprint,
        replace=True,
    ) as scratch:
        for name in said.files:
            (scratch / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(done.file(name), scratch / name)


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
