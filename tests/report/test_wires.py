import numpy as np
import pytest

from ln3d.report.wires import Wire, wired

RED, BLUE = (220, 0, 0), (0, 0, 220)
WHITE = np.ones((8, 8, 3))


def line(*points, hidden=False, **options):
    return Wire(np.array(points, float), np.full(len(points), hidden), options.pop("colour", RED), **options)


def coloured(picture, colour):
    return (picture == colour).all(axis=-1)


def test_a_line_is_where_its_points_say():
    picture = wired(WHITE, [line((0.5, 0.1), (0.5, 0.9), width=4)], 100)
    assert picture.shape == (100, 100, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero(coloured(picture, RED))
    assert 47 <= columns.min() and columns.max() <= 52 and rows.min() in range(9, 12) and rows.max() in range(88, 92)


def test_hidden_pieces_are_pale():
    wire = Wire(np.array([(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]), np.array([False, True, True]), RED, width=4)
    picture = wired(WHITE, [wire], 100)
    seen, pale = picture[25, 50], picture[75, 50]
    assert seen.tolist() == list(RED) and 150 < pale[1] < 220 and pale[0] > 220


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_the_picture_is_in_the_middle_and_lines_go_on_in_the_margin(margin):
    dark = np.full((10, 10, 3), 10, np.uint8)
    picture = wired(dark, [line((-0.2, 0.5), (1.2, 0.5), width=4)], 150, margin)
    rows, columns = np.nonzero(coloured(picture, (10, 10, 10)))
    side = round(150 / (1 + 2 * margin))
    assert (np.ptp(rows), np.ptp(columns)) == pytest.approx((side - 1, side - 1), abs=2.1)
    assert abs(rows.mean() - 74.5) < 2
    assert coloured(picture, RED)[75, :].mean() == pytest.approx(1.4 / 1.5 if margin else 1, abs=0.02)


def test_names_stand_at_the_ends():
    without, with_name = (wired(WHITE, [line((0.1, 0.1), (0.5, 0.7), colour=BLUE, name=n)], 120) for n in ("", "x"))
    rows, columns = np.nonzero((without != with_name).any(axis=-1))
    assert abs(rows.mean() - 84) < 6 and abs(columns.mean() - 60) < 6
