"""The curve against values of the standard, against its inverse, and against a second one anywhere in the package."""

import re
from pathlib import Path

import numpy as np
import pytest

import ln3d
from ln3d.geometry.srgb import linear_from_srgb, srgb_from_linear


@pytest.mark.parametrize(
    ("linear", "encoded"),
    [
        (0.0, 0.0),
        (0.002, 0.02584),
        (0.0031308, 0.0404500),
        (0.0732390, 0.3),
        (0.2140411, 0.5),
        (0.5, 0.7353570),
        (1.0, 1.0),
    ],
)
def test_known_values(linear: float, encoded: float) -> None:
    np.testing.assert_allclose(srgb_from_linear(np.array([linear])), [encoded], atol=1e-6)
    np.testing.assert_allclose(linear_from_srgb(np.array([encoded])), [linear], atol=1e-6)


@pytest.mark.parametrize(("kind", "atol"), [(np.float32, 3e-7), (np.float64, 3e-8)])  # the standard's knees don't meet
def test_either_undoes_the_other_without_a_jump_or_a_change_of_type(kind: type, atol: float) -> None:
    values = np.linspace(0, 1, 100_001, dtype=kind)
    for there, back in ((srgb_from_linear, linear_from_srgb), (linear_from_srgb, srgb_from_linear)):
        curve = there(values)
        assert curve.dtype == kind
        assert (np.diff(curve) > 0).all()
        np.testing.assert_allclose(back(curve), values, atol=atol)


def test_the_curve_is_written_down_once() -> None:
    curve = re.compile(r"1\.055|12\.92|0\.04045|0\.0031308")
    root = Path(ln3d.__file__).parent
    assert [path.relative_to(root).as_posix() for path in root.rglob("*.py") if curve.search(path.read_text())] == [
        "geometry/srgb.py"
    ]
