"""`ln3d train-vae`."""

from ln3d.cli import options
from ln3d.cli.places import open_recipe
from ln3d.cli.reporting import reported, show, talk_of


@reported
def train_vae(
    recipe: options.Recipe,
    workspace: options.Workspace = None,
    shards: options.Shards = None,
    overrides: options.Set = None,
    init_from: options.InitFrom = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the 3D-aware VAE on the shards.

    A killed training goes on where it stopped. To train in N processes:
    torchrun --nproc-per-node N -m ln3d train-vae RECIPE.
    """
    from ln3d.stages import train_vae

    loaded, place = open_recipe(recipe, overrides, workspace, shards)
    talk = talk_of(quiet, verbose)
    show(train_vae.run(loaded, place, talk, device=device, dry_run=dry_run, init_from=init_from), as_json)
