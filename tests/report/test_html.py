"""Pages: one file, everything in it, nothing that a text could break out of."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ln3d.report.html import write_page


class Reader(HTMLParser):
    """Collects tags in order, the sources of pictures and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pictures_are_in_the_page_pixel_for_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 5, 7, 3), dtype=np.uint8)
    write_page(tmp_path / "x.html", "t", [["a"], ["1"]], pixels, ["one", "two"], ["ours", "real"], {})
    page = (tmp_path / "x.html").read_text()
    sources = Reader(page).sources
    assert len(sources) == 4
    for source, expected in zip(sources, pixels.reshape(4, 5, 7, 3), strict=True):
        head, data = source.split(",")
        assert head == "data:image/png;base64"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), expected)
    assert not re.search(r"https?://|<script|<link", page)


def test_texts_cannot_break_out(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&'
    write_page(tmp_path / "x.html", evil, [[evil], [evil]], [[np.ones((2, 2, 3))]], [evil], [evil], {evil: evil})
    reader = Reader((tmp_path / "x.html").read_text())
    assert "script" not in reader.tags
    assert reader.text.count('<script>alert("1")</script>&') == 6  # title, heading, two cells, columns, caption
    assert {"title", "h1", "th", "td", "figure", "img", "figcaption", "pre"} <= set(reader.tags)


def test_a_page_without_pictures_is_a_page(tmp_path: Path) -> None:
    write_page(tmp_path / "x.html", "t", [["a"]], [], [], [], {"seed": 1})
    assert Reader((tmp_path / "x.html").read_text()).sources == []
    with pytest.raises(ValueError, match="2 labels for 0 rows"):
        write_page(tmp_path / "y.html", "t", [["a"]], [], ["x", "y"], [], {})
