"""Half precision only where the device has it."""

import platform

import pytest
import torch

from ln3d.training import precision
from ln3d.training.precision import autocast, has_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
@pytest.mark.parametrize("there", [True, False])
def test_x86_processors_need_avx512_bf16(machine: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    assert has_bfloat16(CPU) is there


def test_without_onednn_there_are_no_kernels_whatever_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bfloat16(CPU)


def test_other_processors_are_asked_through_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: pytest.fail("a question to x86"))
    expected = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert has_bfloat16(CPU) is expected


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("asked", ["bf16", "fp32"])
def test_products_are_halved_where_both_recipe_and_device_say_so(
    there: bool, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: there)
    with autocast(CPU, asked):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if there and asked == "bf16" else torch.float32)


@pytest.mark.gpu
def test_a_gpu_is_asked_without_its_imitation() -> None:
    device = torch.device("cuda", 0)
    assert has_bfloat16(device) is (torch.cuda.get_device_properties(device).major >= 8)
