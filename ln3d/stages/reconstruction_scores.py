"""How well a VAE gives back objects in views that it was never supervised on."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.config.recipe import Recipe
from ln3d.data.captions import colour_words
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.errors import RecipeError
from ln3d.metrics.bootstrap import bootstrap_mean
from ln3d.metrics.image import luma_chroma_psnr, mask_iou, masked_psnr, psnr, ssim
from ln3d.models.autoencoder import Autoencoder
from ln3d.talk import Talk
from ln3d.training.vae_step import evaluation_views, reconstruct

SPLITS = ("train", "test")
_SMALLEST_FOR_SSIM = 11
_GREYS = ("black", "grey", "white")

Scores = dict[str, float]


@dataclass(frozen=True)
class Reconstruction:
    """One object seen in the compared views: as it is, as it was given back, and the scores."""

    record: ObjectRecord
    real: Float[Tensor, "v h w 3"]
    ours: Float[Tensor, "v h w 3"]
    scores: Scores


def chosen_objects(objects: Sequence[ObjectRecord], split: str, category: str | None, count: int) -> list[ObjectRecord]:
    """Return at most `count` objects of a split, always the same: in the order of a hash of their source ids."""
    found = [r for r in objects if r.split == split and category in (None, r.category)]
    return sorted(found, key=lambda r: hashlib.sha256(r.source_id.encode()).hexdigest())[:count]


def reconstruction_scores(
    networks: Autoencoder, recipe: Recipe, shards: ShardSet, category: str | None, count: int, talk: Talk
) -> tuple[dict[str, Any], list[Reconstruction]]:
    """Return the `psnr` report without its artifact ids, and what was compared.

    `psnr` is the mean over the training objects in dB, whole image on white; `details` has every split, all objects
    together and each category. Raises RecipeError where the shards have no training object of the category.
    """
    inputs, targets = evaluation_views(networks.config, shards.views)
    chosen = {split: chosen_objects(shards.objects, split, category, count) for split in SPLITS}
    if not chosen["train"]:
        raise RecipeError("there is no training object to reconstruct", "leave out --category")
    pictures, found = Pictures(shards), []
    with talk.progress("reconstruct", sum(map(len, chosen.values()))) as progress:
        for record in [record for split in SPLITS for record in chosen[split]]:
            found.append(_reconstruction(networks, recipe, pictures, record, inputs, targets))
            progress.advance(psnr=found[-1].scores["psnr"])
    details = {split: _split_details([f for f in found if f.record.split == split], recipe.seed) for split in SPLITS}
    value = details["train"]["all"]["psnr"]
    held_out = [v for v in networks.config.supervision.held_out_views if v < shards.views]
    protocol = {
        "input_views": inputs,
        "compared_views": targets,
        "never_supervised": targets == held_out,
        "resolution": shards.resolution,
        "background": "white",
        "latent": "posterior mean",
        "objects": {split: len(records) for split, records in chosen.items()},
        "order": "sha256 of the source id",
        "mean": "over views of an object, then over objects",
        "interval": "95 % bootstrap over objects",
        "seed": recipe.seed,
    }
    interval = details["train"]["all"]["psnr_interval"]
    report = {"psnr": value, "unit": "dB", "interval": interval, "details": details, "protocol": protocol}
    return report, found


def _reconstruction(
    networks: Autoencoder,
    recipe: Recipe,
    pictures: Pictures,
    record: ObjectRecord,
    inputs: Sequence[int],
    targets: Sequence[int],
) -> Reconstruction:
    colour, alpha, _ = reconstruct(networks, pictures, record.index, inputs, targets)
    truth, coverage, _ = pictures.stack(record.index, targets, None)
    real, real_alpha = torch.from_numpy(truth), torch.from_numpy(coverage)
    scores = view_scores(colour.float().cpu().clamp(0, 1), alpha.float().cpu(), real, real_alpha)
    ours = colour.float().cpu().clamp(0, 1)
    scores |= _colour_scores(recipe, pictures.shards, record.index, targets, ours)
    return Reconstruction(record, real, ours, scores)


def view_scores(
    ours: Float[Tensor, "v h w 3"],
    alpha: Float[Tensor, "v h w"],
    real: Float[Tensor, "v h w 3"],
    real_alpha: Float[Tensor, "v h w"],
) -> Scores:
    """Return the mean scores over the views of one object, and two pictures that ask nothing of a model beside them.

    `white` is an empty picture; `flat` is the true silhouette filled with the object's mean colour.
    """
    mask = real_alpha > 0.5
    luma, chroma = luma_chroma_psnr(ours, real, mask)
    solid = real[mask].mean(dim=0) if mask.any() else torch.ones(3)
    flat = real_alpha[..., None] * solid + (1 - real_alpha[..., None])
    scores = {
        "psnr": psnr(ours, real),
        "psnr_masked": masked_psnr(ours, real, mask),
        "iou": mask_iou(alpha > 0.5, mask),
        "luma_psnr": luma,
        "chroma_psnr": chroma,
        "white_psnr": psnr(torch.ones_like(real), real),
        "flat_psnr": psnr(flat, real),
        "flat_psnr_masked": masked_psnr(flat, real, mask),
    }
    if min(real.shape[1:3]) >= _SMALLEST_FOR_SSIM:
        scores["ssim"] = ssim(ours, real)
    return {name: float(value.nanmean()) for name, value in scores.items()}


def _colour_scores(
    recipe: Recipe, shards: ShardSet, index: int, views: Sequence[int], ours: Float[Tensor, "v h w 3"]
) -> Scores:
    """Return whether the dominant colour word is kept (1 or 0), and the same for objects that are not grey (or NaN)."""
    real = np.stack([shards.colour(index, view) for view in views])
    normal = np.stack([shards.normal(index, view) for view in views])
    painted = np.concatenate([(ours.numpy() * 255).round().astype(np.uint8), real[..., 3:]], axis=-1)
    words = [colour_words(pixels, normal, recipe.dataset.lighting, most=1) for pixels in (real, painted)]
    kept = float(words[0] == words[1])
    return {"colour_kept": kept, "hue_kept": math.nan if words[0][0] in _GREYS else kept}


def _split_details(found: Sequence[Reconstruction], seed: int) -> dict[str, Any]:
    groups: dict[str, list[Scores]] = defaultdict(list)
    for item in found:
        groups["all"].append(item.scores)
        groups[item.record.category].append(item.scores)
    rows = {name: _row(scores, seed) for name, scores in groups.items()}
    return {"all": rows.pop("all", {"count": 0}), "categories": dict(sorted(rows.items()))}


def _row(scores: Sequence[Scores], seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {"count": len(scores)}
    for name in scores[0]:
        estimate = bootstrap_mean(np.array([s[name] for s in scores]), seed=seed)
        row[name] = None if math.isnan(estimate.value) else estimate.value
        if name == "psnr":
            row["psnr_interval"] = [estimate.low, estimate.high]
    return row
