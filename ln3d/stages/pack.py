"""`pack`: a workspace's model, in half precision and without its training data, ready to be shared."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ln3d.artifacts.manifest import InputRef, fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_tensors, save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.images import ImageBackbone, load_backbone
from ln3d.errors import ArtifactError, RecipeError
from ln3d.generation.model import Generator, read_autoencoder
from ln3d.runtime import choose_device
from ln3d.stages.freshness import up_to_date
from ln3d.stages.pack_reference import ELSEWHERE, pack_reference
from ln3d.stages.reference import protocol_recipe
from ln3d.stages.reference_share import Share
from ln3d.talk import Talk


def run(
    model: Path,
    talk: Talk,
    *,
    output: Path,
    reference: bool = False,
    categories: Sequence[str] = (),
    pictures: int = Share.pictures,
    shapes: int = Share.shapes,
    overrides: Sequence[str] = (),
    device: str = "auto",
    load: Callable[[str, str], ImageBackbone] = load_backbone,
) -> dict[str, Any]:
    """Write the VAE and the denoiser of the workspace `model` to `output` with fp16 weights; return what was made.

    Both keep their recipe and lineage, with the full-precision original as a further input. `output` is a model
    folder that --model takes. A VAE that has no denoiser yet is packed alone. With `reference` it also gets a reference
    set of the workspace's shards, of every category (or of `categories`) at most so many `pictures` and `shapes`; a
    workspace without VAE and denoiser gives that alone. `overrides` change the `evaluation.*` that it is measured by;
    `load` opens the network of its features. What an interrupted run has written already is kept.

    Raises ArtifactError for a damaged model or one that does not belong together, for shards that are missing, and
    where `output` holds what was made otherwise; RecipeError for a category that does not exist; WeightsError for a
    network that is missing.
    """
    if (categories or overrides) and not reference:
        raise RecipeError("--category and --set are for a reference set; a model is packed whole", "add --reference")
    source, target = Workspace(model), Workspace(output)
    made: dict[str, Artifact] = {}
    parts = [kind for kind in ("vae", "denoiser") if source.has(kind)]
    if reference:
        source.open("shards")
        network = load(protocol_recipe(source, overrides).evaluation.backbone, str(choose_device(device)))
    if parts == ["vae"]:
        read_autoencoder(source.open("vae", verify=True), torch.device("cpu"))
    elif parts or not reference:
        Generator.load(model, "cpu")  # refuses what `sample` would refuse
    if reference:  # first: it is what can be asked for wrongly, and then nothing is written
        share = Share(tuple(categories), pictures, shapes)
        made["reference"] = pack_reference(source, target, share, network, talk, overrides)
    if "vae" in parts:
        made["vae"] = _pack(source.open("vae"), target, {})
    if "denoiser" in parts:
        made["denoiser"] = _pack(source.open("denoiser"), target, {"vae": made["vae"]})
    size = sum(entry.bytes for artifact in made.values() for entry in artifact.manifest.files.values())
    talk.say(f"packed {output}" + (", the VAE alone: there is no denoiser yet" if parts == ["vae"] else ""))
    order = [kind for kind in ("vae", "denoiser", "reference") if kind in made]
    return {"model": str(output), "bytes": size, **{kind: made[kind].id for kind in order}}


def _pack(original: Artifact, target: Workspace, inputs: dict[str, Artifact | InputRef]) -> Artifact:
    manifest, kind = original.manifest, original.manifest.kind
    lineage: dict[str, Artifact | InputRef] = {**manifest.inputs, "original": original, **inputs}
    mark = fingerprint("packed", original.id)
    if up_to_date(target, kind, mark, elsewhere=ELSEWHERE) is None:
        with publish(
            target.path(kind), kind, recipe=manifest.recipe, inputs=lineage, details=manifest.details, fingerprint=mark
        ) as scratch:
            for name in manifest.files:
                if name.endswith(".safetensors"):
                    save_tensors(scratch / name, _halved(load_tensors(original.file(name)), original, name))
    return target.open(kind, verify=True)


def _halved(tensors: dict[str, torch.Tensor], original: Artifact, name: str) -> dict[str, torch.Tensor]:
    if name != "weights.safetensors":
        return tensors
    halved = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    wrong = [key for key, value in halved.items() if not value.isfinite().all()]
    if wrong:
        raise ArtifactError(f"{original.path}: {', '.join(wrong[:3])} does not fit half precision")
    return halved
