"""Whether a stage still has to run."""

from collections.abc import Callable, Mapping
from typing import Any

from ln3d.artifacts.manifest import Manifest, fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.config.load import recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.config.training import INDIFFERENT
from ln3d.errors import ArtifactError, RecipeError

Hashes = Mapping[str, str]
"""Of local files of weights, by what they are for: `decoder_start`, `discriminators`, `perceptual`."""
NONE_LOCAL: Hashes = {}
_LOCAL = ("decoder_start", "discriminators", "perceptual")
_SECTIONS = {"vae": "vae", "denoiser": "diffusion"}


def up_to_date(
    workspace: Workspace,
    kind: str,
    mark: str,
    mark_of: Callable[[Manifest], str] | None = None,
    *,
    elsewhere: str = "choose another workspace (-w)",
) -> Artifact | None:
    """Return the published artifact if its fingerprint is `mark`, None if there is none.

    `mark_of` works the fingerprint out anew from what a manifest says: an artifact published by an older version is
    then known by its recipe and inputs. Raises ArtifactError if there is one made otherwise, with `elsewhere` as the
    way out: nothing is overwritten unasked.
    """
    if not workspace.has(kind):
        return None
    artifact = workspace.open(kind)
    if mark == artifact.manifest.fingerprint or (mark_of is not None and mark == mark_of(artifact.manifest)):
        return artifact
    raise ArtifactError(
        f"{workspace.path(kind)} was made with another recipe or from other inputs",
        f"{elsewhere}, or remove {workspace.path(kind)} to make it again",
    )


def training_mark(kind: str, recipe: Recipe, inputs: Mapping[str, str], local: Hashes = NONE_LOCAL) -> str:
    """Return the fingerprint of a trained `kind`: what decides its weights, and the ids of its inputs by role.

    `local` are the hashes of the files that the recipe names without saying what is in them, see `local_weights`.
    """
    left_out = {"training": set(INDIFFERENT), "sampler": True}  # the sampler may be chosen afterwards
    section = getattr(recipe, _SECTIONS[kind]).model_dump(mode="json", exclude=left_out)
    return fingerprint(kind, section, recipe.seed, dict(inputs), *([dict(local)] if local else []))


def mark_of_trained(manifest: Manifest, unstated: Hashes = NONE_LOCAL) -> str:
    """Return what `training_mark` says of a published artifact; an empty text where its recipe is not understood.

    `unstated` are the hashes of local files as they are now, for an artifact of an older version that does not say
    which it was made with.
    """
    try:
        recipe = recipe_from_dict(manifest.recipe)
    except RecipeError:
        return ""
    inputs, local = {role: entry.id for role, entry in manifest.inputs.items()}, stated_weights(manifest.details)
    return training_mark(manifest.kind, recipe, inputs, {**unstated, **local})


def stated_weights(details: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of local files that the details of a manifest state."""
    return {role: details[role]["sha256"] for role in _LOCAL if role in details}
