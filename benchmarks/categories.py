"""A model, category by category: its samples, what its VAE gives back of training objects, and those objects.

    ln3d fetch inception && python benchmarks/categories.py --model runs/everyday --count 48

The reconstructions are a ceiling for the samples, the training objects a sanity row. Prints one table in Markdown, the
one in the README, and a final JSON line. What was worked out is kept in the model's workspace: run again, it goes on.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from ln3d.stages import evaluate
from ln3d.talk import Talk

CATEGORIES = ("car", "plane", "chair")
METRICS = ("fid", "kid", "cov", "mmd", "nna")
SUBJECTS = {"samples": "samples", "reconstructions": "reconstructions", "training-objects": "training objects"}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="workspace with shards, vae and denoiser")
    parser.add_argument("--count", type=int, default=48, help="objects of every kind, at most")
    parser.add_argument("--categories", nargs="+", default=CATEGORIES)
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="an evaluation.* value")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    figures = {
        category: {of: _figures(arguments, category, of) for of in SUBJECTS} for category in arguments.categories
    }
    print("\n".join(_table(figures)))
    seconds = round(time.perf_counter() - begin, 1)
    print(json.dumps({"benchmark": "categories", "seconds": seconds, "count": arguments.count, "figures": figures}))


def _figures(arguments: argparse.Namespace, category: str, of: str) -> dict[str, Any]:
    """Return [value, low, high, that against held-out objects] of every metric, and how many were compared."""
    found: dict[str, Any] = {}
    for metric in METRICS:
        report = evaluate.run(
            metric,
            arguments.model,
            Talk(),
            category=category,
            count=arguments.count,
            of=of,
            overrides=tuple(arguments.overrides),
        )
        details, held_out = report["details"], report["details"].get("held_out", {})
        found[metric] = [report[metric], *report["interval"], held_out.get(metric, held_out).get("value")]
        found["compared"] = details["generated"]
        found["pictured" if metric in ("fid", "kid") else "shapes"] = details["reference"]
        found["highest_cov"] = details.get("highest_possible_cov")
    return found


def _table(figures: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    heads = ("", "n", "real objects, shapes", "FID", "KID %", "COV % (highest)", "MMD x1e3", "1-NNA %")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for category, subjects in figures.items():
        for of, found in subjects.items():
            cells = {metric: _cell(found[metric]) for metric in METRICS}
            cells["cov"] += f" ({found['highest_cov']:.3g})"
            real = f"{found['pictured']}, {found['shapes']}"
            lines.append(
                f"| {category}, {SUBJECTS[of]} | {found['compared']} | {real} | {' | '.join(cells.values())} |"
            )
    return lines


def _cell(value: list[float | None]) -> str:
    """Return a figure, its interval of 95 %, and in brackets that against held-out objects alone."""
    at, low, high, held_out = value
    return f"{at:.3g}, {low:.3g} to {high:.3g}" + ("" if held_out is None else f" [{held_out:.3g}]")


if __name__ == "__main__":
    main()
