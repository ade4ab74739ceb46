"""Other people's files of weights, read as what they are: data (`plain_pickles`)."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from ln3d.backbones.plain_pickles import Name, read_plain_pickle
from ln3d.backbones.torch_files import read_torch_file
from ln3d.errors import WeightsError

_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_DTYPE, _NDARRAY = "numpy dtype", "numpy ndarray"
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of every stage (Tan and Le 2019, table 1)
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
    **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}


@dataclass
class _Type:
    """A NumPy type; a later instruction says its byte order."""

    code: str
    order: str = "?"


class _Unfilled:
    """An array whose shape and bytes come in a later instruction."""


class _Arrays:
    """NumPy's way of pickling arrays; a `Dialect`."""

    names = (*_ARRAY, _DTYPE, _NDARRAY)

    def called(self, name: str, arguments: tuple[Any, ...]) -> _Unfilled | _Type:
        if name in _ARRAY:
            return _Unfilled()
        if name == _DTYPE:
            return _Type(arguments[0])
        raise WeightsError(f"a pickle that calls {name.replace(' ', '.')} is not read")

    def built(self, begun: Any, state: Any) -> Any:
        if isinstance(begun, _Type):
            begun.order = state[1]
            return begun
        if not isinstance(begun, _Unfilled):
            raise WeightsError("a pickle that sets the state of something else than an array is not read")
        _, shape, kind, by_columns, data = state
        if (kind.order, kind.code) != ("<", "f4"):
            raise WeightsError(f"an array of type {kind.order}{kind.code} is not read, only float32")
        return np.frombuffer(data, "<f4").reshape(shape, order="F" if by_columns else "C")

    def referred(self, key: Any) -> Any:
        raise WeightsError("a pickle that refers to something outside is not read")


def read_numpy_pickle(data: bytes) -> Any:
    """Return what a pickle (protocol 3) of nested dictionaries, lists and tuples of float32 arrays holds.

    Raises WeightsError for any other instruction, global or type, and for a file that ends too soon.
    """
    found = read_plain_pickle(io.BytesIO(data), _Arrays())
    if _has_unfilled(found):
        raise WeightsError("a pickle of arrays is damaged: it ends too soon")
    return found


def lpips_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Return LPIPS' weights from the pickle of a Flax model: `conv.N.weight`, `.bias` and `head.N`.

    Kernels go from (h, w, in, out) to torch's (out, in, h, w); heads become (in,). Raises WeightsError where it is
    another file.
    """
    tree = read_numpy_pickle(data)
    try:
        (trunk,) = (value for name, value in tree.items() if not name.startswith("NetLinLayer_"))
        tensors = {}
        for name, layer in trunk.items():
            number = int(name.removeprefix("Conv_"))
            tensors[f"conv.{number}.weight"] = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))
            tensors[f"conv.{number}.bias"] = layer["bias"]
        for number in range(len(tree) - 1):
            tensors[f"head.{number}"] = tree[f"NetLinLayer_{number}"]["Conv_0"]["kernel"].reshape(-1)
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise WeightsError(f"the weights are not laid out as those of LPIPS: {problem!r}") from None
    return tensors


def efficientnet_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of the package's file under timm's names. Raises WeightsError where it is another file."""
    tensors = read_torch_file(data)
    try:
        return {_renamed(name): value for name, value in tensors.items()}
    except (KeyError, ValueError, IndexError, AttributeError) as problem:
        raise WeightsError(f"the weights are not laid out as those of EfficientNet-Lite0: {problem!r}") from None


def _renamed(name: str) -> str:
    """Return timm's name of a tensor that lukemelas' EfficientNet-PyTorch calls `name`."""
    layer, _, rest = name.partition(".")
    if layer != "_blocks":
        return f"{_OUTSIDE[layer]}.{rest}"
    number, layer, rest = rest.split(".")
    stage, place = _stage(int(number))
    return f"blocks.{stage}.{place}.{(_INVERTED if stage else _SEPARABLE)[layer]}.{rest}"


def _stage(number: int) -> tuple[int, int]:
    """Return the stage of a block, and its place there."""
    for stage, size in enumerate(_BLOCKS):
        if number < size:
            return stage, number
        number -= size
    raise IndexError(number)


def _has_unfilled(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unfilled(inner) for inner in value.values())
    if isinstance(value, (tuple, list)):
        return any(_has_unfilled(inner) for inner in value)
    return isinstance(value, (_Unfilled, Name, _Type))
