"""The options that several commands share, so that they mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file, such as recipes/smoke.yaml.")]
Workspace = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", metavar="DIR", help="Folder of the run's artifacts.  [default: runs/<name>]"),
]
WriteTo = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", metavar="DIR", help="Write into this workspace; its model is used unless --model is given."
    ),
]
Shards = Annotated[
    str | None,
    typer.Option(
        "--shards", metavar="PLACE", help="A folder or fsspec address of shards.  [default: those of the workspace]"
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe value, such as vae.decoder.depth=12; repeatable."),
]
Model = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="DIR", help="Workspace with the model.  [default: the shipped model]"),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N; auto takes CUDA if there.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="ID", help="Only the objects of this id or pattern, such as 'torcs/*'; repeatable."),
]
InitFrom = Annotated[
    Path | None,
    typer.Option("--init-from", metavar="ARTIFACT", help="Start from the weights of this artifact, workspace or pack."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and written, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks, only warnings.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More remarks.")]
