"""`ln3d sample`."""

from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.places import model_place, output_place
from ln3d.cli.reporting import reported, show, talk_of


@reported
def sample(
    text: Annotated[
        str | None, typer.Option("--text", "-t", metavar="TEXT", help="What to make, such as 'wooden boat'.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="boat.glb, .obj, .ply, .png, .gif, or a folder for a samples artifact.",
        ),
    ] = None,
    model: options.Model = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, help="How many samples.")] = 1,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", min=0, help="Seed of the first; the next ones count up.")
    ] = 0,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", min=1, help="Solver steps.  [default: the recipe's]")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", metavar="G", min=0, help="Strength of the text.  [default: the recipe's]"),
    ] = None,
    workspace: options.WriteTo = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make shapes from a sentence.

    The suffix of the output decides: meshes, a picture of views, turntables, or latents for extract-mesh.
    """
    place = output_place(output, workspace, "samples", "boat.glb")

    from ln3d.stages import sample

    result = sample.run(
        model_place(model, workspace),
        talk_of(quiet, verbose),
        text=text,
        output=place,
        count=count,
        seed=seed,
        steps=steps,
        guidance=guidance,
        device=device,
        dry_run=dry_run,
    )
    show(result, as_json)
