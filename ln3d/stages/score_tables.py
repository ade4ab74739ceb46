"""Reports as tables, for the terminal and for pages."""

from collections.abc import Sequence
from typing import Any

_COLUMNS = {
    "count": "objects",
    "psnr": "PSNR",
    "psnr_masked": "in mask",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "iou": "IoU",
    "chroma_psnr": "chroma",
    "colour_kept": "colour kept",
    "saturated": "with a hue",
    "hue_kept": "hue kept",
    "white_psnr": "all white",
    "flat_psnr": "flat colour",
    "above_flat": "above flat",
    "above_common": "above common",
}
_OF_LISTS = ("saturated", "hue_kept", "above_flat", "above_common")  # shown for fixed lists of objects
_SETS = {"cov": "COV %", "mmd": "MMD x1e3", "nna": "1-NNA %"}
_RECONSTRUCTION = ("psnr", "ssim", "lpips")


def table(report: dict[str, Any], others: Sequence[dict[str, Any]] = ()) -> list[str]:
    """Return the lines of a table of a report's figures, ready to print.

    `others` are reports of other systems under the same protocol: they get a line each.
    """
    return aligned(rows_of(report, others)) + _notes(report)


def rows_of(report: dict[str, Any], others: Sequence[dict[str, Any]] = ()) -> list[list[str]]:
    """Return the cells of the table, the first row being its head."""
    metric = str(report["metric"])
    if metric.partition("[")[0] in _RECONSTRUCTION:
        return _reconstruction(report)
    if metric in _SETS:
        return _sets(report, others)
    return _images(report, others)


def overview(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of a table with one line per metric."""
    rows = [["metric", "value", "95 %", "unit"]]
    for name, result in results.items():
        low, high = result["interval"]
        rows.append([name, _figure(result[name]), f"{_figure(low)} to {_figure(high)}", result["unit"] or "-"])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines whose columns are as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _reconstruction(report: dict[str, Any]) -> list[list[str]]:
    found = [
        (split, category, row)
        for split, scores in report["details"].items()
        for category, row in {"all": scores["all"], **scores["categories"], **scores.get("groups", {})}.items()
    ]
    known = {name for _, _, row in found for name in row}
    optional = {"lpips"} if "saturated" in known else {"lpips", *_OF_LISTS}
    shown = {n: title for n, title in _COLUMNS.items() if n not in optional or n in known - set(_OF_LISTS)}
    rows = [["split", "category", *shown.values()]]
    return rows + [[split, category, *(_figure(row.get(name)) for name in shown)] for split, category, row in found]


def _sets(report: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["system", "reference", "shapes", *(f"{name} (95 %)" for name in _SETS.values())]]
    for system in (report, *others):
        for title, scores in {"all": system["details"], "held out": system["details"].get("held_out")}.items():
            if scores is not None:
                cells = [_spread(scores[name]) for name in _SETS]
                rows.append([_system(system), title, str(scores["mmd"]["count"]), *cells])
    return rows


def _images(report: dict[str, Any], others: Sequence[dict[str, Any]]) -> list[list[str]]:
    metric, unit = report["metric"], f" {report['unit']}" if report["unit"] else ""
    rows = [["system", "samples", "reference", "objects", f"{metric}{unit} (95 %)"]]
    for system in (report, *others):
        details = system["details"]
        for title in ("all", "held_out"):
            if title in details:
                scores = details[title]
                name = title.replace("_", " ")
                rows.append([_system(system), str(details["generated"]), name, str(scores["count"]), _spread(scores)])
    return rows


def _notes(report: dict[str, Any]) -> list[str]:
    details, notes = report["details"], []
    if report["metric"] in _SETS:
        found = f"{details['generated']} samples, {details['failed']} without a surface"
        notes = [f"{found}; COV can be {details['highest_possible_cov']:.0f} % at most"]
    elif details.get("failed", 0):
        notes = [f"{details['failed']} samples could not be drawn and are left out"]
    if "reference" in report.get("inputs", {}):
        notes.append(f"reference: {report['protocol']['reference']}")
    return notes


def _system(report: dict[str, Any]) -> str:
    return str(report.get("system", "model"))


def _spread(scores: dict[str, Any]) -> str:
    value = f"{scores['value']:.2f}"
    return f"{value} ({scores['low']:.2f} to {scores['high']:.2f})" if "low" in scores else value


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
