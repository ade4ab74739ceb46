import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ln3d.report.curves import Series, loss_curve, read_series, smoothed, ticks


def write(path: Path, records: list[dict], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def test_figures_are_read_and_the_clock_is_left_out(tmp_path: Path) -> None:
    records = [
        {"step": 10, "loss": 2.0, "seconds": 1.5, "note": "text", "done": True},
        {"step": 20, "loss": float("nan"), "psnr": 20.0},
        {"loss": 7.0},
        {"step": 30, "loss": 1.0},
    ]
    found = read_series(write(tmp_path / "m.jsonl", records, tail='[1]\n{"step": 4'))
    assert found == [Series("loss", (10.0, 30.0), (2.0, 1.0)), Series("psnr", (20.0,), (20.0,))]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_inside_and_about_four(low: float, size: float) -> None:
    high = low + size
    marks = ticks(low, high)
    assert 1 <= len(marks) <= 6
    assert all(low - 1e-6 * size <= mark <= high + 1e-6 * size for mark in marks)
    if len(marks) > 1:
        step = marks[1] - marks[0]
        leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - round_one) for round_one in (1, 2, 5, 10)) < 1e-3 or size < 1e-5 * abs(low)


def test_the_running_mean_keeps_lines_and_ends() -> None:
    line = np.arange(20.0)
    np.testing.assert_allclose(smoothed(line, 7), line)
    np.testing.assert_allclose(smoothed([1.0, 5.0, 3.0], 1), [1, 5, 3])
    np.testing.assert_allclose(smoothed([0.0, 3.0, 6.0, 0.0], 3), [0, 3, 3, 0])


@pytest.mark.parametrize("figures", [0, 1, 2, 7])
def test_there_is_a_panel_per_figure(tmp_path: Path, figures: int) -> None:
    names = [f"figure_{number}" for number in range(figures)]
    records = [{"step": step, **{name: 1.0 + step for name in names}} for step in range(1, 30)]
    loss_curve(write(tmp_path / "m.jsonl", records), tmp_path / "out" / "c.png", title="train-vae")
    pixels = np.asarray(Image.open(tmp_path / "out" / "c.png")).astype(int)
    columns, rows = max(1, min(3, figures)), max(1, -(-figures // 3))
    assert pixels.shape == (rows * 250 + 34, columns * 420, 3)
    blue = pixels[..., 2] - pixels[..., 0] > 60
    panels = blue[34:].reshape(rows, 250, columns, 420).any(axis=(1, 3))
    assert panels.sum() == figures


def test_a_falling_loss_falls_in_the_picture(tmp_path: Path) -> None:
    records = [{"step": step, "loss": math.exp(-step / 10)} for step in range(60)]
    loss_curve(write(tmp_path / "m.jsonl", records), tmp_path / "c.png")
    pixels = np.asarray(Image.open(tmp_path / "c.png")).astype(int)
    blue = pixels[..., 2] - pixels[..., 0] > 60
    height = np.array([np.flatnonzero(column).mean() for column in blue.T if column.any()])
    # Exponential decay over 2.6 decades is a straight line on the logarithmic axis.
    assert np.corrcoef(np.arange(len(height)), height)[0, 1] > 0.999


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [-1.0, 1000.0], [1e-12, 1e12], [1e30, 1e-30, 5.0]])
def test_odd_ranges_are_drawn(tmp_path: Path, values: list[float]) -> None:
    records = [{"step": step, "loss": value} for step, value in enumerate(values)]
    loss_curve(write(tmp_path / "m.jsonl", records), tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 1000
