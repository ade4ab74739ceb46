"""How generated pictures compare with real ones: FID, KID and CLIP similarities of frozen networks' features."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from ln3d.backbones.images import ImageBackbone
from ln3d.data.shards import ObjectRecord
from ln3d.errors import RecipeError
from ln3d.geometry.vectors import unit
from ln3d.metrics.bootstrap import bootstrap_mean
from ln3d.stages.contestants import SHOWN, Compared, Contestant, check_several
from ln3d.stages.evaluation_store import Pictures, features_of
from ln3d.stages.looks import Looks
from ln3d.stages.picture_distances import distance_protocol, distances
from ln3d.stages.real_objects import PicturesOfReal, pictures_of
from ln3d.stages.reference import RealObjects
from ln3d.stages.shape_scores import training
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, Ranks

METRICS = ("fid", "kid", "clip-i", "clip-t")
UNITS = {"fid": "", "kid": "%", "clip-i": "%", "clip-t": "%"}
_PROPER = {"fid": "inception", "kid": "inception", "clip-i": "clip:ViT-B-32", "clip-t": "clip:ViT-B-32"}
_RESIZE = {"inception": "clean-fid's: bicubic with antialiasing, float32, every channel by itself"}
_PLAIN_RESIZE = "Pillow's bicubic with antialiasing, 8 bit"


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
    reference: RealObjects,
    category: str | None,
    backbone: ImageBackbone,
    talk: Talk,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, Any], Compared]:
    """Return the report of `metric` (fid, kid, clip-i or clip-t) without its artifact ids, and what was compared.

    KID and the cosines of CLIP are in percent. The processes of `ranks` divide the pictures; all return the same
    report, and the first one pictures. Raises RecipeError for too few pictures, for a reference set that has
    no features of this network (which clip-t does without), and for clip-t without prompts or with a network that
    reads no text; DivergedError where fewer than two objects have pictures.
    """
    with ranks.together():
        texts = _texts(contestant, backbone) if metric == "clip-t" else None
        real, compared = pictures_of(reference, category, talk), Compared()
        _check_counts(metric, real, backbone, contestant, talk)
    # Words need no features of real pictures: a set may have those of another network, and nothing is shown beside.
    comparable = texts is None or reference.network in (None, (backbone.name, backbone.sha256))
    theirs = real.looks(backbone, talk, ranks) if comparable else None
    ours = _looks_at(contestant, real, compared, backbone, reference, talk, ranks)
    with ranks.together():
        if ranks.first:
            _take_pictures(compared, contestant, real, ours, theirs)
    details: dict[str, Any]
    if texts is not None:
        details = {"all": _text_similarity(ours, texts[compared.places], reference.recipe.seed)}
    else:
        assert theirs is not None  # which words alone do without
        if metric in ("fid", "kid"):
            details = distances(metric, ours, theirs, real.records)
        else:
            details = _similarities(ours, theirs, contestant, compared, reference, real.records, category)
    details |= {"generated": len(ours), "failed": len(compared.failures), "reference": len(real.records)}
    details["pictures"] = {"evaluated": len(ours.rows), "reference": real.count}
    title, estimate = titled(metric, backbone.name), details["all"]
    report = {
        title: estimate["value"],
        "unit": UNITS[metric],
        "interval": [estimate["low"], estimate["high"]],
        "details": details,
        "protocol": _protocol(metric, contestant, reference, real, backbone, details),
    }
    return report, compared


def _looks_at(
    contestant: Contestant,
    real: PicturesOfReal,
    compared: Compared,
    backbone: ImageBackbone,
    reference: RealObjects,
    talk: Talk,
    ranks: Ranks,
) -> Looks:
    """Return the features of a contestant's pictures, and note in `compared` which there are."""

    def features(views: Pictures) -> Float[np.ndarray, "v d"]:
        return features_of(views, backbone.name, backbone.sha256, reference.store, backbone.features)

    with ranks.together():
        share = ranks.share(len(contestant.labels), contestant.batch)
        seen = [v if isinstance(v, str) else features(v) for v in contestant.pictures(real.cameras, talk, share)]
    seen = ranks.gathered(seen)
    with ranks.together():
        return Looks.whole(np.stack(compared.sort(seen, "samples have no pictures")))


def _take_pictures(
    compared: Compared, contestant: Contestant, real: PicturesOfReal, ours: Looks, theirs: Looks | None
) -> None:
    """Add the first view of the first objects, which were drawn before, and of the nearest training object of each.

    Without `theirs`, features of the real objects, none is known to be the nearest.
    """
    shown = compared.places[:SHOWN]
    compared.ours = [views[0] for views in contestant.pictures(real.cameras, Talk(0), shown)]
    if theirs is not None:
        compared.nearest = _nearest(ours, theirs, real.records)
        compared.theirs = [real.portrait(record) for record in compared.nearest]


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


def _check_counts(
    metric: str, real: PicturesOfReal, backbone: ImageBackbone, contestant: Contestant, talk: Talk
) -> None:
    """Refuse fewer than two objects, or three pictures, a side; warn where a covariance cannot have full rank."""
    check_several(metric, contestant)
    if len(real.records) < 2:
        raise RecipeError(
            f"{metric} needs two real objects at least, and there is {len(real.records)}", "choose another --category"
        )
    for pictures, who, what in (
        (len(contestant.labels) * len(real.cameras.camera_to_world), contestant.name, "give more of them (--count)"),
        (real.count, "the reference", "choose another --category"),
    ):
        if pictures < 3:
            raise RecipeError(f"{metric} of {pictures} pictures of {who} has no meaning", what)
        if metric == "fid" and pictures <= backbone.width:
            talk.warn(
                f"{pictures} pictures of {who} are too few for {backbone.width} features: "
                "the figure is too high, and to be compared at equal counts alone"
            )


def _text_similarity(ours: Looks, texts: Float[np.ndarray, "n d"], seed: int) -> dict[str, Any]:
    """Return the mean cosine of all views with the words that each object was made from."""
    return _estimate(np.einsum("nvd,nd->nv", unit(ours.features), unit(texts)).mean(axis=1), seed)


def _similarities(
    ours: Looks,
    theirs: Looks,
    contestant: Contestant,
    compared: Compared,
    reference: RealObjects,
    records: Sequence[ObjectRecord],
    category: str | None,
) -> dict[str, Any]:
    """Return the mean cosine with the same views of real objects, with the interval over objects."""
    cosines, seed = ours.cosines(theirs), reference.recipe.seed
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


def _nearest(ours: Looks, theirs: Looks, records: Sequence[ObjectRecord]) -> list[ObjectRecord]:
    seen = training(records)
    near = ours.chosen(range(min(SHOWN, len(ours)))).cosines(theirs.chosen(seen)).argmax(axis=1)
    return [records[seen[j]] for j in near]


def _protocol(
    metric: str,
    contestant: Contestant,
    reference: RealObjects,
    real: PicturesOfReal,
    backbone: ImageBackbone,
    details: dict[str, Any],
) -> dict[str, Any]:
    views = len(real.cameras.camera_to_world)
    how: dict[str, dict[str, Any]] = {
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
        "reference": real.described(),
        "pictures": {"reference": real.count, "evaluated": views * len(contestant.labels)},
        "backbone": {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "width": backbone.width,
            "resolution": backbone.resolution,
            "stand_in": titled(metric, backbone.name) != metric,
        },
        "resize": f"to {backbone.resolution} pixels, {_RESIZE.get(backbone.name, _PLAIN_RESIZE)}",
        "background": "white",
        **(how[metric] if metric in how else distance_protocol(metric, details)),
        "seed": reference.recipe.seed,
        "evaluated": contestant.facts(),
    }
