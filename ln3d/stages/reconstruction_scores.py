"""How well a VAE gives back objects in views that it was never supervised on."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from ln3d.backbones.perceptual import Lpips
from ln3d.data.captions import colour_words
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.data.subsets import LISTED_SPLITS, Groups
from ln3d.errors import RecipeError
from ln3d.metrics.bootstrap import bootstrap_mean
from ln3d.metrics.image import filled, luma_chroma_psnr, mask_iou, masked_psnr, mean_colour, psnr, ssim
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages.listed_objects import Chosen, listed_objects
from ln3d.stages.reference import Reference
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, Ranks
from ln3d.training.reconstruction import evaluation_views, reconstruct

SPLITS = LISTED_SPLITS
METRICS = ("psnr", "ssim", "lpips")
UNITS = {"psnr": "dB", "ssim": "", "lpips": ""}
_SMALLEST_FOR_SSIM, _SMALLEST_FOR_LPIPS = 11, 32
_WORDS = {"train": "training", "test": "test"}
_GREYS = ("black", "grey", "white")
_ENOUGH_HUES = 40  # a share of fewer objects says little

Scores = dict[str, float]


@dataclass(frozen=True)
class Reconstruction:
    """One object seen in the compared views: as it is, as it was given back, and the scores."""

    record: ObjectRecord
    real: Float[Tensor, "v h w 3"]
    ours: Float[Tensor, "v h w 3"]
    scores: Scores
    coverage: Float[Tensor, "v h w"]
    """Of the real object."""
    group: str = ""
    """What the list of objects calls it, where there is one."""


def chosen_objects(objects: Sequence[ObjectRecord], split: str, category: str | None, count: int) -> list[ObjectRecord]:
    """Return at most `count` objects of a split, always the same: in the order of a hash of their source ids."""
    found = [r for r in objects if r.split == split and category in (None, r.category)]
    return sorted(found, key=lambda r: hashlib.sha256(r.source_id.encode()).hexdigest())[:count]


def reconstruction_scores(
    metric: str,
    networks: Autoencoder,
    reference: Reference,
    category: str | None,
    count: int | None,
    talk: Talk,
    *,
    vae: str,
    lpips: Lpips | None = None,
    listed: Mapping[str, Groups] | None = None,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, Any], list[Reconstruction]]:
    """Return the report of `metric` (psnr, ssim or lpips) without its artifact ids, and what was compared.

    The value is the mean over the training objects, or over the test objects where a list names no others, whole
    image on white, PSNR in dB; `details` has every split, all objects together and each category; with a list of
    objects (`listed`, see `read_object_list`) also each of its groups, and beside every mean what asks nothing of a
    model (`_beside_baselines`). `count` is the most objects of a split, None for all. Views are drawn as large as the
    shards store them and averaged over areas down to `evaluation.resolution`, both pictures alike. `vae` is the id of
    the networks, under which their pictures are kept. The processes of `ranks` divide the objects, and all return the
    same.

    Raises RecipeError where the shards have no training object of the category, or a list no object of it, for an
    object that is listed and not there or of another split, for a resolution that the stored one is no multiple of,
    and for one that is too small for the metric.
    """
    shards, recipe = reference.shards, reference.recipe
    with ranks.together():
        side = compared_side(shards.resolution, recipe.evaluation.resolution)
        check_side(metric, side)
        chosen = _chosen(shards.objects, category, count, listed)
        headline = _headline(chosen, listed is not None)
        camera = _Camera(networks, Pictures(shards), reference, vae)
        found, every = list[Reconstruction](), list(_in_order(chosen))
        share = ranks.share(len(every))
        with talk.progress("reconstruct", len(share)) as progress:
            for group, record in every[share.start : share.stop]:
                found.append(_reconstruction(camera, record, side, lpips, group))
                progress.advance(psnr=found[-1].scores["psnr"])
    found = ranks.gathered(found)
    if listed is not None:
        _add_baselines(found)
    details = {split: _split_details([f for f in found if f.record.split == split], recipe.seed) for split in SPLITS}
    row = details[headline]["all"]
    protocol = {
        **camera.facts(),
        "stored_resolution": shards.resolution,
        "compared_resolution": side,
        "filter": "none" if side == shards.resolution else "mean over areas, both pictures on white",
        "background": "white",
        "latent": "posterior mean",
        "objects": {split: sum(map(len, groups.values())) for split, groups in chosen.items()},
        "order": "sha256 of the source id" if listed is None else "as listed",
        "mean": f"over views of an object, then over the {_WORDS[headline]} objects",
        "interval": "95 % bootstrap over objects",
        "seed": recipe.seed,
    }
    if lpips is not None:
        protocol["backbone"] = {"name": lpips.name, "sha256": lpips.sha256}
    interval = row[f"{metric}_interval"]
    report = {metric: row[metric], "unit": UNITS[metric], "interval": interval, "details": details}
    if listed is not None:
        report["saturated"] = _saturated(found)
    return {**report, "protocol": protocol}, found


def _chosen(
    objects: Sequence[ObjectRecord], category: str | None, count: int | None, listed: Mapping[str, Groups] | None
) -> Chosen:
    if listed is not None:
        return listed_objects(objects, listed, category, count)
    most = len(objects) if count is None else count
    return {split: {"": chosen_objects(objects, split, category, most)} for split in SPLITS}


def _headline(chosen: Chosen, listed: bool) -> str:
    """Return the split whose mean is the value: the training objects', or those held out of a list without others."""
    there = [split for split in SPLITS if any(chosen.get(split, {}).values())]
    if not there or (there[0] != "train" and not listed):
        what = "object of the list" if listed else "training object"
        raise RecipeError(f"there is no {what} to reconstruct", "leave out --category")
    return there[0]


def _in_order(chosen: Chosen) -> Iterator[tuple[str, ObjectRecord]]:
    """Yield every object with its group, training objects first."""
    for split in SPLITS:
        for group, records in chosen.get(split, {}).items():
            yield from ((group, record) for record in records)


@dataclass
class _Camera:
    """Looks at the reconstruction of an object in the compared views, once: the pictures are kept."""

    networks: Autoencoder
    pictures: Pictures
    reference: Reference
    vae: str

    def __post_init__(self) -> None:
        self.inputs, self.targets = evaluation_views(self.networks.config, self.pictures.shards)

    def facts(self) -> dict[str, Any]:
        held_out = [v for v in self.networks.config.supervision.held_out_views if v < self.pictures.shards.views]
        return {
            "input_views": self.inputs,
            "compared_views": self.targets,
            "never_supervised": self.targets == held_out,
        }

    def look(self, record: ObjectRecord) -> tuple[Float[Tensor, "v h w 3"], Float[Tensor, "v h w 1"]]:
        def draw() -> dict[str, Tensor]:
            colour, alpha, _ = reconstruct(self.networks, self.pictures, record.index, self.inputs, self.targets)
            return {"colour": colour.float().cpu().clamp(0, 1), "alpha": alpha.float().cpu()[..., None]}

        key = [self.vae, self.reference.artifact.id, record.key, self.inputs, self.targets]
        drawn = self.reference.store.tensors("reconstructions", key, draw)
        return drawn["colour"], drawn["alpha"]


def _reconstruction(
    camera: _Camera, record: ObjectRecord, side: int, lpips: Lpips | None, group: str
) -> Reconstruction:
    drawn, drawn_alpha = camera.look(record)
    truth, coverage, _ = camera.pictures.stack(record.index, camera.targets)
    real, real_alpha = torch.from_numpy(truth), torch.from_numpy(coverage)[..., None]
    ours, ours_alpha, real, real_alpha = (area_mean(p, side) for p in (drawn, drawn_alpha, real, real_alpha))
    scores = view_scores(ours, ours_alpha[..., 0], real, real_alpha[..., 0])
    if lpips is not None:
        scores["lpips"] = float(_perceptual(lpips, ours, real).mean())
    if {"mask", "normal"} & set(record.lacks):
        scores |= {"colour_kept": math.nan, "hue_kept": math.nan}
    else:
        lighting = camera.reference.dataset.lighting
        scores |= _colour_scores(lighting, camera.pictures.shards, record.index, camera.targets, drawn)
    return Reconstruction(record, real, ours, scores, real_alpha[..., 0], group)


@torch.no_grad()
def _perceptual(lpips: Lpips, ours: Float[Tensor, "v h w 3"], real: Float[Tensor, "v h w 3"]) -> Float[Tensor, " v"]:
    device = next((p.device for p in lpips.parameters()), torch.device("cpu"))
    a, b = (rearrange(views, "v h w c -> v c h w").to(device) for views in (ours, real))
    distances: Float[Tensor, " v"] = lpips(a, b).cpu()
    return distances


def check_side(metric: str, side: int) -> None:
    """Raise RecipeError where views of `side` pixels are too small for the metric."""
    smallest = {"ssim": _SMALLEST_FOR_SSIM, "lpips": _SMALLEST_FOR_LPIPS}.get(metric, 1)
    if side < smallest:
        raise RecipeError(
            f"{metric} needs views of at least {smallest} pixels, not {side}",
            "set evaluation.resolution higher, or render the data larger",
        )


def compared_side(stored: int, wanted: int) -> int:
    """Return the side in pixels at which views of `stored` pixels are compared: `wanted`, or `stored` if that is less.

    Raises RecipeError where `stored` is no multiple of it: pixels would have to be split.
    """
    if stored > wanted and stored % wanted:
        sizes = [side for side in range(8, stored + 1) if stored % side == 0]
        raise RecipeError(
            f"views of {stored} pixels cannot be averaged to evaluation.resolution {wanted}",
            f"set it to one of {', '.join(map(str, sizes))}",
        )
    return min(stored, wanted)


def area_mean(images: Float[Tensor, "v h w c"], side: int) -> Float[Tensor, "v i i c"]:
    """Return the images with `side` pixels a side, each the mean of the square of pixels that it covers."""
    factor = images.shape[1] // side
    return images if factor == 1 else reduce(images, "v (h f) (w g) c -> v h w c", "mean", f=factor, g=factor)


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
    flat = filled(real_alpha, mean_colour(real, mask))
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
    lighting: str, shards: ShardSet, index: int, views: Sequence[int], ours: Float[Tensor, "v h w 3"]
) -> Scores:
    """Return whether the dominant colour word is kept (1 or 0), and the same for objects that are not grey (or NaN)."""
    real = np.stack([shards.colour(index, view) for view in views])
    normal = np.stack([shards.normal(index, view) for view in views])
    painted = np.concatenate([(ours.numpy() * 255).round().astype(np.uint8), real[..., 3:]], axis=-1)
    words = [colour_words(pixels, normal, lighting, most=1) for pixels in (real, painted)]
    kept = float(words[0] == words[1])
    return {"colour_kept": kept, "hue_kept": math.nan if words[0][0] in _GREYS else kept}


def _add_baselines(found: Sequence[Reconstruction]) -> None:
    """Add the scores inside the mask of an empty picture, and of the true outline in all training objects' colour.

    The second needs training objects among those that were found.
    """
    training = [mean_colour(f.real, f.coverage > 0.5) for f in found if f.record.split == "train"]
    common = torch.stack(training).mean(dim=0) if training else None
    for item in found:
        mask = item.coverage > 0.5
        white = torch.ones_like(item.real)
        item.scores["white_psnr_masked"] = float(masked_psnr(white, item.real, mask).nanmean())
        if common is not None:
            plain = filled(item.coverage, common)
            item.scores["common_psnr_masked"] = float(masked_psnr(plain, item.real, mask).nanmean())


def _saturated(found: Sequence[Reconstruction]) -> dict[str, Any]:
    """Return how many objects of all splits are not grey, and the share of them whose colour word is kept."""
    kept = [f.scores["hue_kept"] for f in found if not math.isnan(f.scores["hue_kept"])]
    return {"count": len(kept), "kept": sum(kept) / len(kept) if kept else None, "enough": len(kept) >= _ENOUGH_HUES}


def _split_details(found: Sequence[Reconstruction], seed: int) -> dict[str, Any]:
    groups: dict[str, list[Scores]] = defaultdict(list)
    categories: dict[str, list[Scores]] = defaultdict(list)
    for item in found:
        categories[item.record.category].append(item.scores)
        if item.group:
            groups[item.group].append(item.scores)
    every = [item.scores for item in found]
    details: dict[str, Any] = {"all": _row(every, seed) if every else {"count": 0}}
    details["categories"] = {name: _row(scores, seed) for name, scores in sorted(categories.items())}
    if groups:
        details["groups"] = {name: _row(scores, seed) for name, scores in groups.items()}
    return details


def _row(scores: Sequence[Scores], seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {"count": len(scores)}
    for name in scores[0]:
        estimate = bootstrap_mean(np.array([s[name] for s in scores]), seed=seed)
        row[name] = None if math.isnan(estimate.value) else estimate.value
        if name in UNITS:
            row[f"{name}_interval"] = [estimate.low, estimate.high]
    return row | _beside_baselines(row, scores) if "white_psnr_masked" in row else row


def _beside_baselines(row: dict[str, Any], scores: Sequence[Scores]) -> dict[str, Any]:
    """Return how far the mean inside the mask is above the better of two pictures, in dB, and the objects with a hue.

    `above_flat`: an empty picture, or the outline in the object's own mean colour; `above_common`: an empty picture,
    or the outline in the mean colour of all training objects. None where no mask has a pixel, and where there is no
    training object.
    """
    hues = sum(not math.isnan(s["hue_kept"]) for s in scores)
    above: dict[str, float | None] = {}
    for name in ("flat", "common"):
        masked, plain = row["psnr_masked"], row.get(f"{name}_psnr_masked")
        known = masked is not None and plain is not None
        above[f"above_{name}"] = masked - max(row["white_psnr_masked"], plain) if known else None
    return {"saturated": hues, **above}
