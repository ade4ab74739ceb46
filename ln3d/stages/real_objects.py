"""Where the real objects come from that something is compared with: a workspace's shards, or a reference set."""

from collections.abc import Sequence
from pathlib import Path

from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError
from ln3d.stages.evaluation_store import Store
from ln3d.stages.real_pictures import RealPictures
from ln3d.stages.reference import RealObjects, Reference
from ln3d.stages.reference_set import ReferenceSet, SetPictures
from ln3d.talk import Talk

PicturesOfReal = RealPictures | SetPictures


def has_real_objects(root: Path) -> bool:
    """Return whether there is something in the folder to compare with."""
    return any(Workspace(root).has(kind) for kind in ("shards", "reference"))


def open_real_objects(root: Path, overrides: Sequence[str], store: Store) -> RealObjects:
    """Return the real objects of a workspace or model folder: its shards, or else the reference set it carries.

    What is worked out of them goes to `store`. Raises ArtifactError, saying what is there, where it has neither, and
    RecipeError for an override that does not fit.
    """
    workspace = Workspace(root)
    if workspace.has("shards") or not root.is_dir():
        return Reference(workspace, workspace.open("shards"), overrides, store)
    if workspace.has("reference"):
        return ReferenceSet(workspace.open("reference"), overrides, store)
    there = [kind for kind in ("vae", "latents", "denoiser", "samples", "meshes") if workspace.has(kind)]
    raise ArtifactError(
        f"{root} has no shards and no reference set to compare with ({', '.join(there) or 'nothing'} is there)",
        "name a workspace with shards, or a model that carries a reference set: --reference DIR",
    )


def pictures_of(reference: RealObjects, category: str | None, talk: Talk) -> PicturesOfReal:
    """Return the pictures of the real objects of a category, or of all."""
    if isinstance(reference, ReferenceSet):
        return SetPictures(reference, category)
    if isinstance(reference, Reference):
        return RealPictures(reference, reference.objects(category), talk)
    raise TypeError(f"{type(reference).__name__} has no pictures")
