"""Files that `torch.save` wrote before 2020, read without PyTorch's loader and without running anything in them.

Such a file is four pickles in a row (a magic number, a version, facts of the machine, the dictionary of tensors), a
fifth with the names of the storages, and then each storage: its length in eight bytes, and its numbers.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ln3d.backbones.plain_pickles import Name, read_plain_pickle
from ln3d.errors import WeightsError

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_TENSOR, _DICTIONARY = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_STORAGES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}


@dataclass(frozen=True)
class _Storage:
    """A row of numbers that comes behind the pickles."""

    key: str
    kind: str
    length: int


@dataclass(frozen=True)
class _Tensor:
    """Where in a storage a tensor begins, its shape, and how far apart neighbours lie along each axis."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Tensors:
    """PyTorch's way of pickling tensors; a `Dialect`."""

    names = (_TENSOR, _DICTIONARY, *_STORAGES)
    storages: dict[str, _Storage] = field(default_factory=dict)

    def called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == _DICTIONARY and arguments == ():
            return {}
        if name != _TENSOR:
            raise WeightsError(f"a pickle that calls {name.replace(' ', '.')} is not read")
        storage, start, shape, strides = arguments[:4]
        numbers = (start, *shape, *strides)
        if not isinstance(storage, _Storage) or len(shape) != len(strides) or not all(_is_count(n) for n in numbers):
            raise WeightsError("a tensor that lies in no row of numbers is not read")
        return _Tensor(storage, start, shape, strides)

    def built(self, begun: Any, state: Any) -> Any:
        if not isinstance(begun, dict):
            raise WeightsError("a pickle that sets the state of something else than a dictionary is not read")
        return begun  # the state is the versions of the layers, which say nothing about the tensors

    def referred(self, key: Any) -> _Storage:
        what, kind, name, _, length, view = key
        if what != "storage" or not isinstance(kind, Name) or kind.text not in _STORAGES or view is not None:
            raise WeightsError("a pickle that refers to something else than a storage is not read")
        return self.storages.setdefault(name, _Storage(name, _STORAGES[kind.text], length))


def read_torch_file(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary, float32 or int64, by name.

    Raises WeightsError for a file of another kind, for anything in it that is no plain tensor, and where it ends too
    soon.
    """
    stream, dialect = io.BytesIO(data), _Tensors()
    magic, version, machine, tensors, keys = (read_plain_pickle(stream, dialect) for _ in range(5))
    if (magic, version) != (_MAGIC, _VERSION) or not isinstance(machine, dict) or not machine.get("little_endian"):
        raise WeightsError("the weights are no file of PyTorch's older kind")
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise WeightsError("the weights are no dictionary of tensors")
    try:
        numbers = {key: _numbers(stream, dialect.storages.get(key)) for key in keys}
        return {name: _array(tensor, numbers) for name, tensor in tensors.items()}
    except (KeyError, TypeError, ValueError, MemoryError) as problem:
        raise WeightsError(f"a file of tensors is damaged: {problem}") from None


def _numbers(stream: io.BytesIO, storage: _Storage | None) -> np.ndarray:
    head = stream.read(8)
    if storage is None or int.from_bytes(head, "little") != storage.length:
        raise WeightsError("a file of tensors is damaged: a storage is not the one that was told")
    kind = np.dtype(storage.kind)
    found = stream.read(storage.length * kind.itemsize)
    if len(found) != storage.length * kind.itemsize:
        raise WeightsError("a file of tensors is damaged: it ends too soon")
    return np.frombuffer(found, kind)


def _array(tensor: _Tensor, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    row, empty = numbers[tensor.storage.key], 0 in tensor.shape
    last = tensor.start + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if not empty and (last >= len(row) or math.prod(tensor.shape) > len(row)):
        raise WeightsError("a file of tensors is damaged: a tensor is longer than its storage")
    if empty:
        return np.empty(tensor.shape, row.dtype)
    steps = [stride * row.itemsize for stride in tensor.strides]
    return as_strided(row[tensor.start :], tensor.shape, steps, writeable=False).copy()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 48
