"""The real objects of a workspace, seen as everything else that is evaluated is seen."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.config.load import recipe_from_dict, with_overrides
from ln3d.config.recipe import Recipe
from ln3d.config.render import DatasetConfig
from ln3d.data.pictures import Pictures as ShardPictures
from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.errors import RecipeError
from ln3d.geometry.clouds import normalised_cloud, thinned, unproject
from ln3d.seeding import key_seed, numpy_generator
from ln3d.stages.evaluation_store import Store

Cloud = Float[np.ndarray, "n 3"]
Picture = Float[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w 3"]
OTHER_REFERENCE = "compare with a workspace that has the data: --reference DIR"
"""What to do where a set of real objects cannot be compared with."""
_OWN_STAGES = ("denoiser", "vae", "shards")


@dataclass(frozen=True)
class Cameras:
    """Where everything is seen from, and how large."""

    camera_to_world: Float32[np.ndarray, "v 4 4"]
    intrinsics: Float32[np.ndarray, "v 3 3"]
    size: int

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> "Cameras":
        """Return the cameras that `facts` tells of, bit for bit."""
        poses, lenses = (np.array(facts[name], np.float32) for name in ("camera_to_world", "intrinsics"))
        return cls(poses, lenses, int(facts["resolution"]))

    def facts(self) -> dict[str, Any]:
        """Return what another needs to stand in the same places."""
        return {
            "views": len(self.camera_to_world),
            "resolution": self.size,
            "camera_to_world": self.camera_to_world.tolist(),
            "intrinsics": self.intrinsics.tolist(),
        }


class RealObjects(ABC):
    """What everything is compared with: real objects, their words, and the protocol by which all is seen."""

    role: ClassVar[str]
    """What it is called among the inputs of a report."""

    def __init__(
        self, recipe: Recipe, dataset: DatasetConfig, artifact: Artifact, store: Store, records: list[ObjectRecord]
    ) -> None:
        self.recipe, self.dataset, self.artifact, self.store = recipe, dataset, artifact, store
        self._records = records

    @property
    @abstractmethod
    def shards_id(self) -> str:
        """Return the id of the shards that the objects are in."""

    @abstractmethod
    def shape_cameras(self) -> Cameras:
        """Return the cameras whose rays find the outer surfaces: those of the shards."""

    @abstractmethod
    def scanned(self, category: str | None) -> list[ObjectRecord]:
        """Return the objects that shapes are compared with, one of every shape."""

    @abstractmethod
    def cloud(self, record: ObjectRecord) -> Cloud:
        """Return the normalised outer surface of one of the `scanned` objects."""

    @abstractmethod
    def portrait(self, record: ObjectRecord) -> Picture:
        """Return one of the `scanned` objects as the first of the `shape_cameras` sees it."""

    @abstractmethod
    def described(self, category: str | None) -> str:
        """Return which shapes `scanned` returns, in words."""

    @property
    @abstractmethod
    def network(self) -> tuple[str, str] | None:
        """Return name and sha256 of the only network that can compare their pictures; None where any can."""

    def check_network(self, name: str) -> None:
        """Raise RecipeError where no pictures of the objects can be compared by the network `name`."""
        if self.network is not None and name != self.network[0]:
            raise RecipeError(
                f"{self.artifact.path} holds features of {self.network[0]}, not of {name}", OTHER_REFERENCE
            )

    def trained(self, vae: Artifact) -> bool:
        """Return whether a VAE was trained on the shards that the objects are in."""
        shards = vae.manifest.inputs.get("shards")
        return shards is not None and shards.id == self.shards_id

    def categories(self) -> list[str]:
        """Return the categories that have objects."""
        return sorted({record.category for record in self._records})

    def check_category(self, category: str | None) -> None:
        """Raise RecipeError, listing those that exist, where no object is of `category`."""
        known = self.categories()
        if category is not None and category not in known:
            raise RecipeError(
                f"there is no object of category {category}", f"choose one of: {', '.join(known) or 'none'}"
            )

    def objects(self, category: str | None) -> list[ObjectRecord]:
        """Return all real objects of the category, or all there are."""
        return [record for record in self._records if category in (None, record.category)]

    def shapes(self, category: str | None) -> list[ObjectRecord]:
        """Return the first object of every shape (liveries share one). Raises RecipeError for fewer than two."""
        shapes: dict[str, ObjectRecord] = {}
        for record in self.objects(category):
            shapes.setdefault(record.shape_id, record)
        if len(shapes) < 2:
            what = f"of category {category}" if category else "in the shards"
            raise RecipeError(f"only {len(shapes)} shape {what}: two at least are needed", "choose another --category")
        return list(shapes.values())

    def prompts(self, category: str | None, count: int) -> list[str]:
        """Return one caption per sample, of the shapes in turn: the k-th sample has the k-th shape's words."""
        shapes, prompts = self.shapes(category), []
        for k in range(count):
            captions = shapes[k % len(shapes)].captions or (shapes[k % len(shapes)].category,)
            drawn = numpy_generator(self.recipe.seed, "prompt", k).integers(len(captions))
            prompts.append(captions[int(drawn)])
        return prompts


class Reference(RealObjects):
    """The shards of a workspace, the protocol that its recipe sets, and the meshes behind them where they are at hand.

    The protocol (`evaluation` and `seed`) is that of the workspace's last stage, so that all that is compared with
    this workspace is compared alike.
    """

    role = "shards"

    def __init__(self, workspace: Workspace, artifact: Artifact, overrides: Sequence[str], store: Store) -> None:
        """Raises RecipeError for an override that is no `evaluation.*`."""
        self.shards = ShardSet(artifact)
        recipe, dataset = protocol_recipe(workspace, overrides), recipe_from_dict(artifact.manifest.recipe).dataset
        super().__init__(recipe, dataset, artifact, store, self.shards.objects)

    @property
    def shards_id(self) -> str:
        """Return the id of the shards themselves."""
        return self.artifact.id

    def shape_cameras(self) -> Cameras:
        """Return the cameras whose rays find the outer surfaces: those of the shards."""
        first = self.shards.objects[0].index
        return Cameras(self.shards.camera_to_world(first), self.shards.intrinsics(first), self.shards.resolution)

    def scanned(self, category: str | None) -> list[ObjectRecord]:
        """Return the first object of every shape."""
        return self.shapes(category)

    def cloud(self, record: ObjectRecord) -> Cloud:
        """Return the outer surface of an object: the pixels of its stored depth maps, thinned and normalised; kept."""
        key = [self.artifact.id, record.source_id, self.recipe.evaluation.points, self.recipe.seed]
        kept = self.store.tensors("clouds", key, lambda: {"points": torch.from_numpy(self._scan(record))})
        return kept["points"].numpy()

    def _scan(self, record: ObjectRecord) -> Cloud:
        if "depth" in record.lacks:
            raise RecipeError(f"{record.source_id} has no depth: its shape is unknown", "use fid, kid or clip-i")
        depth = np.stack([self.shards.depth(record.index, view) for view in range(self.shards.views)])
        seen = unproject(depth, self.shards.camera_to_world(record.index), self.shards.intrinsics(record.index))
        points = self.recipe.evaluation.points
        return normalised_cloud(thinned(seen, points, key_seed(self.recipe.seed, "reference", record.source_id)))

    def portrait(self, record: ObjectRecord) -> Picture:
        """Return the first stored view of an object on white."""
        picture: Picture = ShardPictures(self.shards).stack(record.index, [0])[0][0]
        return picture

    def described(self, category: str | None) -> str:
        """Return which shapes `scanned` returns, in words."""
        return "all unique shapes of the category, whatever their split; held_out: those of the test split"

    @property
    def network(self) -> None:
        """Return None: any network can look at the pictures."""


def protocol_recipe(workspace: Workspace, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the last stage that a workspace has been through, with `evaluation.*` changed.

    Raises RecipeError for an override of anything else.
    """
    kind = next((kind for kind in _OWN_STAGES if workspace.has(kind)), "shards")
    check_overrides(overrides)
    return with_overrides(recipe_from_dict(workspace.open(kind).manifest.recipe), overrides)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise RecipeError for an override that is no `evaluation.*`."""
    for override in overrides:
        if not override.startswith("evaluation."):
            raise RecipeError(f"--set {override}: an evaluation changes evaluation.* alone", "leave it out")
