"""`sample`: a denoiser and its VAE in; meshes, pictures, turntables or a `samples` artifact out."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.errors import DivergedError, RecipeError
from ln3d.export.mesh import WRITERS, Mesh, write_mesh
from ln3d.generation.mesh import field_mesh
from ln3d.generation.model import Generator, views_around
from ln3d.report.sheets import contact_sheet
from ln3d.report.turntable import write_gif
from ln3d.runtime import choose_device, tune_allocator
from ln3d.talk import Talk

_ATTEMPTS = 9  # the seed itself and eight others
_STRIDE = 1000  # between the seeds of one sample's attempts, so that they are not its neighbours' seeds
_VIEWS, _FRAMES, _SIZE = 4, 36, 128  # of a picture, of a turntable, and their side in pixels
_SHEET_ROWS = 24


@dataclass
class _Order:
    """What was asked for."""

    text: str | None
    output: Path
    count: int
    seed: int
    steps: int
    guidance: float


@dataclass
class _Drawn:
    """Samples that hold an object, in the order of their places."""

    places: list[int] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    meshes: list[Mesh] = field(default_factory=list)
    retries: int = 0


def run(
    model: Path | None,
    talk: Talk,
    *,
    text: str | None,
    output: Path,
    count: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "auto",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Draw `count` samples and write them as `output` says; return files, seeds, retries and seconds.

    .glb, .obj and .ply are meshes (name-0.glb, name-1.glb and so on for several), .gif turntables likewise, .png one
    picture with a row of views per sample; a name without suffix is a `samples` artifact. Sample i has the seed
    `seed` + i; one whose field is empty or debris is drawn again with other seeds, and this is said.

    Raises RecipeError (unknown suffix, a text for an unconditional model), ArtifactError, DivergedError.
    """
    start = time.monotonic()
    write = _writer(output)
    for name, value in {"--count": count, "--steps": 1 if steps is None else steps}.items():
        if value < 1:
            raise RecipeError(f"{name} is {value}", "use 1 or more")
    if not dry_run:
        tune_allocator()
    generator = Generator.load(model, choose_device("cpu" if dry_run else device))
    if text and not generator.conditional:
        raise RecipeError("this model is unconditional: it cannot follow a text", "leave out --text")
    defaults = generator.recipe.diffusion.sampler
    order = _Order(
        text=text or None,
        output=output,
        count=count,
        seed=seed,
        steps=defaults.steps if steps is None else steps,
        guidance=defaults.guidance if guidance is None else guidance,
    )
    plan = {"stage": "sample", "text": order.text, "count": count, "steps": order.steps, "guidance": order.guidance}
    if dry_run:
        return {**plan, "writes": str(output), "evaluations": order.count * order.steps}
    drawn, files = write(generator, order, talk)
    for file in files:
        talk.say(f"wrote {file}")
    seconds = round(time.monotonic() - start, 3)
    written = {"files": [str(file) for file in files], "seeds": drawn.seeds, "retries": drawn.retries}
    return {**plan, **written, "seconds": seconds}


def _writer(output: Path) -> Callable[[Generator, _Order, Talk], tuple[_Drawn, list[Path]]]:
    suffix = output.suffix.lower()
    if suffix in WRITERS:
        return _write_meshes
    known = {".png": _write_picture, ".gif": _write_turntables, "": _write_artifact}
    if suffix not in known:
        raise RecipeError(
            f"cannot write samples as {output.name}",
            f"use one of {', '.join(sorted([*WRITERS, '.gif', '.png']))}, or a folder's name without a suffix",
        )
    return known[suffix]


def _draw(generator: Generator, order: _Order, talk: Talk) -> _Drawn:
    """Return the samples that hold an object; DivergedError where no attempt at any of them does."""
    drawn, waiting, reason = _Drawn(), list(range(order.count)), ""
    found: dict[int, tuple[int, Tensor, Mesh]] = {}
    stride = _STRIDE * -(-order.count // _STRIDE)
    with talk.progress("sample", order.count) as progress:
        for attempt in range(_ATTEMPTS):
            seeds = [order.seed + place + stride * attempt for place in waiting]
            latents = generator.sample([order.text] * len(seeds), seeds, order.steps, order.guidance)
            failed = []
            for place, seed, latent in zip(waiting, seeds, latents, strict=True):
                try:
                    found[place] = (seed, latent, _mesh(generator, latent))
                    progress.advance()
                except DivergedError as error:
                    reason = error.message
                    failed.append(place)
                    talk.warn(f"seed {seed}: {reason}" + _next(seed + stride, attempt))
            drawn.retries += len(failed) if attempt + 1 < _ATTEMPTS else 0
            waiting = failed
            if not waiting:
                break
    if not found:
        raise DivergedError(
            f"none of {_ATTEMPTS} seeds gave an object; the last: {reason}",
            "take another --seed, a lower --guidance, or a model that was trained for longer",
        )
    for place in sorted(found):
        seed, latent, mesh = found[place]
        drawn.places.append(place)
        drawn.seeds.append(seed)
        drawn.latents.append(latent)
        drawn.meshes.append(mesh)
    return drawn


def _next(seed: int, attempt: int) -> str:
    return f"; trying seed {seed}" if attempt + 1 < _ATTEMPTS else "; given up"


def _mesh(generator: Generator, latent: Tensor) -> Mesh:
    config = generator.recipe.mesh
    scene = generator.field(generator.decode(latent[None]))
    iso = generator.iso if config.iso is None else config.iso
    return field_mesh(scene, config.resolution, iso, config.smallest_component, generator.device)


def _write_meshes(generator: Generator, order: _Order, talk: Talk) -> tuple[_Drawn, list[Path]]:
    drawn = _draw(generator, order, talk)
    files = [_numbered(order, place) for place in drawn.places]
    for mesh, file in zip(drawn.meshes, files, strict=True):
        write_mesh(mesh, file)
    return drawn, files


def _write_turntables(generator: Generator, order: _Order, talk: Talk) -> tuple[_Drawn, list[Path]]:
    drawn = _draw(generator, order, talk)
    files = [_numbered(order, place) for place in drawn.places]
    with talk.progress("turntable", len(files)) as progress:
        for latent, file in zip(drawn.latents, files, strict=True):
            frames = generator.views(latent[None], *views_around(_FRAMES), _SIZE)
            with _whole(file) as scratch:
                write_gif(frames[0].numpy(), scratch)
            progress.advance()
    return drawn, files


def _write_picture(generator: Generator, order: _Order, talk: Talk) -> tuple[_Drawn, list[Path]]:
    drawn = _draw(generator, order, talk)
    with _whole(order.output) as scratch:
        _sheet(generator, order, drawn, scratch)
    return drawn, [order.output]


def _write_artifact(generator: Generator, order: _Order, talk: Talk) -> tuple[_Drawn, list[Path]]:
    details: dict[str, Any] = {"text": order.text, "steps": order.steps, "guidance": order.guidance}
    recipe, name = generator.recipe, order.output.name
    with publish(
        order.output, "samples", recipe=recipe, inputs=generator.artifacts, details=details, name=name
    ) as scratch:
        drawn = _draw(generator, order, talk)
        details.update(samples=len(drawn.seeds), retries=drawn.retries)
        document = {"prompts": [order.text] * len(drawn.seeds), "seeds": drawn.seeds, **details}
        save_tensors(scratch / "latents.safetensors", {"latents": torch.stack(drawn.latents)})
        (scratch / "samples.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
        _sheet(generator, order, drawn, scratch / "contact.png")
    return drawn, [order.output]


def _sheet(generator: Generator, order: _Order, drawn: _Drawn, path: Path) -> None:
    pictures = generator.views(torch.stack(drawn.latents[:_SHEET_ROWS]), *views_around(_VIEWS), _SIZE)
    labels = [f"seed {seed}" for seed in drawn.seeds[:_SHEET_ROWS]]
    contact_sheet(pictures.numpy(), labels, path, title=order.text or "")


def _numbered(order: _Order, place: int) -> Path:
    """Return name.glb for a single sample, name-0.glb, name-1.glb and so on for several."""
    if order.count == 1:
        return order.output
    return order.output.with_name(f"{order.output.stem}-{place}{order.output.suffix}")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` to write to, and move what is there to `path` at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
