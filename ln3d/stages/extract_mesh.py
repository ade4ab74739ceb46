"""`extract-mesh`: samples and their VAE in, coloured meshes out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError, DivergedError, RecipeError
from ln3d.export.components import mesh_report
from ln3d.export.mesh import WRITERS, Mesh, write_mesh
from ln3d.generation.mesh import field_mesh
from ln3d.generation.model import DEFAULT_MODEL, Generator
from ln3d.generation.previews import mesh_views
from ln3d.geometry.cameras import orbit
from ln3d.report.sheets import contact_sheet
from ln3d.runtime import choose_device, tune_allocator
from ln3d.talk import Talk

_OTHER_FORMATS = {".gltf", ".stl", ".off", ".fbx", ".dae", ".3mf", ".x3d", ".usd", ".usdz", ".blend"}
_SHEET_MESHES, _SHEET_SIZE = 24, 128
_RESOLUTIONS = (16, 1024)
_MAKE_SAMPLES = "make some: ln3d sample --text TEXT --count N -o FOLDER, then: ln3d extract-mesh FOLDER -o MESHES"


@dataclass(frozen=True)
class _Options:
    """How meshes are extracted."""

    resolution: int
    iso: float
    smallest_component: float
    format: str


def run(
    samples: Path | None,
    model: Path | None,
    talk: Talk,
    *,
    output: Path,
    resolution: int | None = None,
    file_format: str | None = None,
    device: str = "auto",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Write the surface of one sample to the file `output`, or of all to a `meshes` artifact; return what was written.

    `model` holds the VAE that decodes; by default it is looked for beside the samples, then in the shipped model.
    Samples in which there is no object are listed with the reason.

    Raises:
        RecipeError: a format or resolution that is not there, or several samples for one file.
        ArtifactError: samples or VAE are missing or damaged, or the VAE is not the one that the samples need.
        DivergedError: no sample holds an object.
    """
    file_format = _check_format(output, file_format)
    _check_resolution(resolution)
    source = _open_samples(samples, model)
    home = _home_of_vae(source, model)
    latents = load_tensors(source.file("latents.safetensors"))["latents"]
    as_file = output.suffix.lower() in WRITERS
    if as_file and len(latents) != 1:
        raise RecipeError(
            f"{source.path} holds {len(latents)} samples, {output.name} is one file",
            "name a folder with -o, and the format with --format",
        )
    if not dry_run:
        tune_allocator()
    generator = Generator.load(home, choose_device("cpu" if dry_run else device), sampling=False)
    options = _options(generator, resolution, file_format)
    plan = {"stage": "extract-mesh", "samples": len(latents), "writes": str(output), **asdict(options)}
    if dry_run:
        return {**plan, "grid_bytes": 4 * (options.resolution + 1) ** 3}
    if as_file:
        mesh = _extract(generator, latents[0], options)
        write_mesh(mesh, output)
        talk.say(f"wrote {output}")
        return {**plan, "report": asdict(mesh_report(mesh))}
    return {**plan, **_publish(generator, latents, source, options, output, talk)}


def _check_format(output: Path, file_format: str | None) -> str | None:
    """Return the format that was asked for, by name or by suffix."""
    suffix = output.suffix.lower()
    known = sorted(kind.removeprefix(".") for kind in WRITERS)
    if suffix in _OTHER_FORMATS or (file_format is not None and f".{file_format.lower()}" not in WRITERS):
        raise RecipeError(f"cannot write {file_format or suffix} meshes", f"use one of {', '.join(known)}")
    if suffix in WRITERS:
        if file_format is not None and f".{file_format.lower()}" != suffix:
            raise RecipeError(f"-o says {suffix}, --format says {file_format}", "leave out one of them")
        return suffix.removeprefix(".")
    return file_format.lower() if file_format else None


def _check_resolution(resolution: int | None) -> None:
    low, high = _RESOLUTIONS
    if resolution is not None and not low <= resolution <= high:
        raise RecipeError(f"a resolution of {resolution} cells", f"use {low} to {high}")


def _open_samples(samples: Path | None, model: Path | None) -> Artifact:
    if samples is None and model is not None and Workspace(model).has("samples"):
        samples = Workspace(model).path("samples")
    if samples is None:
        raise ArtifactError("there are no samples to extract meshes from", _MAKE_SAMPLES)
    return open_artifact(samples, "samples", verify=["latents.safetensors", "samples.json"])


def _home_of_vae(samples: Artifact, model: Path | None) -> Path:
    """Return the workspace whose VAE made the latents of `samples`; ArtifactError where there is none."""
    wanted = samples.manifest.inputs.get("vae")
    if wanted is None:
        raise ArtifactError(f"{samples.path} does not say which VAE it belongs to", _MAKE_SAMPLES)
    if model is not None:
        found = Workspace(model).open("vae")
        if found.id != wanted.id:
            raise ArtifactError(
                f"the VAE of {model} ({found.id[:12]}) is not the one these samples need: "
                f"{wanted.name} ({wanted.id[:12]})",
                f"name the workspace of {wanted.name} with --model, or sample again",
            )
        return model
    for place in (samples.path.parent, DEFAULT_MODEL):
        if Workspace(place).has("vae") and Workspace(place).open("vae").id == wanted.id:
            return place
    raise ArtifactError(
        f"these samples need the VAE {wanted.name} ({wanted.id[:12]}), which is neither beside them nor shipped",
        f"name the workspace of {wanted.name} with --model",
    )


def _options(generator: Generator, resolution: int | None, file_format: str | None) -> _Options:
    config = generator.recipe.mesh
    return _Options(
        resolution=resolution or config.resolution,
        iso=generator.iso if config.iso is None else config.iso,
        smallest_component=config.smallest_component,
        format=file_format or config.format,
    )


def _extract(generator: Generator, latent: torch.Tensor, options: _Options) -> Mesh:
    field = generator.field(generator.decode(latent[None].float()))
    return field_mesh(field, options.resolution, options.iso, options.smallest_component, generator.device)


def _publish(
    generator: Generator, latents: torch.Tensor, source: Artifact, options: _Options, output: Path, talk: Talk
) -> dict[str, Any]:
    """Extract all samples into the artifact `output`, unless it holds just these meshes already."""
    vae = generator.artifacts["vae"]
    mark = fingerprint("meshes", source.id, vae.id, asdict(options))
    if (output / "manifest.json").is_file() and open_artifact(output, "meshes").manifest.fingerprint == mark:
        talk.say(f"{output} is up to date")
        return _summary(open_artifact(output, "meshes"))
    details: dict[str, Any] = asdict(options)
    inputs = {"samples": source, "vae": vae}
    with publish(
        output, "meshes", recipe=generator.recipe, inputs=inputs, details=details, fingerprint=mark, name=output.name
    ) as scratch:
        meshes, document = _extract_all(generator, latents, _prompts(source, len(latents)), options, scratch, talk)
        (scratch / "meshes.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        _sheet(meshes, scratch / "contact.png", f"{len(document['meshes'])} meshes of {source.manifest.name}")
        details.update(meshes=len(document["meshes"]), rejected=len(document["rejected"]))
    talk.say(f"published {output}: {details['meshes']} meshes, {details['rejected']} rejected")
    return _summary(open_artifact(output, "meshes"))


def _extract_all(
    generator: Generator,
    latents: torch.Tensor,
    prompts: list[dict[str, Any]],
    options: _Options,
    folder: Path,
    talk: Talk,
) -> tuple[list[tuple[str, Mesh]], dict[str, Any]]:
    """Write a file per sample into `folder`; return labelled meshes for the sheet and the document of all."""
    written: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    shown: list[tuple[str, Mesh]] = []
    with talk.progress("extract-mesh", len(latents)) as progress:
        for number, (latent, origin) in enumerate(zip(latents, prompts, strict=True)):
            try:
                mesh = _extract(generator, latent, options)
            except DivergedError as error:
                talk.warn(f"sample {number}: {error.message}")
                rejected.append({"sample": number, **origin, "reason": error.message})
            else:
                name = f"{number:03d}.{options.format}"
                write_mesh(mesh, folder / name)
                written.append({"file": name, "sample": number, **origin, **asdict(mesh_report(mesh))})
                if len(shown) < _SHEET_MESHES:
                    shown.append((f"{number:03d} {origin.get('prompt') or ''}".strip(), mesh))
            progress.advance()
    if not written:
        raise DivergedError(f"no sample holds an object; the first: {rejected[0]['reason']}", "sample other seeds")
    return shown, {"meshes": written, "rejected": rejected}


def _prompts(samples: Artifact, count: int) -> list[dict[str, Any]]:
    """Return prompt and seed of every sample, as far as samples.json tells."""
    document = json.loads(samples.file("samples.json").read_text(encoding="utf-8"))
    columns = {"prompt": document.get("prompts"), "seed": document.get("seeds")}
    known = {name: values for name, values in columns.items() if isinstance(values, list) and len(values) == count}
    return [{name: values[number] for name, values in known.items()} for number in range(count)]


def _sheet(meshes: list[tuple[str, Mesh]], path: Path, title: str) -> None:
    poses, lenses = orbit(8, radius=3.2, elevation=20.0, field_of_view=36.0)
    turns = [1, 5]  # from the front right and from the back left
    rows = []
    for _, mesh in meshes:
        coloured = mesh_views(mesh, poses[turns], lenses[turns], _SHEET_SIZE)
        shape = mesh_views(mesh, poses[turns], lenses[turns], _SHEET_SIZE, painted=False)
        rows.append(np.concatenate([coloured, shape]))
    columns = ["front right", "back left", "shape", "shape"]
    contact_sheet(rows, [label for label, _ in meshes], path, title=title, columns=columns)


def _summary(artifact: Artifact) -> dict[str, Any]:
    return {"artifact": str(artifact.path), "id": artifact.id, **artifact.manifest.details}
