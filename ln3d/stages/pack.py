"""`pack`: a workspace's model, in half precision and without its training data, ready to be shared."""

from pathlib import Path
from typing import Any

import torch

from ln3d.artifacts.manifest import InputRef, fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_tensors, save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError
from ln3d.generation.model import Generator
from ln3d.talk import Talk


def run(model: Path, talk: Talk, *, output: Path) -> dict[str, Any]:
    """Write the VAE and the denoiser of the workspace `model` to `output` with fp16 weights; return what was made.

    Both keep their recipe and lineage, with the full-precision original as a further input. `output` is a model
    folder that --model takes. Raises ArtifactError for a damaged model or one that does not belong together.
    """
    Generator.load(model, "cpu")  # refuses what `sample` would refuse
    source = Workspace(model)
    vae = _pack(source.open("vae"), output / "vae", {})
    denoiser = _pack(source.open("denoiser"), output / "denoiser", {"vae": vae})
    size = sum(entry.bytes for artifact in (vae, denoiser) for entry in artifact.manifest.files.values())
    talk.say(f"packed {output}")
    return {"model": str(output), "bytes": size, "vae": vae.id, "denoiser": denoiser.id}


def _pack(original: Artifact, path: Path, inputs: dict[str, Artifact | InputRef]) -> Artifact:
    manifest = original.manifest
    lineage: dict[str, Artifact | InputRef] = {**manifest.inputs, "original": original, **inputs}
    mark = fingerprint("packed", original.id)
    with publish(
        path, manifest.kind, recipe=manifest.recipe, inputs=lineage, details=manifest.details, fingerprint=mark
    ) as scratch:
        for name in manifest.files:
            if name.endswith(".safetensors"):
                save_tensors(scratch / name, _halved(load_tensors(original.file(name)), original, name))
    return Workspace(path.parent).open(manifest.kind)


def _halved(tensors: dict[str, torch.Tensor], original: Artifact, name: str) -> dict[str, torch.Tensor]:
    if name != "weights.safetensors":
        return tensors
    halved = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    wrong = [key for key, value in halved.items() if not value.isfinite().all()]
    if wrong:
        raise ArtifactError(f"{original.path}: {', '.join(wrong[:3])} does not fit half precision")
    return halved
