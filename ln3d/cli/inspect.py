"""`ln3d inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.reporting import reported, show, talk_of


@reported
def inspect(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="An artifact, here or at an fsspec address; a workspace; a file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.png", help="Draw shards: cameras, scene box, axes, depth as one cloud."
        ),
    ] = None,
    only: options.Only = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say what something is and where it came from.

    Works on artifacts, workspaces, tensor files and meshes. Hashes are checked, and in shards that the views agree.
    """
    from ln3d.stages import inspect

    facts = inspect.run(place, talk_of(quiet, verbose), output=output, only=only or ())
    if as_json:
        show(facts, as_json)
    else:
        print(inspect.describe(facts))
