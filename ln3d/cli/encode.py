"""`ln3d encode`."""

from ln3d.cli import options
from ln3d.cli.places import open_recipe
from ln3d.cli.reporting import reported, show, talk_of


@reported
def encode(
    recipe: options.Recipe,
    workspace: options.Workspace = None,
    shards: options.Shards = None,
    overrides: options.Set = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Encode the shards with the trained VAE.

    To encode in N processes: torchrun --nproc-per-node N -m ln3d encode RECIPE.
    """
    from ln3d.stages import encode

    loaded, place = open_recipe(recipe, overrides, workspace, shards)
    show(encode.run(loaded, place, talk_of(quiet, verbose), device=device, dry_run=dry_run), as_json)
