"""`ln3d fetch`."""

from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.reporting import reported, show, talk_of


@reported
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Weights: inception, efficientnet-lite0, lpips. "
            "Meshes: sweethome3d, torcs, flightgear, 0ad, trigger-rally, kicad.",
        ),
    ],
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Bring pretrained weights and mesh packages.

    They are kept in LN3D_CACHE (~/.cache/ln3d), packages in LN3D_PACKAGES where that is set.
    """
    from ln3d.stages import fetch

    show(fetch.run(names, talk_of(quiet, verbose), dry_run=dry_run), as_json)
