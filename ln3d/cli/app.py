"""The command line `ln3d`. Nothing heavy is imported here: a command imports its stage when it runs."""

from typing import Annotated

import typer

import ln3d
from ln3d.cli import evaluate
from ln3d.cli.encode import encode
from ln3d.cli.extract_mesh import extract_mesh
from ln3d.cli.fetch import fetch
from ln3d.cli.inspect import inspect
from ln3d.cli.pack import pack
from ln3d.cli.render_dataset import render_dataset
from ln3d.cli.sample import sample
from ln3d.cli.train_diffusion import train_diffusion
from ln3d.cli.train_vae import train_vae

app = typer.Typer(
    name="ln3d",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("render-dataset")(render_dataset)
app.command("train-vae")(train_vae)
app.command("encode")(encode)
app.command("train-diffusion")(train_diffusion)
app.command("sample")(sample)
app.command("extract-mesh")(extract_mesh)
app.add_typer(evaluate.app, name="eval")
app.command("fetch")(fetch)
app.command("inspect")(inspect)
app.command("pack")(pack)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ln3d {ln3d.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a folder of meshes to a 3D generative model, from a sentence to a GLB.

    The stages in order: render-dataset, train-vae, encode, train-diffusion, sample, extract-mesh, eval.
    """


def main() -> None:
    """Run the command line of this process."""
    app(prog_name="ln3d")
