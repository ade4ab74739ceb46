from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ln3d.report.turntable import write_gif


def test_frames_come_back_in_order_for_ever_and_in_time(tmp_path: Path) -> None:
    tones = np.linspace(0, 1, 24)
    frames = np.ones((24, 16, 16, 3))
    frames[:, 4:12, 4:12] = tones[:, None, None, None] * [1.0, 0.5, 0.2]
    write_gif(frames, tmp_path / "a" / "x.gif", seconds=1.0)
    with Image.open(tmp_path / "a" / "x.gif") as image:
        assert (image.n_frames, image.info["loop"]) == (24, 0)
        seen, time = [], 0
        for number in range(24):
            image.seek(number)
            time += image.info["duration"]
            pixels = np.asarray(image.convert("RGB")).astype(float) / 255
            assert (pixels[0, 0] == 1).all()
            seen.append(pixels[8, 8])
    assert time == 1000
    np.testing.assert_allclose(seen, frames[:, 8, 8], atol=0.05)


def test_a_frame_never_takes_less_than_viewers_show(tmp_path: Path) -> None:
    write_gif(np.random.default_rng(0).random((50, 8, 8, 3)), tmp_path / "x.gif", seconds=0.1)
    with Image.open(tmp_path / "x.gif") as image:
        assert image.info["duration"] == 20


def test_no_frame_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_gif([], tmp_path / "x.gif")
