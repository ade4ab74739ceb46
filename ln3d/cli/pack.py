"""`ln3d pack`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.reporting import reported, show, talk_of


@reported
def pack(
    model: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Workspace of a trained VAE and denoiser.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Copy a model to be shared.

    The copy has half precision and none of the training data; --model takes it.
    """
    from ln3d.stages import pack

    show(pack.run(model, talk_of(quiet, verbose), output=output), as_json)
