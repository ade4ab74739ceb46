"""`ln3d eval METRIC`: one sub-command per metric, and `all`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.places import model_place
from ln3d.cli.reporting import reported, show, talk_of

METRICS = {
    "fid": "Frechet distance of pictures to real ones.",
    "kid": "Kernel distance of pictures to real ones, in %.",
    "clip-i": "CLIP similarity to real pictures, in %.",
    "clip-t": "CLIP similarity to the prompts, in %.",
    "cov": "Coverage of the reference shapes, in %.",
    "mmd": "Minimum matching distance to samples, x1e3.",
    "nna": "1-nearest-neighbour accuracy, best at 50 %.",
    "psnr": "Reconstruction: PSNR of views in dB.",
    "ssim": "Reconstruction: structural similarity.",
    "lpips": "Reconstruction: LPIPS, a perceptual distance.",
    "all": "Every metric whose networks are there.",
}

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure a model, or another system's files, by one metric.",
)


def _command(metric: str) -> Callable[..., None]:
    @reported
    def evaluate(
        model: options.Model = None,
        reference: Annotated[
            Path | None,
            typer.Option("--reference", metavar="DIR", help="Workspace with the real objects.  [default: the model's]"),
        ] = None,
        meshes: Annotated[
            Path | None,
            typer.Option("--meshes", metavar="DIR", help="Another system's meshes in place of a model."),
        ] = None,
        renders: Annotated[
            Path | None,
            typer.Option("--renders", metavar="DIR", help="Its pictures <object>/<view>.png in place of a model."),
        ] = None,
        of: Annotated[
            str,
            typer.Option(
                "--of",
                metavar="WHAT",
                help="samples, reconstructions (what its VAE makes of training objects: the best that samples can be) "
                "or training-objects (as they are, for comparison).",
            ),
        ] = "samples",
        category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only this category.")] = None,
        count: Annotated[
            int | None,
            typer.Option("--count", "-n", metavar="N", min=1, help="Objects or samples.  [default: the recipe's]"),
        ] = None,
        objects: Annotated[
            Path | None,
            typer.Option("--objects", metavar="FILE", help="Reconstruct the objects of this list, and say more."),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Change an evaluation.* value of the recipe; repeatable."),
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the report here.")
        ] = None,
        workspace: options.WriteTo = None,
        device: options.Device = "auto",
        dry_run: options.DryRun = False,
        as_json: options.Json = False,
        quiet: options.Quiet = False,
        verbose: options.Verbose = False,
    ) -> None:
        if meshes is None and renders is None:
            model = model_place(model, workspace)

        from ln3d.stages import evaluate

        result = evaluate.run(
            metric,
            model,
            talk_of(quiet, verbose),
            reference=reference,
            meshes=meshes,
            renders=renders,
            of=of,
            category=category,
            count=count,
            objects=objects,
            overrides=tuple(overrides or ()),
            output=output,
            workspace=workspace,
            device=device,
            dry_run=dry_run,
        )
        show(result, as_json)

    return evaluate


for _metric, _help in METRICS.items():
    app.command(_metric, help=_help)(_command(_metric))
