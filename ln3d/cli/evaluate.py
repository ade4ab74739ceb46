"""`ln3d eval METRIC`: one sub-command per metric."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ln3d.cli import options
from ln3d.cli.places import model_place
from ln3d.cli.reporting import reported, show, talk_of
from ln3d.errors import RecipeError

BUILT = {
    "psnr": "Reconstruction: PSNR of views in dB.",
    "cov": "Coverage of the reference shapes.",
    "mmd": "Minimum matching distance to samples.",
    "nna": "1-nearest-neighbour accuracy, best at 50 %.",
}
NOT_BUILT = {
    "fid": "Frechet distance (not built yet).",
    "kid": "Kernel distance (not built yet).",
    "clip-i": "CLIP image similarity (not built yet).",
}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure a model by one metric.")


def _command(metric: str) -> Callable[..., None]:
    @reported
    def evaluate(
        model: options.Model = None,
        category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only this category.")] = None,
        count: Annotated[
            int | None,
            typer.Option("--count", "-n", metavar="N", min=1, help="Objects or samples.  [default: the recipe's]"),
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
        if metric in NOT_BUILT:
            raise RecipeError(f"eval {metric} is not built yet", f"built: {', '.join(BUILT)}")
        model = model_place(model, workspace)
        if output is None and workspace not in (None, model):
            output = workspace / "report" / "-".join(filter(None, (metric, category)))

        from ln3d.stages import evaluate

        result = evaluate.run(
            metric,
            model,
            talk_of(quiet, verbose),
            category=category,
            count=count,
            device=device,
            output=output,
            dry_run=dry_run,
        )
        show(result, as_json)

    return evaluate


for _metric, _help in {**BUILT, **NOT_BUILT}.items():
    app.command(_metric, help=_help)(_command(_metric))
