"""Embeddings of places and times."""

import pytest
import torch

from ln3d.errors import RecipeError
from ln3d.nn.positions import sincos_2d, timestep_embedding


def test_cells_of_a_grid_have_different_codes_row_by_row() -> None:
    codes = sincos_2d(4, 6, 32)
    assert codes.shape == (24, 32)
    assert torch.cdist(codes, codes).fill_diagonal_(1).min() > 0.1
    rows, columns = codes.view(4, 6, 32).split(16, dim=-1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert torch.equal(columns, columns[:1].expand_as(columns))


def test_products_of_codes_depend_on_the_offset_alone() -> None:
    codes = sincos_2d(5, 5, 32).view(5, 5, 32)
    assert (codes[0, 0] @ codes[1, 2]).item() == pytest.approx((codes[3, 1] @ codes[4, 3]).item(), abs=1e-4)


def test_width_must_hold_two_axes_of_waves() -> None:
    with pytest.raises(RecipeError, match="width of 10"):
        sincos_2d(2, 2, 10)


def test_times_in_the_unit_interval_are_told_apart() -> None:
    codes = timestep_embedding(torch.linspace(0, 1, 1001), 64)
    neighbours = (codes[1:] - codes[:-1]).norm(dim=-1)
    assert neighbours.min() > 0.5  # a thousandth of the interval is seen
    slowest = codes[:, [0, 32]]  # sine and cosine of one radian in all: no two times are alike
    assert (slowest[1:, 0] > slowest[:-1, 0]).all()


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        timestep_embedding(torch.zeros(1), 7)
