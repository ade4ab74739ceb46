"""How generated pictures compare with real ones: FID, KID and CLIP similarities of frozen networks' features."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from ln3d.backbones.images import ImageBackbone
from ln3d.data.shards import ObjectRecord
from ln3d.errors import RecipeError
from ln3d.metrics.bootstrap import bootstrap_mean
from ln3d.metrics.frechet import frechet_distance
from ln3d.metrics.kernel_distance import kernel_distance
from ln3d.stages.contestants import SHOWN, Compared, Contestant
from ln3d.stages.evaluation_store import Pictures, features_of
from ln3d.stages.real_pictures import RealPictures
from ln3d.stages.reference import Reference
from ln3d.stages.shape_scores import training
from ln3d.talk import Talk

METRICS = ("fid", "kid", "clip-i", "clip-t")
UNITS = {"fid": "", "kid": "%", "clip-i": "%", "clip-t": "%"}
_PROPER = {"fid": "inception", "kid": "inception", "clip-i": "clip:ViT-B-32", "clip-t": "clip:ViT-B-32"}
_RESIZE = {"inception": "clean-fid's: bicubic with antialiasing, float32, every channel by itself"}
_PLAIN_RESIZE = "Pillow's bicubic with antialiasing, 8 bit"
_GROUPS = 10  # of objects that are left out in turn, for the intervals of fid and kid
_SUBSETS, _SUBSET_SIZE = 100, 1000  # of kid, as torch-fidelity

Features = Float[np.ndarray, "n v d"]
Distance = Callable[[Features, Features], float]


@runtime_checkable
class TextBackbone(Protocol):
    """A network that puts texts and pictures into one space."""

    def text_features(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return one feature vector per text, comparable with those of pictures by their cosine."""
        ...


def titled(metric: str, backbone: str) -> str:
    """Return what a figure is called: `fid`, or `fid[efficientnet-lite0]` where a stand-in gave the features."""
    return metric if backbone == _PROPER.get(metric, backbone) else f"{metric}[{backbone}]"


def image_scores(
    metric: str,
    contestant: Contestant,
    reference: Reference,
    category: str | None,
    backbone: ImageBackbone,
    talk: Talk,
) -> tuple[dict[str, Any], Compared]:
    """Return the report of `metric` (fid, kid, clip-i or clip-t) without its artifact ids, and what was compared.

    KID and the cosines of CLIP are in percent. Raises RecipeError for too few pictures, and for clip-t without
    prompts or with a network that reads no text; DivergedError where fewer than two objects have pictures.
    """
    texts = _texts(contestant, backbone) if metric == "clip-t" else None
    real, compared = RealPictures(reference, reference.objects(category), talk), Compared()
    _check_counts(metric, real, backbone, contestant, talk)

    def features(views: Pictures) -> Float[np.ndarray, "v d"]:
        return features_of(views, backbone.name, backbone.sha256, reference.store, backbone.features)

    real.draw(talk)
    with talk.progress("look at references", len(real.records)) as progress:
        seen = []
        for record in real.records:
            seen.append(features(real.views(record)))
            progress.advance()
    theirs = np.stack(seen)

    def noted(views: Pictures) -> Pictures:
        compared.ours += [views[0]] if len(compared.ours) < SHOWN else []
        return views

    looks = (v if isinstance(v, str) else features(noted(v)) for v in contestant.pictures(real.cameras, talk))
    ours = np.stack(compared.sort(looks, "samples have no pictures"))
    compared.nearest = _nearest(ours, theirs, real.records)
    compared.theirs = [real.views(record)[0] for record in compared.nearest]
    if metric in ("fid", "kid"):
        details = _distances(metric, ours, theirs, real.records)
    else:
        details = _similarities(metric, ours, theirs, texts, contestant, compared, reference, category)
    details |= {"generated": len(ours), "failed": len(compared.failures), "reference": len(theirs)}
    title, estimate = titled(metric, backbone.name), details["all"]
    report = {
        title: estimate["value"],
        "unit": UNITS[metric],
        "interval": [estimate["low"], estimate["high"]],
        "details": details,
        "protocol": _protocol(metric, contestant, reference, real, backbone),
    }
    return report, compared


def _texts(contestant: Contestant, backbone: ImageBackbone) -> Float[np.ndarray, "n d"]:
    if not all(contestant.prompts):
        raise RecipeError(
            f"clip-t needs the words that every object of {contestant.name} was made from",
            "a folder of meshes says them in captions.csv, one of pictures in <object>/prompt.txt",
        )
    if not isinstance(backbone, TextBackbone):
        raise RecipeError(
            f"{backbone.name} reads no text", "set evaluation.clip to a CLIP model, such as clip:ViT-B-32=FILE"
        )
    return backbone.text_features(contestant.prompts)


def _check_counts(metric: str, real: RealPictures, backbone: ImageBackbone, contestant: Contestant, talk: Talk) -> None:
    """Refuse fewer than two objects, or three pictures, a side; warn where a covariance cannot have full rank."""
    for count, who, what in (
        (len(contestant.labels), contestant.name, "give more of them (--count)"),
        (len(real.records), "the reference", "choose another --category"),
    ):
        if count < 2:
            raise RecipeError(f"{metric} of {count} object of {who} has no meaning: two at least are needed", what)
        pictures = count * len(real.cameras.camera_to_world)
        if pictures < 3:
            raise RecipeError(f"{metric} of {pictures} pictures of {who} has no meaning", what)
        if metric == "fid" and pictures <= backbone.width:
            talk.warn(
                f"{pictures} pictures of {who} are too few for {backbone.width} features: "
                "the figure is too high, and to be compared at equal counts alone"
            )


def _distances(metric: str, ours: Features, theirs: Features, records: Sequence[ObjectRecord]) -> dict[str, Any]:
    """Return the distance to all objects with its interval, and to the held-out ones."""
    measure: Distance = _frechet if metric == "fid" else _kernel
    value = measure(ours, theirs)
    reach = 1.96 * _jackknife_error(_frechet if metric == "fid" else _few_kernels, ours, theirs)
    low = max(value - reach, 0.0) if metric == "fid" else value - reach
    details: dict[str, Any] = {"all": {"value": value, "low": low, "high": value + reach, "count": len(theirs)}}
    unseen = [i for i, record in enumerate(records) if record.split == "test"]
    if len(unseen) >= 2:
        details["held_out"] = {"value": measure(ours, theirs[unseen]), "count": len(unseen)}
    return details


def _jackknife_error(measure: Distance, ours: Features, theirs: Features) -> float:
    """Return the standard error of a distance by leaving out a tenth of the objects in turn (Kott 2001).

    A bootstrap would draw objects twice, and a distance between distributions takes doubles for a difference.
    """
    groups = min(_GROUPS, len(ours), len(theirs))
    of_ours, of_theirs = (np.arange(len(x)) * groups // len(x) for x in (ours, theirs))
    parts = [measure(ours[of_ours != g], theirs[of_theirs != g]) for g in range(groups)]
    return float(np.sqrt((groups - 1) * np.var(parts)))


def _rows(features: Features) -> Float[np.ndarray, "r d"]:
    return features.reshape(-1, features.shape[-1])


def _frechet(ours: Features, theirs: Features) -> float:
    return frechet_distance(_rows(ours), _rows(theirs))


def _kernel(ours: Features, theirs: Features, subsets: int = _SUBSETS) -> float:
    a, b = _rows(ours), _rows(theirs)
    return 100 * kernel_distance(a, b, subsets=subsets, subset_size=min(_SUBSET_SIZE, len(a), len(b))).value


def _few_kernels(ours: Features, theirs: Features) -> float:
    return _kernel(ours, theirs, _SUBSETS // 10)


def _similarities(
    metric: str,
    ours: Features,
    theirs: Features,
    texts: Float[np.ndarray, "n d"] | None,
    contestant: Contestant,
    compared: Compared,
    reference: Reference,
    category: str | None,
) -> dict[str, Any]:
    """Return the mean cosine with the interval over objects: of clip-i with real views, of clip-t with the prompt."""
    seed = reference.recipe.seed
    if texts is not None:
        told = _unit(texts[compared.places])
        return {"all": _estimate(np.einsum("nvd,nd->nv", _unit(ours), told).mean(axis=1), seed)}
    cosines = _view_cosines(ours, theirs)
    records = reference.objects(category)
    split = np.array([record.split == "test" for record in records])
    if contestant.follows_reference:
        shapes = reference.shapes(category)
        place = {record.index: n for n, record in enumerate(records)}
        pairs = np.array([place[shapes[p % len(shapes)].index] for p in compared.places])
        values, unseen = cosines[np.arange(len(ours)), pairs], split[pairs]
        details = {"all": _estimate(values, seed)}
        return details | ({"held_out": _estimate(values[unseen], seed)} if unseen.sum() >= 2 else {})
    details = {"all": _estimate(cosines.max(axis=1), seed)}
    return details | ({"held_out": _estimate(cosines[:, split].max(axis=1), seed)} if split.sum() >= 2 else {})


def _estimate(values: Float[np.ndarray, " n"], seed: int) -> dict[str, Any]:
    estimate = bootstrap_mean(values.astype(np.float64), seed=seed).scaled(100.0)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "count": estimate.count}


def _view_cosines(ours: Features, theirs: Features) -> Float[np.ndarray, "n m"]:
    """Return the cosine of the same views of every pair of objects, mean over the views."""
    a, b = _unit(ours), _unit(theirs)
    cosines: Float[np.ndarray, "n m"] = a.reshape(len(a), -1) @ b.reshape(len(b), -1).T / a.shape[1]
    return cosines


def _unit(vectors: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float[np.ndarray, "*n d"] = vectors / np.maximum(lengths, 1e-12)
    return unit


def _nearest(ours: Features, theirs: Features, records: Sequence[ObjectRecord]) -> list[ObjectRecord]:
    seen = training(records)
    near = _view_cosines(ours[:SHOWN], theirs[seen]).argmax(axis=1)
    return [records[seen[j]] for j in near]


def _protocol(
    metric: str, contestant: Contestant, reference: Reference, real: RealPictures, backbone: ImageBackbone
) -> dict[str, Any]:
    views = len(real.cameras.camera_to_world)
    over_objects = f"95 %, jackknife: {_GROUPS} groups of objects left out in turn"
    how: dict[str, dict[str, Any]] = {
        "fid": {"statistics": "mean and covariance over all pictures", "interval": over_objects},
        "kid": {
            "kernel": "(x.y / d + 1)^3, unbiased",
            "subsets": _SUBSETS,
            "subset_size": min(_SUBSET_SIZE, views * len(real.records), views * len(contestant.labels)),
            "interval": over_objects,
        },
        "clip-i": {
            "pairs": "the same views of the real object whose words the sample was given"
            if contestant.follows_reference
            else "the same views of the nearest real object",
            "interval": "95 % bootstrap over objects",
        },
        "clip-t": {"pairs": "every view with the words it was made from", "interval": "95 % bootstrap over objects"},
    }
    return {
        "cameras": real.facts(),
        "reference": "all real objects of the category, whatever their split; held_out: those of the test split",
        "pictures": {"reference": views * len(real.records), "evaluated": views * len(contestant.labels)},
        "backbone": {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "width": backbone.width,
            "resolution": backbone.resolution,
            "stand_in": titled(metric, backbone.name) != metric,
        },
        "resize": f"to {backbone.resolution} pixels, {_RESIZE.get(backbone.name, _PLAIN_RESIZE)}",
        "background": "white",
        **how[metric],
        "seed": reference.recipe.seed,
        "evaluated": contestant.facts(),
    }
