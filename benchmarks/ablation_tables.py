"""What runs came to: scores by row and seed, means with their spread, and tables in Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from ablation_plans import Row
from ablation_runs import Run

from ln3d.artifacts.workspace import Workspace
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.report.curves import read_series
from ln3d.stages.reconstruction_scores import area_mean, chosen_objects, view_scores

SPLITS = {"train": "training", "test": "held-out"}
METRICS = {"psnr": ("PSNR", 2), "psnr_masked": ("in mask", 2), "iou": ("IoU", 3)}
GHOST = "mean picture"
_CURVE_POINTS = 10

Scores = dict[str, dict[str, float]]
"""By split and metric."""


@dataclass(frozen=True)
class Result:
    """What one run came to."""

    scores: Scores
    steps: int
    cpu_seconds: float | None
    curve: dict[str, list[tuple[int, float]]]
    """By figure: PSNR in dB after so many steps, of the few objects that a training looks at on its way."""


def result_of(run: Run) -> Result | None:
    """Return what a finished run came to; None for one that is not."""
    report = run.report()
    if report is None:
        return None
    scores = {split: {m: report["details"][split]["all"].get(m) for m in METRICS} for split in SPLITS}
    prefix = "validation/"
    curve = {
        one.name.removeprefix(prefix): list(zip(map(int, one.steps), one.values, strict=True))
        for one in read_series(run.metrics())
        if one.name.startswith(prefix)
    }
    return Result(scores, run.steps(), run.cpu_seconds(), curve)


def ghost_scores(place: Workspace, protocol: Mapping[str, Any], count: int) -> Scores:
    """Return the scores of the mean picture of all training objects in each compared view.

    It is about the best that networks can do which do not look at their input: a run at its level is a ghost.
    """
    shards = ShardSet(place.open("shards"))
    pictures, views, side = Pictures(shards), protocol["compared_views"], protocol["compared_resolution"]

    def seen(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        colour, alpha, _ = pictures.stack(index, views)
        return area_mean(torch.from_numpy(colour), side), area_mean(torch.from_numpy(alpha)[..., None], side)[..., 0]

    training = [seen(record.index) for record in shards.objects if record.split == "train"]
    colour, alpha = (sum(parts) / len(training) for parts in zip(*training, strict=True))
    scores = {}
    for split in SPLITS:
        chosen = chosen_objects(shards.objects, split, None, count)
        found = [view_scores(colour, alpha, *seen(record.index)) for record in chosen]
        known = {metric: [one[metric] for one in found if not math.isnan(one[metric])] for metric in METRICS}
        scores[split] = {metric: mean(values) for metric, values in known.items() if values}
    return scores


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the range."""
    return mean(values), (max(values) - min(values)) / 2


def cell(values: Sequence[float | None], digits: int) -> str:
    """Return the mean, with half the range where there are several values, or a dash where one is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return "-"
    middle, half = spread(known)
    return f"{middle:.{digits}f}" + (f" ± {half:.{digits}f}" if len(known) > 1 else "")


def score_table(rows: Sequence[Row], results: Mapping[str, Sequence[Result | None]], ghost: Scores | None) -> list[str]:
    """Return the lines of a table: a line per row, means over seeds, and how far it is above the row before it.

    `results` has a list over the seeds for every row; a row with a run that is not finished has dashes.
    """
    heads = [f"{name}, {title}" for name in SPLITS.values() for title, _ in METRICS.values()]
    paper = any(row.paper for row in rows)
    lines = _head(["row", "", "steps", "CPU min", *heads, "gain, held-out PSNR", *(["paper"] if paper else [])])
    before: Sequence[Result | None] | None = None
    for row in rows:
        found = results[row.name]
        figures = [
            cell([one.scores[split][metric] if one else None for one in found], digits)
            for split in SPLITS
            for metric, (_, digits) in METRICS.items()
        ]
        steps = str(found[0].steps) if found and found[0] else "-"
        minutes = cell([one.cpu_seconds / 60 if one and one.cpu_seconds else None for one in found], 1)
        last = [f"{row.paper:.2f}" if row.paper else ""] if paper else []
        lines.append(_line([row.name, row.says, steps, minutes, *figures, _gains(before, found), *last]))
        before = found
    if ghost is not None:
        figures = [cell([ghost[s].get(m)], digits) for s in SPLITS for m, (_, digits) in METRICS.items()]
        says = "of the training objects, whatever the input"
        lines.append(_line([GHOST, says, "", "", *figures, "", *([""] if paper else [])]))
    return lines


def gains(before: Sequence[Result | None], found: Sequence[Result | None], split: str = "test") -> list[float] | None:
    """Return by how much PSNR rose from row to row, seed by seed; None where a run is missing."""
    pairs = list(zip(before, found, strict=True))
    if not all(one and other for one, other in pairs):
        return None
    return [other.scores[split]["psnr"] - one.scores[split]["psnr"] for one, other in pairs if one and other]


def curve_table(rows: Sequence[Row], results: Mapping[str, Sequence[Result | None]], figure: str) -> list[str]:
    """Return the lines of a table of `figure` on the way, means over seeds, at tenths of every row's training."""
    shares = [(number + 1) / _CURVE_POINTS for number in range(_CURVE_POINTS)]
    lines = _head([figure, *(f"{share:.0%}" for share in shares)])
    for row in rows:
        found = [one for one in results[row.name] if one and figure in one.curve]
        values = [[_nearest(one.curve[figure], share * one.steps) for one in found] for share in shares]
        lines.append(_line([row.name, *(cell(several, 2) if several else "-" for several in values)]))
    return lines


def as_dict(results: Mapping[str, Sequence[Result | None]]) -> dict[str, list[dict[str, Any] | None]]:
    """Return every figure of every run: by row, a list over the seeds, None for a run that is not finished."""
    return {
        name: [one and {"steps": one.steps, "cpu_seconds": one.cpu_seconds, **one.scores} for one in found]
        for name, found in results.items()
    }


def _gains(before: Sequence[Result | None] | None, found: Sequence[Result | None]) -> str:
    values = gains(before, found) if before is not None else None
    return "" if values is None else " / ".join(f"{value:+.2f}" for value in values)


def _nearest(curve: Sequence[tuple[int, float]], step: float) -> float:
    """Return the value that was measured last at `step`, or first after it."""
    past = [value for at, value in curve if at <= step + 1e-6]
    return past[-1] if past else curve[0][1]


def _head(titles: Sequence[str]) -> list[str]:
    return [_line(titles), "|" + "---|" * len(titles)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
