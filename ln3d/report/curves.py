"""Curves of a training, drawn from its metrics.jsonl with Pillow alone."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ln3d.report.sheets import INK, PALE, PAPER, fit, font

CLOCK = frozenset({"time", "seconds", "loader_seconds", "wall", "rate", "steps_per_second", "elapsed"})
"""Fields of the clock: they are not drawn, and two equal runs may differ in them."""

_PANEL, _BOX, _COLUMNS, _SCALE = (420, 250), (58, 34, 398, 222), 3, 2  # drawn twice as large, then reduced
_LINE, _SHADE, _GRID = (31, 93, 168), (176, 203, 234), (228, 231, 235)


@dataclass(frozen=True)
class Series:
    """One figure over the steps of a training."""

    name: str
    steps: tuple[float, ...]
    values: tuple[float, ...]


def loss_curve(metrics: Path, path: Path, title: str = "") -> None:
    """Write a PNG with one panel per figure in `metrics`, a file of JSON lines that each have a `step`.

    The pale line is what was logged, the dark one its running mean (on a logarithmic axis the geometric one). An
    axis is logarithmic where all values are positive and span more than a factor of ten. Fields of the clock are
    left out. Unfinished lines, and values that are no finite numbers, are skipped.
    """
    series = read_series(metrics)
    columns = max(1, min(_COLUMNS, len(series)))
    rows = max(1, -(-len(series) // columns))
    head = 34 if title else 0
    sheet = Image.new("RGB", (columns * _PANEL[0], rows * _PANEL[1] + head), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((14, 10), fit(title, sheet.width - 28, 17), INK, font(17))
    if not series:
        pen.text((14, head + 20), "nothing logged yet", PALE, font(14))
    for number, one in enumerate(series):
        place = (number % columns * _PANEL[0], number // columns * _PANEL[1] + head)
        sheet.paste(_panel(one).resize(_PANEL, Image.Resampling.LANCZOS), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def read_series(metrics: Path) -> list[Series]:
    """Return the figures of a metrics file, in the order in which they first appear."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        record = _record(line)
        if "step" not in record:
            continue
        for name, value in record.items():
            if name not in CLOCK | {"step"}:
                steps, values = found.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return [Series(name, tuple(steps), tuple(values)) for name, (steps, values) in found.items()]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) in [low, high], about `count` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def smoothed(values: Sequence[float], window: int) -> np.ndarray:
    """Return the centred running mean over `window` values, over fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    reach = np.minimum(window // 2, np.minimum(index, len(values) - 1 - index))
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def _record(line: str) -> dict[str, float]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(document, Mapping):
        return {}
    return {
        name: float(value)
        for name, value in document.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _short(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.4g}"


class _Axis:
    """From values to pixels along one axis, linear or logarithmic."""

    def __init__(self, values: Sequence[float], start: int, stop: int, may_be_log: bool) -> None:
        low, high = min(values), max(values)
        self.log = may_be_log and low > 0 and high > 10 * low
        if self.log:
            low, high = math.log10(low), math.log10(high)
        room = (high - low) * 0.04 if high > low else max(abs(high), 1.0) * 0.1
        self.low, self.high = (low - room, high + room) if may_be_log else (low, max(high, low + 1))
        self.start, self.stop = start, stop

    def at(self, value: float) -> float:
        position = math.log10(value) if self.log else value
        return self.start + (position - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        if not self.log:
            return ticks(self.low, self.high)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        factors = (1,) if self.high - self.low > 3 else (1, 3) if self.high - self.low > 1.2 else (1, 2, 5)
        marks = [factor * 10.0**decade for decade in decades for factor in factors]
        return [mark for mark in marks if self.low <= math.log10(mark) <= self.high]


def _panel(series: Series) -> Image.Image:
    left, top, right, bottom = (edge * _SCALE for edge in _BOX)
    panel = Image.new("RGB", (_PANEL[0] * _SCALE, _PANEL[1] * _SCALE), PAPER)
    pen = ImageDraw.Draw(panel)
    across = _Axis(series.steps, left, right, may_be_log=False)
    up = _Axis(series.values, bottom, top, may_be_log=True)
    small, large = font(11 * _SCALE), font(14 * _SCALE)
    pen.text((left, 8 * _SCALE), series.name, INK, large)
    pen.text((right, 10 * _SCALE), f"last {_short(series.values[-1])}", PALE, small, anchor="ra")
    for value in up.ticks():
        height = up.at(value)
        pen.line((left, height, right, height), _GRID, _SCALE)
        pen.text((left - 6 * _SCALE, height), _short(value), PALE, small, anchor="rm")
    for value in across.ticks():
        pen.text((across.at(value), bottom + 6 * _SCALE), _short(value), PALE, small, anchor="ma")
    pen.rectangle((left, top, right, bottom), outline=PALE, width=_SCALE)
    window = max(1, len(series.values) // 25)
    x, y = [across.at(step) for step in series.steps], [up.at(value) for value in series.values]
    pen.line(list(zip(x, y, strict=True)), _SHADE if window > 1 else _LINE, _SCALE, joint="curve")
    pen.line(list(zip(x, smoothed(y, window), strict=True)), _LINE, 2 * _SCALE, joint="curve")
    if len(series.values) <= 40:
        radius = 2.5 * _SCALE
        for across_at, up_at in zip(x, y, strict=True):
            pen.ellipse((across_at - radius, up_at - radius, across_at + radius, up_at + radius), _LINE)
    return panel
