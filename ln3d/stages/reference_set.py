"""A reference set: what a model carries of some real objects, so that it can be scored where the data is not."""

import io
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from ln3d.artifacts.manifest import MADE_BY
from ln3d.artifacts.opening import Artifact, verify_file
from ln3d.artifacts.tensors import load_tensors
from ln3d.backbones.images import ImageBackbone
from ln3d.config.load import recipe_from_dict, with_overrides
from ln3d.data.shards import ObjectRecord
from ln3d.errors import RecipeError
from ln3d.stages.evaluation_store import Store
from ln3d.stages.looks import Looks
from ln3d.stages.reference import OTHER_REFERENCE, Cameras, Cloud, Picture, RealObjects, check_overrides
from ln3d.talk import Talk
from ln3d.training.ranks import ALONE, Ranks

OBJECTS, CAMERAS = "objects.json", "cameras.json"
FEATURES, CLOUDS = "features.safetensors", "clouds.safetensors"
PORTRAITS = {"pictures": "pictures.jpg", "shapes": "shapes.jpg"}
_FIXED = ("views", "elevation", "image_resolution", "points")
_STEPS = 32767  # of a coordinate between 0 and 1
_PER_ROW = 16
_PACK_AGAIN = f"take the file that it was packed with, or pack the reference again: {MADE_BY['reference']}"


class ReferenceSet(RealObjects):
    """A stated number of pictures' features and of outer surfaces, under the protocol that they were measured by.

    `objects` are those that pictures were looked at of, `scanned` those with a surface.
    """

    role = "reference"

    def __init__(self, artifact: Artifact, overrides: Sequence[str], store: Store) -> None:
        """Raises ArtifactError for a damaged set, RecipeError for an override of what it was measured by."""
        check_overrides(overrides)
        stored = recipe_from_dict(artifact.manifest.recipe)
        recipe = with_overrides(stored, overrides)
        for name in _FIXED:
            was, wanted = (getattr(r.evaluation, name) for r in (stored, recipe))
            if was != wanted:
                raise RecipeError(
                    f"{artifact.path} was measured with evaluation.{name}={was}, not {wanted}", OTHER_REFERENCE
                )
        records = [_record(place, told) for place, told in enumerate(json.loads(artifact.verified(OBJECTS)))]
        super().__init__(recipe, recipe.dataset, artifact, store, records)
        self.cameras: dict[str, dict[str, Any]] = json.loads(artifact.verified(CAMERAS))
        """`pictures` and `shapes`: where each was seen from, as `Cameras.from_facts` takes it, and what is known more.
        """
        self.counts: dict[str, dict[str, int]] = artifact.manifest.details["categories"]
        """How many pictures, objects and shapes of every category there were, and how many of them are here."""

    @property
    def shards_id(self) -> str:
        """Return the id of the shards that the objects are in."""
        return self.artifact.manifest.inputs["shards"].id

    def shape_cameras(self) -> Cameras:
        """Return the cameras whose rays found the outer surfaces."""
        return Cameras.from_facts(self.cameras["shapes"])

    def objects(self, category: str | None) -> list[ObjectRecord]:
        """Return the objects of the category, or of all, that pictures were looked at of."""
        return self._with(self.looks["object"].numpy(), category)

    def scanned(self, category: str | None) -> list[ObjectRecord]:
        """Return the objects of the category, or of all, that have a surface here, one of every shape."""
        found = self._with(self._clouds["object"].numpy(), category)
        if len(found) < 2:
            what = f"{len(found)} surface{f' of category {category}' if category else 's'}"
            raise RecipeError(f"{self.artifact.path} has {what}: two are needed", OTHER_REFERENCE)
        return found

    def cloud(self, record: ObjectRecord) -> Cloud:
        """Return the normalised outer surface of one of the `scanned` objects."""
        steps = self._clouds["points"][_place(self._clouds, record)].numpy()
        return unquantised(steps)

    def portrait(self, record: ObjectRecord) -> Picture:
        """Return one of the `scanned` objects as the first of the `shape_cameras` saw it, enlarged from a miniature."""
        return self.miniature("shapes", _place(self._clouds, record), self.shape_cameras().size)

    def described(self, category: str | None) -> str:
        """Return which shapes `scanned` returns, in words."""
        shapes = _share(self.count("shapes", category), self.count("all_shapes", category))
        return f"{shapes} unique shapes, drawn by the seed whatever their split; held_out: those of the test split"

    @property
    def network(self) -> tuple[str, str]:
        """Return name and sha256 of the network that has looked at the pictures."""
        own = self.artifact.manifest.details["backbone"]
        return own["name"], own["sha256"]

    def count(self, what: str, category: str | None) -> int:
        """Return one of the `counts` of a category, or its sum over all."""
        return sum(counts[what] for name, counts in self.counts.items() if category in (None, name))

    @cached_property
    def looks(self) -> dict[str, Tensor]:
        """Return `features` (r d) and, for each, its `object` and `view` (r,)."""
        return load_tensors(verify_file(self.artifact, FEATURES))

    def miniature(self, kind: str, place: int, side: int) -> UInt8[np.ndarray, "side side 3"]:
        """Return the miniature at `place` of the `pictures` or the `shapes`, with `side` pixels a side."""
        return miniature(self.artifact.verified(PORTRAITS[kind]), place, side)

    @cached_property
    def _clouds(self) -> dict[str, Tensor]:
        """Return `points` (n k 3) in steps and, for each cloud, its `object` (n,)."""
        return load_tensors(verify_file(self.artifact, CLOUDS))

    def _with(self, numbers: Int[np.ndarray, " r"], category: str | None) -> list[ObjectRecord]:
        return [self._records[i] for i in np.unique(numbers) if category in (None, self._records[i].category)]


class SetPictures:
    """The pictures that a reference set has features of."""

    def __init__(self, reference: ReferenceSet, category: str | None) -> None:
        self.reference, self.category = reference, category
        self.records = reference.objects(category)
        self.cameras = Cameras.from_facts(reference.cameras["pictures"])

    def facts(self) -> dict[str, Any]:
        """Return what the protocol says of the cameras and of how real objects were drawn."""
        return self.reference.cameras["pictures"]

    @property
    def count(self) -> int:
        """Return the number of pictures."""
        return self.reference.count("pictures", self.category)

    def described(self) -> str:
        """Return which real objects, and which pictures of them, there are features of, in words."""
        pictures, objects = (
            _share(self.reference.count(here, self.category), self.reference.count(all_, self.category))
            for here, all_ in (("pictures", "all_pictures"), ("objects", "all_objects"))
        )
        which = f"{pictures} pictures, of {objects} real objects, drawn by the seed whatever their split"
        return f"{which}; features in half precision; held_out: those of the test split"

    def looks(self, backbone: ImageBackbone, talk: Talk, ranks: Ranks = ALONE) -> Looks:
        """Return the features of the pictures, which every process reads.

        Raises RecipeError for another network, or other weights of it.
        """
        self.reference.check_network(backbone.name)
        _, own = self.reference.network
        if backbone.sha256 != own:
            what = f"{backbone.sha256[:12]}..., not {own[:12]}..."
            raise RecipeError(f"the weights of {backbone.name} are others than the reference's: {what}", _PACK_AGAIN)
        kept = self.reference.looks
        n, views = len(self.records), len(self.cameras.camera_to_world)
        looks = Looks(np.zeros((n, views, backbone.width), np.float32), np.zeros((n, views), dtype=bool))
        places = {record.index: place for place, record in enumerate(self.records)}
        for row, (number, view) in enumerate(zip(kept["object"].tolist(), kept["view"].tolist(), strict=True)):
            if number in places:
                looks.features[places[number], view] = kept["features"][row].numpy()
                looks.seen[places[number], view] = True
        return looks

    def portrait(self, record: ObjectRecord) -> Picture:
        """Return an object from the first camera, enlarged from a miniature."""
        place = int(np.searchsorted(np.unique(self.reference.looks["object"].numpy()), record.index))
        return self.reference.miniature("pictures", place, self.cameras.size)


def quantised(points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n 3"]:
    """Return coordinates in [-1, 1] as whole steps, two bytes each."""
    steps: Int[np.ndarray, "n 3"] = np.rint(points * _STEPS).astype(np.int16)
    return steps


def unquantised(steps: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return the coordinates of whole steps, at most 1.6e-5 beside those that were quantised."""
    points: Float[np.ndarray, "n 3"] = steps.astype(np.float32) / np.float32(_STEPS)
    return points


def miniatures(pictures: Sequence[UInt8[np.ndarray, "h w 3"]], side: int) -> bytes:
    """Return square pictures as one JPEG: rows of sixteen, each averaged down to `side` pixels a side."""
    rows = -(-len(pictures) // _PER_ROW)
    sheet = Image.new("RGB", (_PER_ROW * side, max(rows, 1) * side), "white")
    for place, picture in enumerate(pictures):
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
        sheet.paste(small, (place % _PER_ROW * side, place // _PER_ROW * side))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def miniature(data: bytes, place: int, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Return the picture at `place` of `miniatures`, with `side` pixels a side."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as sheet:
        own = sheet.width // _PER_ROW
        left, top = place % _PER_ROW * own, place // _PER_ROW * own
        return np.array(sheet.crop((left, top, left + own, top + own)).resize((side, side)))


def _record(place: int, told: dict[str, Any]) -> ObjectRecord:
    lists = {name: tuple(told[name]) for name in ("captions", "colours", "lacks")}
    return ObjectRecord(**{**told, **lists, "index": place})


def _place(clouds: dict[str, Tensor], record: ObjectRecord) -> int:
    return clouds["object"].tolist().index(record.index)


def _share(here: int, all_: int) -> str:
    return f"all {all_}" if here == all_ else f"{here} of {all_}"
