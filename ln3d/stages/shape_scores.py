"""How generated shapes compare with real ones: COV, MMD and 1-NNA of points on their outer surfaces."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.errors import DivergedError, RecipeError
from ln3d.generation.mesh import field_mesh
from ln3d.generation.model import Generator
from ln3d.generation.outer_surface import outer_points
from ln3d.geometry.chamfer import CloudSet, cloud_set
from ln3d.geometry.chamfer_minima import chamfer_minima
from ln3d.geometry.clouds import normalised_cloud, thinned, unproject
from ln3d.metrics.bootstrap import Estimate, bootstrap_mean
from ln3d.metrics.coverage import covered, matching_distances, own_kind
from ln3d.runtime import available_cores
from ln3d.seeding import key_seed, numpy_generator
from ln3d.talk import Talk

UNITS = {"cov": "%", "mmd": "x1e-3", "nna": "%"}
_SCALES = {"cov": 100.0, "mmd": 1000.0, "nna": 100.0}
_BATCH = 16  # latents that are sampled between two looks of the progress bar

Cloud = Float[np.ndarray, "n 3"]


@dataclass
class Compared:
    """What a set comparison was made of: kept latents with their prompts, and the nearest reference of each."""

    latents: list[Tensor] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    clouds: list[Cloud] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    nearest: list[ObjectRecord] = field(default_factory=list)


def reference_shapes(shards: ShardSet, category: str | None) -> list[ObjectRecord]:
    """Return the first object of every shape (liveries share one) of the category, or of all.

    Raises RecipeError where there are fewer than two.
    """
    shapes: dict[str, ObjectRecord] = {}
    for record in shards.objects:
        if category in (None, record.category):
            shapes.setdefault(record.shape_id, record)
    if len(shapes) < 2:
        what = f"of category {category}" if category else "in the shards"
        raise RecipeError(f"only {len(shapes)} shape {what}: two at least are needed", "choose another --category")
    return list(shapes.values())


def shape_scores(
    metric: str, generator: Generator, shards: ShardSet, category: str | None, count: int, talk: Talk
) -> tuple[dict[str, Any], Compared]:
    """Return the report of `metric` (cov, mmd or nna) without its artifact ids, and what was compared.

    COV and 1-NNA are in percent, MMD is printed x1e3. Raises RecipeError for too few samples or references, and
    DivergedError where fewer than two samples have a surface.
    """
    if count < 2:
        raise RecipeError(f"{metric} of {count} sample has no meaning", "give --count 2 or more")
    recipe = generator.recipe
    references = reference_shapes(shards, category)
    real = [_reference_cloud(shards, record, recipe.evaluation.points, recipe.seed) for record in references]
    compared = _generated(generator, shards, references, count, talk)
    if len(compared.clouds) < 2:
        raise DivergedError(
            f"{len(compared.failures)} of {count} samples have no surface: {compared.failures[0]}",
            "train for longer, or lower the guidance of the recipe",
        )
    ours, theirs = cloud_set(compared.clouds), cloud_set(real)
    between, details = _details(ours, theirs, recipe.seed, talk)
    compared.nearest = [references[j] for j in between.argmin(axis=1)]
    unseen = [i for i, record in enumerate(references) if record.split == "test"]
    if len(unseen) >= 2:
        details["held_out"] = _details(ours, _subset(theirs, unseen), recipe.seed, Talk(0))[1]
    details |= {
        "generated": len(compared.clouds),
        "failed": len(compared.failures),
        "reference": len(references),
        "highest_possible_cov": 100.0 * min(1.0, len(compared.clouds) / len(references)),
    }
    estimate = details[metric]
    report = {
        metric: estimate["value"],
        "unit": UNITS[metric],
        "interval": [estimate["low"], estimate["high"]],
        "details": details,
        "protocol": _protocol(generator, shards, references, count),
    }
    return report, compared


def _details(
    ours: CloudSet, theirs: CloudSet, seed: int, talk: Talk
) -> tuple[Float[np.ndarray, "g r"], dict[str, Any]]:
    workers = available_cores()
    g, r = len(ours), len(theirs)
    with talk.progress("chamfer", g * r + g * g + r * r) as progress:
        between, within, among = (
            chamfer_minima(a, b, workers=workers, progress=progress.advance)
            for a, b in ((ours, theirs), (ours, ours), (theirs, theirs))
        )
    values = {
        "cov": covered(between),
        "mmd": matching_distances(between),
        "nna": own_kind(within, between, among),
    }
    estimates: dict[str, Estimate] = {
        name: bootstrap_mean(value, seed=seed).scaled(_SCALES[name]) for name, value in values.items()
    }
    return between, {name: asdict(estimate) for name, estimate in estimates.items()}


def _subset(clouds: CloudSet, chosen: Sequence[int]) -> CloudSet:
    return CloudSet(tuple(clouds.points[i] for i in chosen), tuple(clouds.trees[i] for i in chosen))


def _reference_cloud(shards: ShardSet, record: ObjectRecord, points: int, seed: int) -> Cloud:
    depth = np.stack([shards.depth(record.index, view) for view in range(shards.views)])
    seen = unproject(depth, shards.camera_to_world(record.index), shards.intrinsics(record.index))
    return normalised_cloud(thinned(seen, points, key_seed(seed, "reference", record.source_id)))


def _generated(
    generator: Generator, shards: ShardSet, references: Sequence[ObjectRecord], count: int, talk: Talk
) -> Compared:
    """Sample, mesh and look at `count` shapes; a field without a surface is recorded with its reason."""
    compared, recipe = Compared(), generator.recipe
    cameras = shards.camera_to_world(references[0].index), shards.intrinsics(references[0].index)
    iso = recipe.mesh.iso or generator.iso
    prompts = reference_prompts(references, count, recipe.seed) if generator.conditional else [""] * count
    with talk.progress("sample", count) as progress:
        for start in range(0, count, _BATCH):
            seeds = range(start, min(start + _BATCH, count))
            for seed, latent in zip(seeds, generator.sample([prompts[s] for s in seeds], list(seeds)), strict=True):
                progress.advance()
                scene = generator.field(generator.decode(latent[None]))
                try:
                    mesh = field_mesh(
                        scene, recipe.mesh.resolution, iso, recipe.mesh.smallest_component, generator.device
                    )
                    seen = outer_points(mesh.vertices, mesh.faces, *cameras, shards.resolution)
                    chosen = thinned(seen, recipe.evaluation.points, key_seed(recipe.seed, "generated", seed))
                    compared.clouds.append(normalised_cloud(chosen))
                except (DivergedError, ValueError) as error:
                    compared.failures.append(f"seed {seed}: {error}")
                    continue
                compared.latents.append(latent)
                compared.prompts.append(prompts[seed])
    return compared


def reference_prompts(references: Sequence[ObjectRecord], count: int, seed: int) -> list[str]:
    """Return one caption per sample, from the references in turn: the k-th sample has the k-th reference's words."""
    prompts = []
    for k in range(count):
        captions = references[k % len(references)].captions or (references[k % len(references)].category,)
        prompts.append(captions[int(numpy_generator(seed, "prompt", k).integers(len(captions)))])
    return prompts


def _protocol(generator: Generator, shards: ShardSet, references: Sequence[ObjectRecord], count: int) -> dict[str, Any]:
    recipe, sampler = generator.recipe, generator.recipe.diffusion.sampler
    return {
        "distance": "squared L2 Chamfer, mean per point, both ways added",
        "points": recipe.evaluation.points,
        "surface": "outer: first hits of the rays of all pixels of all views, thinned to even spacing",
        "normalisation": "bounding box centred, longest side to [-1, 1]",
        "cameras": {
            "views": shards.views,
            "resolution": shards.resolution,
            "camera_to_world": shards.camera_to_world(references[0].index).tolist(),
            "intrinsics": shards.intrinsics(references[0].index).tolist(),
        },
        "reference": "all unique shapes of the category, whatever their split; held_out: those of the test split",
        "mesh": {"resolution": recipe.mesh.resolution, "iso": recipe.mesh.iso or generator.iso},
        "sampler": {"method": sampler.method, "steps": sampler.steps, "guidance": sampler.guidance},
        "prompts": "captions of the reference shapes in turn" if generator.conditional else "none",
        "samples": count,
        "seeds": [0, count - 1],
        "interval": "95 % bootstrap over shapes",
        "seed": recipe.seed,
    }


def sample_pictures(generator: Generator, latents: Sequence[Tensor], shards: ShardSet) -> Float[Tensor, "n h w 3"]:
    """Return a picture of each latent from the first camera of the shards."""
    pose, lens = shards.camera_to_world(0)[:1], shards.intrinsics(0)[:1]
    views = generator.views(
        torch.stack(list(latents)), torch.from_numpy(pose), torch.from_numpy(lens), shards.resolution
    )
    return views[:, 0]
