"""Contact sheets: rows of pictures with their labels, on one PNG."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

INK, PALE, PAPER = (32, 36, 43), (110, 118, 129), (255, 255, 255)
_GAP, _MARGIN, _LEGIBLE = 6, 12, 96
_TEXT, _TITLE = 13, 17


def contact_sheet(
    images: Sequence[Sequence[Any]] | Any,
    labels: Sequence[str] | Sequence[Sequence[str]],
    path: Path,
    *,
    title: str = "",
    columns: Sequence[str] = (),
) -> None:
    """Write a PNG of `images`, an array (rows, cols, h, w, 3) or rows of pictures (h, w, 3), all of one size.

    Pictures are float in [0, 1] or uint8, sRGB. `labels` has one text per row, written above it, or one list per
    row with a text for every picture, written below it. `columns` are headings. Pictures below 96 pixels are
    enlarged by a whole factor; texts that are too long end in dots.

    Raises ValueError where there is no picture, sizes differ, or there are not as many labels as rows.
    """
    rows = [[to_bytes(image) for image in row] for row in images]
    sizes = {image.shape[:2] for row in rows for image in row}
    if len(sizes) != 1:
        raise ValueError(f"a contact sheet needs pictures of one size, not {sorted(sizes)}")
    if len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    height, width = sizes.pop()
    factor = max(1, -(-_LEGIBLE // max(height, width)))
    sheet = _Sheet(rows, labels, (width * factor, height * factor), title, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.draw().save(path)


def to_bytes(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Return an sRGB picture, float in [0, 1] or uint8, array or tensor, as uint8; values outside are clipped."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a picture has shape (h, w, 3), not {pixels.shape}")
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(np.nan_to_num(pixels.astype(np.float64)).clip(0, 1) * 255).astype(np.uint8)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow, in pixels."""
    return ImageFont.load_default(size)


def fit(text: str, width: float, size: int) -> str:
    """Return `text` on one line, shortened to end in dots where it would be wider than `width` pixels."""
    text = _drawable(" ".join(text.split()))
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(text.rstrip() + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def _drawable(text: str) -> str:
    """Return `text` in the characters that Pillow's font has: accents are left out, other scripts become ?."""
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() or letter == "·" else "?" for letter in letters)


class _Sheet:
    """Where everything on one sheet goes."""

    def __init__(
        self,
        rows: list[list[UInt8[np.ndarray, "h w 3"]]],
        labels: Sequence[str] | Sequence[Sequence[str]],
        cell: tuple[int, int],
        title: str,
        columns: Sequence[str],
    ) -> None:
        self.rows, self.labels, self.cell, self.title, self.columns = rows, labels, cell, title, columns
        self.line = _TEXT + 5
        count = max(len(row) for row in rows)
        self.width = 2 * _MARGIN + count * cell[0] + (count - 1) * _GAP
        self.width = max(self.width, min(int(font(_TITLE).getlength(title)) + 2 * _MARGIN, 640))
        self.top = _MARGIN + (_TITLE + 10 if title else 0) + (self.line if columns else 0)
        self.row_height = cell[1] + self.line + _GAP

    def draw(self) -> Image.Image:
        sheet = Image.new("RGB", (self.width, self.top + len(self.rows) * self.row_height + _MARGIN - _GAP), PAPER)
        pen = ImageDraw.Draw(sheet)
        if self.title:
            pen.text((_MARGIN, _MARGIN - 2), fit(self.title, self.width - 2 * _MARGIN, _TITLE), INK, font(_TITLE))
        for number, heading in enumerate(self.columns):
            place = (self._left(number), self.top - self.line)
            pen.text(place, fit(heading, self.cell[0], _TEXT), PALE, font(_TEXT))
        for number, (row, label) in enumerate(zip(self.rows, self.labels, strict=True)):
            self._row(sheet, pen, self.top + number * self.row_height, row, label)
        return sheet

    def _row(
        self,
        sheet: Image.Image,
        pen: ImageDraw.ImageDraw,
        y: int,
        row: list[UInt8[np.ndarray, "h w 3"]],
        label: str | Sequence[str],
    ) -> None:
        above = isinstance(label, str)
        if isinstance(label, str):
            pen.text((_MARGIN, y), fit(label, self.width - 2 * _MARGIN, _TEXT), INK, font(_TEXT))
        else:
            for number, text in enumerate(label):
                place = (self._left(number), y + self.cell[1] + 2)
                pen.text(place, fit(text, self.cell[0], _TEXT), INK, font(_TEXT))
        for number, pixels in enumerate(row):
            picture = Image.fromarray(pixels).resize(self.cell, Image.Resampling.NEAREST)
            sheet.paste(picture, (self._left(number), y + (self.line if above else 0)))

    def _left(self, column: int) -> int:
        return _MARGIN + column * (self.cell[0] + _GAP)
