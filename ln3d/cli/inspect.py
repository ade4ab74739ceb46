"""`ln3d inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.reporting import reported, show, talk_of


@reported
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An artifact, a workspace, or a file.")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Say what something is and where it came from.

    Works on artifacts, workspaces, tensor files and meshes; hashes are checked.
    """
    from ln3d.stages import inspect

    facts = inspect.run(path, talk_of(quiet, verbose))
    if as_json:
        show(facts, as_json)
    else:
        print(inspect.describe(facts))
