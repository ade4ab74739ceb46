"""The process: its device, its cores, its allocator."""

import os

import pytest
import torch

from ln3d.errors import RecipeError
from ln3d.runtime import available_cores, choose_device, tune_allocator


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["gpu", "cuda:2", "cuda"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RecipeError) as error:
        choose_device(name)
    assert name in error.value.message
    assert "auto" in error.value.hint


def test_cores_are_those_that_may_be_used() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_the_allocator_can_be_tuned_again_and_again() -> None:
    assert tune_allocator() == tune_allocator()
    assert torch.ones(1 << 20).sum().item() == 1 << 20
