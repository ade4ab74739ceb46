"""PyTorch's older files are read as data: what they hold, bit for bit, or a named error."""

import io
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ln3d.backbones.torch_files import read_torch_file
from ln3d.errors import WeightsError


def saved(content: object, old: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)  # noqa: TID251 - what the reader must read
    return buffer.getvalue()


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()


def test_tensors_come_back_bit_for_bit() -> None:
    row = torch.arange(6.0)
    expected = {**state(), "part of a row": row[2:], "the row": row, "empty": torch.zeros(0, 3)}
    expected |= {"turned": torch.rand(2, 3, 4).permute(2, 0, 1)}
    found = read_torch_file(saved(OrderedDict(expected)))
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.numpy().dtype, tuple(value.shape))
        np.testing.assert_array_equal(found[name], value.numpy())


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize(
    "content",
    [
        {"x": Trap()},
        {"x": torch.ones(1).expand(3, 2)},
        {"x": torch.zeros(2).half()},
        {"x": torch.nn.Parameter(torch.zeros(2))},
        {"x": 3},
        [torch.zeros(2), torch.zeros(2)],
        torch.zeros(2),
    ],
)
def test_all_else_is_refused_and_nothing_runs(content: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        read_torch_file(saved(content))
    assert not list(tmp_path.iterdir())


def test_other_containers_are_refused() -> None:
    for data in (b"", b"PK", saved(state(), old=False), saved({"x": 1})[15:]):
        with pytest.raises(WeightsError):
            read_torch_file(data)


def test_every_truncated_file_is_refused() -> None:
    whole = saved({"a": torch.ones(2, 2), "b": torch.zeros(3)})
    for length in range(len(whole)):
        with pytest.raises(WeightsError):
            read_torch_file(whole[:length])


def test_a_changed_byte_never_does_worse_than_a_named_error() -> None:
    whole = bytearray(saved({"a": torch.ones(2, 2), "b": torch.zeros(3)}))
    for position in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            changed = whole.copy()
            changed[position] ^= change
            try:
                read_torch_file(bytes(changed))
            except WeightsError:
                pass
