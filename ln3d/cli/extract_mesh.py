"""`ln3d extract-mesh`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ln3d.cli import options
from ln3d.cli.places import model_place, output_place
from ln3d.cli.reporting import reported, show, talk_of


@reported
def extract_mesh(
    samples: Annotated[
        Path | None,
        typer.Argument(metavar="SAMPLES", help="A samples artifact.  [default: that of the workspace]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE_OR_FOLDER", help="A mesh file, or a folder for a meshes artifact."
        ),
    ] = None,
    model: options.Model = None,
    resolution: Annotated[
        int | None,
        typer.Option("--resolution", metavar="N", min=16, max=1024, help="Cells per axis.  [default: the recipe's]"),
    ] = None,
    file_format: Annotated[
        Literal["glb", "obj", "ply"] | None,
        typer.Option("--format", help="File format where the output is a folder.  [default: the recipe's]"),
    ] = None,
    workspace: options.WriteTo = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn samples into coloured triangle meshes."""
    place = output_place(output, workspace, "meshes", "meshes")
    if samples is None and workspace is not None:
        samples = workspace / "samples"

    from ln3d.stages import extract_mesh

    result = extract_mesh.run(
        samples,
        model_place(model, workspace),
        talk_of(quiet, verbose),
        output=place,
        resolution=resolution,
        file_format=file_format,
        device=device,
        dry_run=dry_run,
    )
    show(result, as_json)
