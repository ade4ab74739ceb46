"""Which folder a command works in, from what was said and what was not."""

from pathlib import Path
from typing import TYPE_CHECKING

from ln3d.errors import RecipeError

if TYPE_CHECKING:
    from ln3d.artifacts.workspace import Workspace
    from ln3d.config.recipe import Recipe


def open_recipe(
    path: Path, overrides: list[str] | None, workspace: Path | None, shards: str | None = None
) -> "tuple[Recipe, Workspace]":
    """Return the recipe and its workspace, runs/<recipe name> unless one is named; `shards` is where those lie."""
    from ln3d.artifacts.workspace import Workspace
    from ln3d.config.load import load_recipe

    recipe = load_recipe(path, overrides or ())
    return recipe, Workspace(workspace or Path("runs") / recipe.name, shards)


def model_place(model: Path | None, workspace: Path | None) -> Path | None:
    """Return the folder of the model: the one named, else a workspace that holds one, else None (the shipped one)."""
    if model is None and workspace is not None and (workspace / "vae").exists():
        return workspace
    return model


def output_place(output: Path | None, workspace: Path | None, kind: str, example: str) -> Path:
    """Return where to write: `output`, else `kind` of the workspace; RecipeError where neither is given."""
    if output is not None:
        return output
    if workspace is not None:
        return workspace / kind
    raise RecipeError("no place to write to", f"say where, such as -o {example}, or name a workspace with -w")
