"""Random numbers as pure functions of a key, so that nothing about them needs saving or restoring."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key_seed(*key: int | str) -> int:
    """Return a 63-bit seed that depends on `key` alone; unlike keys give unrelated seeds."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(*key: int | str) -> np.random.Generator:
    """Return a NumPy generator keyed on `key`, such as (seed, step, sample, "views")."""
    return np.random.default_rng(key_seed(*key))


def generator(*key: int | str) -> "torch.Generator":
    """Return a CPU torch generator keyed on `key`, such as (seed, step, sample, "noise")."""
    import torch

    return torch.Generator().manual_seed(key_seed(*key))
