"""Reports as a few lines of text."""

from collections.abc import Sequence
from typing import Any

_COLUMNS = {
    "count": "objects",
    "psnr": "PSNR",
    "psnr_masked": "in mask",
    "ssim": "SSIM",
    "iou": "IoU",
    "chroma_psnr": "chroma",
    "colour_kept": "colour kept",
    "white_psnr": "all white",
    "flat_psnr": "flat colour",
}
_SETS = {"cov": "COV %", "mmd": "MMD x1e3", "nna": "1-NNA %"}


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a table of a report's figures, ready to print."""
    return _reconstruction(report) if report["metric"] == "psnr" else _shapes(report)


def _reconstruction(report: dict[str, Any]) -> list[str]:
    rows = [["split", "category", *_COLUMNS.values()]]
    for split, scores in report["details"].items():
        for category, row in {"all": scores["all"], **scores["categories"]}.items():
            rows.append([split, category, *(_figure(row.get(name)) for name in _COLUMNS)])
    return aligned(rows)


def _shapes(report: dict[str, Any]) -> list[str]:
    details = report["details"]
    rows = [["reference", "shapes", *(f"{name} (95 %)" for name in _SETS.values())]]
    for title, scores in {"all": details, "held out": details.get("held_out")}.items():
        if scores is not None:
            cells = [f"{scores[n]['value']:.2f} ({scores[n]['low']:.2f}-{scores[n]['high']:.2f})" for n in _SETS]
            rows.append([title, str(scores["mmd"]["count"]), *cells])
    note = f"{details['generated']} samples, {details['failed']} without a surface; "
    return [*aligned(rows), note + f"COV can be {details['highest_possible_cov']:.0f} % at most"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines whose columns are as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
