"""The real objects of a workspace, seen as everything else that is evaluated is seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.config.load import recipe_from_dict, with_overrides
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.errors import RecipeError
from ln3d.geometry.clouds import normalised_cloud, thinned, unproject
from ln3d.seeding import key_seed, numpy_generator
from ln3d.stages.evaluation_store import Store

Cloud = Float[np.ndarray, "n 3"]
_OWN_STAGES = ("denoiser", "vae", "shards")


@dataclass(frozen=True)
class Cameras:
    """Where everything is seen from, and how large."""

    camera_to_world: Float32[np.ndarray, "v 4 4"]
    intrinsics: Float32[np.ndarray, "v 3 3"]
    size: int

    def facts(self) -> dict[str, Any]:
        """Return what another needs to stand in the same places."""
        return {
            "views": len(self.camera_to_world),
            "resolution": self.size,
            "camera_to_world": self.camera_to_world.tolist(),
            "intrinsics": self.intrinsics.tolist(),
        }


class Reference:
    """The shards of a workspace, the protocol that its recipe sets, and the meshes behind them where they are at hand.

    The protocol (`evaluation` and `seed`) is that of the workspace's last stage, so that all that is compared with
    this workspace is compared alike.
    """

    def __init__(self, workspace: Workspace, artifact: Artifact, overrides: Sequence[str], store: Store) -> None:
        """Raises RecipeError for an override that is no `evaluation.*`."""
        self.recipe = protocol_recipe(workspace, overrides)
        self.artifact, self.store = artifact, store
        self.shards = ShardSet(artifact)
        self.dataset = recipe_from_dict(artifact.manifest.recipe).dataset

    def check_category(self, category: str | None) -> None:
        """Raise RecipeError, listing those that exist, where no object is of `category`."""
        known = sorted({record.category for record in self.shards.objects})
        if category is not None and category not in known:
            raise RecipeError(
                f"there is no object of category {category}", f"choose one of: {', '.join(known) or 'none'}"
            )

    def objects(self, category: str | None) -> list[ObjectRecord]:
        """Return all real objects of the category, or all there are."""
        return [record for record in self.shards.objects if category in (None, record.category)]

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

    def shape_cameras(self) -> Cameras:
        """Return the cameras whose rays find the outer surfaces: those of the shards."""
        first = self.shards.objects[0].index
        return Cameras(self.shards.camera_to_world(first), self.shards.intrinsics(first), self.shards.resolution)

    def cloud(self, record: ObjectRecord) -> Cloud:
        """Return the outer surface of an object: the pixels of its stored depth maps, thinned and normalised."""
        if "depth" in record.lacks:
            raise RecipeError(f"{record.source_id} has no depth: its shape is unknown", "use fid, kid or clip-i")
        depth = np.stack([self.shards.depth(record.index, view) for view in range(self.shards.views)])
        seen = unproject(depth, self.shards.camera_to_world(record.index), self.shards.intrinsics(record.index))
        points = self.recipe.evaluation.points
        return normalised_cloud(thinned(seen, points, key_seed(self.recipe.seed, "reference", record.source_id)))


def protocol_recipe(workspace: Workspace, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of the last stage that a workspace has been through, with `evaluation.*` changed.

    Raises RecipeError for an override of anything else.
    """
    for override in overrides:
        if not override.startswith("evaluation."):
            raise RecipeError(f"--set {override}: an evaluation changes evaluation.* alone", "leave it out")
    kind = next((kind for kind in _OWN_STAGES if workspace.has(kind)), "shards")
    return with_overrides(recipe_from_dict(workspace.open(kind).manifest.recipe), overrides)
