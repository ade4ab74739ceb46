"""The arithmetic of a training's networks: half precision, where the device itself computes with it."""

import platform

import torch

from ln3d.config.training import Precision


def autocast(device: torch.device, asked: Precision) -> torch.autocast:
    """Return the context that networks of this precision run in on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision_on(device, asked) == "bf16")


def precision_on(device: torch.device, asked: Precision) -> Precision:
    """Return the precision that one which is asked for comes to: bf16 needs a device that has it."""
    return "bf16" if asked == "bf16" and has_bfloat16(device) else "fp32"


def has_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has instructions for bfloat16, and PyTorch kernels that use them.

    Without them PyTorch still computes, in software: a product takes up to 50 times as long as in fp32 (docs/log.md).
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if not torch.backends.mkldnn.is_available():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())  # all processors with AMX have it too
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
