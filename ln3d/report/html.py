"""Reports as one HTML file: figures, pictures and the protocol, with nothing fetched from anywhere."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ln3d.report.sheets import to_bytes

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20242b; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
th { color: #6e7681; font-weight: normal; border-bottom: 1px solid #d0d4da }
figure { display: inline-block; margin: 0 1.5rem 1.5rem 0; vertical-align: top }
figcaption { max-width: 22rem; font-size: 13px } small { color: #6e7681 }
img { width: 128px; height: 128px; image-rendering: auto; border: 1px solid #e4e7eb }
pre { background: #f6f7f9; padding: 1rem; overflow-x: auto; font-size: 12px; max-height: 40rem }
"""


def write_page(
    path: Path,
    title: str,
    table: Sequence[Sequence[str]],
    rows: Sequence[Sequence[Any]],
    labels: Sequence[str],
    columns: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write a page with a `table` (the first row is its head), labelled `rows` of pictures and `facts` as JSON.

    Pictures are (h, w, 3), float in [0, 1] or uint8, sRGB; they are embedded, so that the file can be sent alone.
    `columns` says what the pictures of every row are. Raises ValueError where there are not as many labels as rows.
    """
    if len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    figures = [_figure(row, label, columns) for row, label in zip(rows, labels, strict=True)]
    protocol = html.escape(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False))
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        _table(table),
        f"<h2>{html.escape(', '.join(dict.fromkeys(columns)))}</h2>" if figures else "",
        *figures,
        f"<h2>Protocol</h2><pre>{protocol}</pre>",
        "</body></html>",
    ]
    path.write_text("\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"


def _figure(row: Sequence[Any], label: str, columns: Sequence[str]) -> str:
    images = ""
    for number, picture in enumerate(row):
        name = html.escape(columns[number], quote=True) if number < len(columns) else ""
        images += f'<img alt="{name}" title="{name}" src="{_embedded(picture)}">'
    return f"<figure>{images}<figcaption>{html.escape(label)}</figcaption></figure>"


def _embedded(picture: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(to_bytes(picture)).save(buffer, "PNG", optimize=False)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
