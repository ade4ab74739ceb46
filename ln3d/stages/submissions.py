"""Other systems' output: a folder of meshes, or of pictures, in place of a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ln3d.config.render import DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import CatalogueEntry, list_objects
from ln3d.data.contents import folder_digest
from ln3d.data.readers.textures import decode
from ln3d.errors import LN3DError, RecipeError
from ln3d.geometry.clouds import normalised_cloud, thinned, unproject
from ln3d.seeding import key_seed
from ln3d.stages.evaluation_store import Pictures, Store
from ln3d.stages.real_pictures import draw_each, drawing_key, drawing_order, to_uint8
from ln3d.stages.reconstruction_scores import area_mean
from ln3d.stages.reference import Cameras, Cloud, RealObjects
from ln3d.talk import Talk

_LIGHTING = "albedo"  # what a model learned has light in its colours already, so none is added
_PROMPT = "prompt.txt"


@dataclass
class MeshFolder:
    """Meshes of any system (+y up, +z front, any size): scaled like the data, drawn and scanned like it.

    `captions.csv` in the folder (docs/data.md) says what each was made from.
    """

    folder: Path
    reference: RealObjects
    store: Store
    count: int | None = None
    entries: list[CatalogueEntry] = field(init=False)

    def __post_init__(self) -> None:
        """Raises RecipeError where the folder holds no mesh."""
        if not self.folder.is_dir():
            raise RecipeError(f"{self.folder}: no such folder", "name the folder of the meshes: --meshes FOLDER")
        self.entries = list_objects(DatasetConfig(), self.folder)[: self.count]
        self._digest = folder_digest(self.folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def labels(self) -> list[str]:
        """The path of every mesh below the folder."""
        return [str(entry.load[1]["path"]) for entry in self.entries]

    @property
    def prompts(self) -> list[str]:
        """The first caption of captions.csv, where there is one."""
        told = (self.folder / "captions.csv").is_file()
        return [entry.captions[0] if told else "" for entry in self.entries]

    @property
    def follows_reference(self) -> bool:
        """Whether each object was made from the words of a known real one: that cannot be told."""
        return False

    @property
    def batch(self) -> int:
        """One: every mesh is drawn by itself."""
        return 1

    def identity(self) -> object:
        """Return a hash of all files and the number of objects."""
        return ["meshes", self._digest, len(self.entries)]

    def facts(self) -> dict[str, Any]:
        """Return where the objects come from and how they are drawn."""
        return {
            "system": self.name,
            "meshes": len(self.entries),
            "sha256": self._digest,
            "drawing": f"as the reference, lighting {_LIGHTING}; bounding sphere of radius 0.9 at the origin",
        }

    def clouds(self, reference: RealObjects, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Cloud | str]:
        """Yield the points that the cameras of the shards see of every mesh, or why it cannot be read."""
        order, wanted = drawing_order(reference, reference.shape_cameras(), _LIGHTING), self._wanted(places)
        points, seed = reference.recipe.evaluation.points, reference.recipe.seed
        keys = [[drawing_key(order, [self._digest, label]), points, seed] for label in self.labels]
        reasons: dict[int, str] = {}
        missing = [place for place in wanted if self.store.kept_tensors("clouds", keys[place]) is None]
        for turn, seen in draw_each(order, [self.entries[place] for place in missing], talk, "scan meshes"):
            place = missing[turn]
            if isinstance(seen, str):
                reasons[place] = f"{self.labels[place]}: {seen}"
                continue
            found = unproject(seen.depth, order.camera_to_world, order.intrinsics)
            try:
                chosen = thinned(found, points, key_seed(seed, "generated", self.labels[place]))
                cloud = normalised_cloud(chosen).astype(np.float32)
            except ValueError as error:
                reasons[place] = f"{self.labels[place]}: {error}"
                continue
            self.store.keep_tensors("clouds", keys[place], {"points": torch.from_numpy(cloud)})
        for place in wanted:
            yield reasons[place] if place in reasons else _kept(self.store, keys[place])

    def pictures(self, cameras: Cameras, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Pictures | str]:
        """Yield every mesh seen by all cameras, or why it cannot be drawn."""
        order, wanted = drawing_order(self.reference, cameras, _LIGHTING), self._wanted(places)
        keys = [drawing_key(order, [self._digest, label]) for label in self.labels]
        reasons: dict[int, str] = {}
        missing = [place for place in wanted if self.store.kept_pictures(keys[place]) is None]
        for turn, seen in draw_each(order, [self.entries[place] for place in missing], talk, "draw meshes"):
            if isinstance(seen, str):
                reasons[missing[turn]] = f"{self.labels[missing[turn]]}: {seen}"
            else:
                self.store.keep_pictures(keys[missing[turn]], seen.colour)
        for place in wanted:
            yield reasons[place] if place in reasons else self.store.pictures(keys[place])

    def _wanted(self, places: Sequence[int] | None) -> Sequence[int]:
        return range(len(self.entries)) if places is None else places


@dataclass
class PictureFolder:
    """Pictures of any system: `<object>/<view>.png`, as many views of each as the protocol has, in its order.

    `<object>/prompt.txt`, where there is one, says what the object was made from.
    """

    folder: Path
    count: int | None = None
    objects: list[Path] = field(init=False)

    def __post_init__(self) -> None:
        """Raises RecipeError where there is no sub-folder with a picture."""
        found = sorted(path for path in self.folder.glob("*") if path.is_dir() and any(path.glob("*.png")))
        if not found:
            raise RecipeError(
                f"{self.folder}: no pictures <object>/<view>.png", "name the folder of the objects: --renders FOLDER"
            )
        self.objects = found[: self.count]
        self._digest = folder_digest(self.folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def labels(self) -> list[str]:
        """The name of every object's folder."""
        return [path.name for path in self.objects]

    @property
    def prompts(self) -> list[str]:
        """The text of prompt.txt beside the pictures, where there is one."""
        told = [path / _PROMPT for path in self.objects]
        return [path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else "" for path in told]

    @property
    def follows_reference(self) -> bool:
        """Whether each object was made from the words of a known real one: that cannot be told."""
        return False

    @property
    def batch(self) -> int:
        """One: every object is read by itself."""
        return 1

    def identity(self) -> object:
        """Return a hash of all files and the number of objects."""
        return ["renders", self._digest, len(self.objects)]

    def facts(self) -> dict[str, Any]:
        """Return where the pictures come from; their cameras are the word of whoever drew them."""
        return {
            "system": self.name,
            "renders": len(self.objects),
            "sha256": self._digest,
            "drawing": "pictures as given, averaged over areas where larger, blended on white",
        }

    def clouds(self, reference: RealObjects, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Cloud | str]:
        """Raise RecipeError: pictures have no surface."""
        raise RecipeError(f"the pictures of {self.name} have no surface to compare", "give its meshes: --meshes FOLDER")

    def pictures(self, cameras: Cameras, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Pictures | str]:
        """Yield the views of every object in the order of their names.

        Raises RecipeError where their number or size does not fit the protocol, or one cannot be read.
        """
        for place in self.objects if places is None else [self.objects[i] for i in places]:
            files = sorted(place.glob("*.png"))
            if len(files) != len(cameras.camera_to_world):
                raise RecipeError(
                    f"{place} has {len(files)} pictures, the protocol {len(cameras.camera_to_world)}",
                    "draw every object from the cameras of report.json, or set evaluation.views",
                )
            yield np.stack([_picture(file, cameras.size) for file in files])


def _kept(store: Store, key: object) -> Cloud:
    kept = store.kept_tensors("clouds", key)
    if kept is None:
        raise LN3DError(f"{store.root} is being cleared while it is read", "run the same command again")
    cloud: Cloud = kept["points"].numpy()
    return cloud


def _picture(path: Path, side: int) -> np.ndarray:
    """Return one picture on white with `side` pixels a side, as bytes."""
    try:
        pixels = decode(path.read_bytes(), LimitsConfig(), str(path)).astype(np.float32) / 255
    except LN3DError as error:
        raise RecipeError(error.message, "draw the picture again, as PNG") from error
    height, width = pixels.shape[:2]
    if height != width or height % side:
        raise RecipeError(
            f"{path} has {width}x{height} pixels, the protocol {side}x{side}",
            f"draw it at {side}x{side} or a multiple, or set evaluation.image_resolution",
        )
    on_white = pixels[..., :3] * pixels[..., 3:] + (1 - pixels[..., 3:])
    return to_uint8(area_mean(torch.from_numpy(on_white)[None], side))[0]
