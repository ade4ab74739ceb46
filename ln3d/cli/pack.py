"""`ln3d pack`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.reporting import reported, show, talk_of
from ln3d.stages.reference_share import Share


@reported
def pack(
    model: Annotated[Path, typer.Argument(metavar="WORKSPACE", help="Workspace of a trained VAE, and denoiser.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="The model folder to write.")],
    reference: Annotated[
        bool,
        typer.Option("--reference", help="Also carry features and surfaces of real objects, for eval without data."),
    ] = False,
    categories: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="C", help="Real objects of this category; repeatable.  [default: all]"),
    ] = None,
    pictures: Annotated[
        int, typer.Option("--pictures", metavar="N", min=2, help="Features of N pictures of every category.")
    ] = Share.pictures,
    shapes: Annotated[
        int, typer.Option("--shapes", metavar="N", min=2, help="Surfaces of N shapes of every category.")
    ] = Share.shapes,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change an evaluation.* value of the reference; repeatable."),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Copy a model to be shared.

    The copy has half precision and none of the training data; --model takes it. With --reference it can be evaluated
    without the data: it carries a stated number of real objects as features of pictures and points on surfaces.
    """
    from ln3d.stages import pack

    result = pack.run(
        model,
        talk_of(quiet, verbose),
        output=output,
        reference=reference,
        categories=tuple(categories or ()),
        pictures=pictures,
        shapes=shapes,
        overrides=tuple(overrides or ()),
        device=device,
    )
    show(result, as_json)
