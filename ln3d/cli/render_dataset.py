"""`ln3d render-dataset`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.places import open_recipe
from ln3d.cli.reporting import reported, show, talk_of


@reported
def render_dataset(
    recipe: options.Recipe,
    meshes: Annotated[
        Path | None, typer.Option("--meshes", metavar="DIR", help="Render this folder of meshes instead.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Processes.  [default: one per core]")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Draw on this Ray cluster: auto, HOST:PORT, or local."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Render only N objects.")] = None,
    only: options.Only = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="Render every N-th shard; the last part to end publishes all."),
    ] = None,
    workspace: options.Workspace = None,
    overrides: options.Set = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw meshes from all sides into shards.

    A view is colour, depth, normals and its camera. A killed run is taken up where it stopped.
    """
    from ln3d.data.unfinished import WHOLE, parse_part
    from ln3d.stages import render_dataset

    loaded, place = open_recipe(recipe, overrides, workspace)
    result = render_dataset.run(
        loaded,
        place,
        talk_of(quiet, verbose),
        meshes=meshes,
        workers=workers,
        ray=ray,
        limit=limit,
        only=only or (),
        part=parse_part(part) if part is not None else WHOLE,
        dry_run=dry_run,
    )
    show(result, as_json)
