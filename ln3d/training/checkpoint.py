"""Sealed checkpoints of a running training: <stage>.partial/step-N, the last two kept."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_into, load_tensors, save_tensors
from ln3d.errors import ArtifactError
from ln3d.models.ema import Ema
from ln3d.training.optimiser import load_optimiser, optimiser_tensors
from ln3d.training.sides import Side

_KEPT = 2
_PREFIX = "step-"


@dataclass
class State:
    """Everything a training is made of between two steps; all randomness is keyed on `step` and `retries`."""

    networks: nn.Module
    ema: Ema
    optimiser: torch.optim.Optimizer
    metrics: Path | None
    """The file that metrics are written to; None in all processes but the first."""
    opponents: Side | None = None
    """The discriminators that the networks have to fool, if any."""
    step: int = 0
    retries: int = 0
    """How often the training has gone back after a loss that was not finite."""
    setbacks: int = 0
    """How many of these came since it last got further."""


def save(state: State, folder: Path, fingerprint: str) -> None:
    """Seal `state` as a checkpoint in `folder`, then drop all but the last two."""
    path = folder / _name(state)
    if (path / MANIFEST_NAME).exists():
        return
    details = {"step": state.step, "retries": state.retries, "setbacks": state.setbacks}
    with publish(path, "checkpoint", recipe={"name": folder.name}, details=details, fingerprint=fingerprint) as scratch:
        save_tensors(scratch / "weights.safetensors", state.networks.state_dict())
        save_tensors(scratch / "ema.safetensors", state.ema.weights)
        save_tensors(scratch / "optimiser.safetensors", optimiser_tensors(state.optimiser, state.networks))
        if state.opponents is not None:
            networks, optimiser = state.opponents.networks, state.opponents.optimiser
            save_tensors(scratch / "discriminators.safetensors", networks.state_dict())
            save_tensors(scratch / "discriminator_optimiser.safetensors", optimiser_tensors(optimiser, networks))
        if state.metrics is not None:
            shutil.copyfile(state.metrics, scratch / "metrics.jsonl")
    for old in _sealed(folder)[:-_KEPT]:
        shutil.rmtree(old)


def restore(state: State, folder: Path, fingerprint: str) -> bool:
    """Bring `state` back to the newest checkpoint in `folder`; return whether there was one.

    Raises ArtifactError if the checkpoint is damaged, or belongs to another recipe or other inputs.
    """
    checkpoint = _newest(folder)
    if checkpoint is None:
        return False
    if checkpoint.manifest.fingerprint != fingerprint:
        raise ArtifactError(
            f"{folder} holds a training begun with another recipe or other inputs",
            f"finish it with the recipe it was begun with, choose another workspace (-w), or remove {folder}",
        )
    what = f"checkpoint {checkpoint.path}"
    load_into(state.networks, load_tensors(checkpoint.file("weights.safetensors")), what)
    state.ema.load(load_tensors(checkpoint.file("ema.safetensors")))
    load_optimiser(state.optimiser, state.networks, load_tensors(checkpoint.file("optimiser.safetensors")))
    if state.opponents is not None:
        networks, optimiser = state.opponents.networks, state.opponents.optimiser
        load_into(networks, load_tensors(checkpoint.file("discriminators.safetensors")), what)
        load_optimiser(optimiser, networks, load_tensors(checkpoint.file("discriminator_optimiser.safetensors")))
    if state.metrics is not None:
        shutil.copyfile(checkpoint.file("metrics.jsonl"), state.metrics)
    details = checkpoint.manifest.details
    state.step, state.retries = details["step"], details["retries"]
    state.setbacks = details.get("setbacks", state.retries)  # older checkpoints did not tell the two apart
    return True


def _name(state: State) -> str:
    """Return a name that sorts by step, then by retries: a roll-back never has to touch what it went back to."""
    return f"{_PREFIX}{state.step:07d}" + (f".{state.retries}" if state.retries else "")


def _sealed(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob(f"{_PREFIX}*/{MANIFEST_NAME}"))


def _newest(folder: Path) -> Artifact | None:
    sealed = _sealed(folder)
    return open_artifact(sealed[-1], "checkpoint", verify=True) if sealed else None
