"""Luma and chroma: what stretching keeps and what it changes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.geometry.colour import stretch_chroma

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
channel = st.floats(0, 1)


@given(colour=st.tuples(channel, channel, channel), gain=st.floats(0.1, 10))
def test_stretching_keeps_luma_and_multiplies_the_rest(colour: tuple[float, float, float], gain: float) -> None:
    before = torch.tensor(colour, dtype=torch.float64)
    after = stretch_chroma(before, gain)
    luma = before @ LUMA
    assert (after @ LUMA).item() == pytest.approx(luma.item(), abs=1e-5)
    torch.testing.assert_close(after - luma, gain * (before - luma), atol=1e-5, rtol=1e-5)


def test_greys_stay_and_a_gain_of_one_changes_nothing() -> None:
    greys = torch.linspace(0, 1, 5)[:, None].expand(5, 3)
    torch.testing.assert_close(stretch_chroma(greys, 4.0), greys)
    colours = torch.rand(5, 3)
    assert stretch_chroma(colours, 1.0) is colours


def test_the_channels_may_be_any_axis() -> None:
    colours = torch.rand(2, 3, 4, 5)
    expected = stretch_chroma(colours.movedim(1, -1), 3.0).movedim(-1, 1)
    torch.testing.assert_close(stretch_chroma(colours, 3.0, dim=1), expected)
