"""Train and compare small variants of stage 1: the paper's ablation, encoders, few views.

    python benchmarks/ablation.py --plan ablation --folder DIR [--shards WORKSPACE] [--seeds 2] [--rows conv,vit]
                                  [--steps N] [--count 48] [--set KEY=VALUE] [--minutes | --table]

Plans (their rows are in ablation_plans.py, their recipes in recipes/ablation):
    ablation   the paper's table, from convolutions to the whole decoder, equal steps
    encoders   the paper's encoder and the geometry-aligned one, equal processor time, the same decoder
    ghost      what gets the paper's encoder out of giving every object the same blur
    monocular  one known view of each object, with and without the novel-view discriminator
    views      two stored views of each object, and all

Every row is trained with every seed by `ln3d train-vae` in a workspace <row>-<seed> below the folder, and scored by
`ln3d eval psnr`: views never supervised, of training and of held-out objects. All look at the shards of one
workspace: `--shards`, one that holds those of the quick recipe, or drawn into the folder from $LN3D_PACKAGES. Kill it
at any time; the same command goes on. Plans that have rows in common share their runs where they share the folder.
`--steps` makes the rows of the table N steps long and all others in proportion. `--minutes` says how long it will take
on two quiet cores and trains nothing, `--table` prints what is finished.

Tables are Markdown: the mean over seeds and half the range; the last line is one JSON object with every figure.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ablation_plans import PLANS, Row, minutes_of, scale_of
from ablation_runs import SHARED, Failed, Run, share_shards
from ablation_tables import as_dict, curve_table, ghost_scores, result_of, score_table

from ln3d.artifacts.workspace import Workspace
from ln3d.errors import LN3DError

CURVES = {"psnr_train": "PSNR on the way, training objects", "psnr_validation": "PSNR on the way, validation objects"}
CURVED = ("encoders", "ghost")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", choices=PLANS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shards", type=Path, metavar="WORKSPACE")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rows", type=lambda text: text.split(","), metavar="NAME,NAME")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--count", type=int, default=48, help="objects of each split that are scored, at most")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="extra")
    parser.add_argument("--minutes", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.rows or ()) - {row.name for row in PLANS[options.plan]}
    if unknown:
        parser.error(f"the plan {options.plan} has no row {', '.join(sorted(unknown))}")
    return options


def announce(runs: Sequence[Run]) -> None:
    """Print what every run will take."""
    total = 0.0
    for run in runs:
        state = "finished" if run.report() else "begun" if run.diary.exists() else ""
        minutes = 0.0 if state == "finished" else minutes_of(run.row, run.scale)
        total += minutes
        print(f"{run.place.name:<16} {minutes_of(run.row, run.scale):5.1f} min  {state}")
    print(f"{'left, at most':<16} {total:5.0f} min on two quiet cores")


def prepare(folder: Path, source: Path | None) -> None:
    """Bring the shards; one line where that fails."""
    try:
        share_shards(folder, source)
    except (Failed, LN3DError) as error:
        raise SystemExit(str(error)) from None


def make_all(runs: Sequence[Run], count: int) -> list[str]:
    """Make every run; return what failed. An interruption ends all of it."""
    failures = []
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run.place.name}: {run.row.says}", file=sys.stderr, flush=True)
        try:
            run.make(count)
        except KeyboardInterrupt:
            raise SystemExit("interrupted; the same command goes on") from None
        except Failed as failed:
            if failed.interrupted:
                raise SystemExit(f"{failed}; the same command goes on") from None
            failures.append(str(failed))
    return failures


def show(plan: str, rows: Sequence[Row], runs: Sequence[Run], folder: Path, count: int) -> dict[str, object]:
    """Print the tables of what is finished; return every figure."""
    results = {row.name: [result_of(run) for run in runs if run.row is row] for row in rows}
    reports = [report for report in (run.report() for run in runs) if report]
    ghost = ghost_scores(Workspace(folder / SHARED), reports[0]["protocol"], count) if reports else None
    print("\n".join(score_table(rows, results, ghost)))
    for figure, title in CURVES.items() if plan in CURVED else ():
        print("\n".join(["", f"{title}, at tenths of each training:", "", *curve_table(rows, results, figure)]))
    return {"rows": as_dict(results), "mean_picture": ghost}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    rows = [row for row in PLANS[options.plan] if options.rows is None or row.name in options.rows]
    scale, extra, seeds = scale_of(options.steps), tuple(options.extra), range(options.seeds)
    runs = [Run(row, seed, options.folder, scale, extra) for seed in seeds for row in rows]
    if options.minutes:
        announce(runs)
        return
    start, failures = time.monotonic(), []
    if not options.table:
        prepare(options.folder, options.shards)
        failures = make_all(runs, options.count)
    figures = show(options.plan, rows, runs, options.folder, options.count)
    for failure in failures:
        print(failure, file=sys.stderr)
    facts = {"plan": options.plan, "seconds": round(time.monotonic() - start, 1), "failed": failures}
    print(json.dumps({"benchmark": "ablation", **facts, **figures}))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
