"""Lines in space drawn over a picture: the frame of the picture, a box, axes with their names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from ln3d.report.sheets import PAPER, font, to_bytes

_GROUND, _FRAME = (244, 245, 247), (196, 201, 208)
_SMOOTH = 3  # drawn so many times larger, then reduced
_HIDDEN = 0.25
_NAME = 13


@dataclass(frozen=True)
class Wire:
    """A line through `points`, (x, y) in picture sides, pale where it is `hidden`; `name` stands at its end."""

    points: Float[np.ndarray, "n 2"]
    hidden: Bool[np.ndarray, " n"]
    colour: tuple[int, int, int]
    width: float = 1.0
    name: str = ""


def wired(picture: Any, wires: Sequence[Wire], size: int, margin: float = 0.0) -> UInt8[np.ndarray, "size size 3"]:
    """Return a square picture of `size` pixels with `wires` over it, drawn on into a `margin` of so many picture sides.

    `picture` is (h, h, 3), float in [0, 1] or uint8, sRGB. Points out of the margin are cut off.
    """
    side = round(size / (1 + 2 * margin))
    start = (size - side) // 2
    canvas = Image.new("RGB", (size, size), _GROUND if margin else PAPER)
    pixels = Image.fromarray(to_bytes(picture))
    canvas.paste(pixels.resize((side, side), Image.Resampling.BICUBIC), (start, start))
    large = canvas.resize((size * _SMOOTH, size * _SMOOTH), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large, "RGBA")
    if margin:
        edge = [start * _SMOOTH, start * _SMOOTH, (start + side) * _SMOOTH - 1, (start + side) * _SMOOTH - 1]
        pen.rectangle(edge, outline=_FRAME, width=_SMOOTH)
    for wire in wires:
        _draw(pen, wire, (wire.points * side + start) * _SMOOTH)
    drawn = large.resize((size, size), Image.Resampling.BOX)
    pen = ImageDraw.Draw(drawn)
    for wire in wires:
        x, y = wire.points[-1] * side + start
        if wire.name and 0 <= x < size and 0 <= y < size:
            pen.text((x, y), wire.name, wire.colour, font(_NAME), anchor="mm", stroke_width=2, stroke_fill=PAPER)
    return np.asarray(drawn)


def _draw(pen: ImageDraw.ImageDraw, wire: Wire, points: Float[np.ndarray, "n 2"]) -> None:
    """Draw a wire as runs of seen and of hidden pieces."""
    width = max(1, round(wire.width * _SMOOTH))
    behind = wire.hidden[:-1] & wire.hidden[1:]
    borders = [0, *(np.flatnonzero(np.diff(behind)) + 1), len(behind)]
    for first, last in zip(borders[:-1], borders[1:], strict=True):
        ink = (*wire.colour, round(255 * (_HIDDEN if behind[first] else 1)))
        pen.line([tuple(point) for point in points[first : last + 1].tolist()], ink, width, joint="curve")
