from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ln3d.report.sheets import contact_sheet, fit, font, to_bytes


def solid(*colour: int, size: int = 100) -> np.ndarray:
    return np.full((size, size, 3), colour, np.uint8)


def blocks(path: Path, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return where a colour is: left, top, right, bottom; every pixel in between has it."""
    pixels = np.asarray(Image.open(path))
    where = (pixels == colour).all(axis=-1)
    y, x = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    assert where[y[0] : y[-1] + 1, x[0] : x[-1] + 1].all()
    return x[0], y[0], x[-1] + 1, y[-1] + 1


def test_pictures_are_whole_in_reading_order_and_apart(tmp_path: Path) -> None:
    rows = [[solid(200, 0, 0), solid(0, 200, 0)], [solid(0, 0, 200), solid(200, 200, 0)]]
    contact_sheet(rows, ["first", "second"], tmp_path / "a" / "x.png", title="Title", columns=["one", "two"])
    red, green, blue, yellow = (blocks(tmp_path / "a" / "x.png", tuple(p[0, 0])) for row in rows for p in row)
    for left, top, right, bottom in (red, green, blue, yellow):
        assert (right - left, bottom - top) == (100, 100)
    assert red[2] < green[0] and red[1] == green[1]
    assert red[3] < blue[1] and red[0] == blue[0]
    assert (yellow[0], yellow[1]) == (green[0], blue[1])


def test_small_pictures_are_enlarged_by_a_whole_factor(tmp_path: Path) -> None:
    contact_sheet([[solid(200, 0, 0, size=33)]], [""], tmp_path / "x.png")
    left, top, right, bottom = blocks(tmp_path / "x.png", (200, 0, 0))
    assert (right - left, bottom - top) == (99, 99)


def test_labels_are_drawn_per_row_or_per_picture(tmp_path: Path) -> None:
    row = [solid(255, 255, 255), solid(255, 255, 255)]
    for name, labels in (("above", ["text"]), ("below", [["", "text"]])):
        contact_sheet([row], labels, tmp_path / f"{name}.png")
    above, below = (np.asarray(Image.open(tmp_path / f"{n}.png")) < 128 for n in ("above", "below"))
    assert above[:32].any() and not above[32:].any()
    assert not below[:, :112].any() and below[:, 112:].any()


def test_arrays_tensors_and_floats_are_taken_and_clipped(tmp_path: Path) -> None:
    pictures = torch.tensor([-1.0, 0.5, 2.0, float("nan")])[:, None, None, None].expand(4, 2, 2, 3)
    assert [int(to_bytes(picture)[0, 0, 0]) for picture in pictures] == [0, 128, 255, 0]
    contact_sheet(pictures[None], ["a"], tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 0


def test_long_texts_end_in_dots_and_foreign_letters_are_replaced() -> None:
    assert fit("short", 200, 13) == "short"
    short = fit("a very long text about a red boat", 100, 13)
    assert short.endswith("...") and font(13).getlength(short) <= 100
    assert fit("two\nlines", 200, 13) == "two lines"
    assert fit("Häuschen · 船", 200, 13) == "Hauschen · ?"
    assert fit("anything", 1, 13) == ""


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([[np.zeros((4, 4, 3)), np.zeros((5, 4, 3))]], [""], "one size"),
        ([], [], "one size"),
        ([[np.zeros((4, 4, 3))]], [], "0 labels for 1 rows"),
        ([[np.zeros((4, 4))]], [""], "shape"),
    ],
)
def test_what_cannot_be_drawn_is_named(images: list, labels: list, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        contact_sheet(images, labels, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
