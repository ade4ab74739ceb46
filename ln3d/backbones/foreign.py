"""Reading other people's weight files as what they are: data.

Pickles are programs. This reader runs none: it walks the instructions that `pickletools` lists, knows only those that
make dictionaries, tuples, numbers, text and NumPy arrays, looks nothing up by name, and refuses all else.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ln3d.errors import WeightsError

_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_DTYPE, _NDARRAY = "numpy dtype", "numpy ndarray"
_PUSHED = (
    *("BININT", "BININT1", "BININT2", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINFLOAT"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names; it stays a name."""

    text: str


@dataclass
class _Type:
    """A NumPy type; a later instruction says its byte order."""

    code: str
    order: str = "?"


class _Unfilled:
    """An array whose shape and bytes come in a later instruction."""


class _Mark:
    """Where a group of values begins."""


def read_numpy_pickle(data: bytes) -> Any:
    """Return what a pickle (protocol 3) of nested dictionaries and tuples of float32 arrays holds.

    Raises WeightsError for any other instruction, global or type, and for a file that ends too soon.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for instruction, argument, _ in pickletools.genops(data):
            _step(instruction.name, argument, stack, memo)
        whole = len(stack) == 1 and not _has_unfilled(stack[0])
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise WeightsError(f"a pickle of arrays is damaged: {problem}") from None
    if not whole:
        raise WeightsError("a pickle of arrays is damaged: it ends too soon")
    return stack[0]


def lpips_tensors(tree: Any) -> dict[str, np.ndarray]:
    """Return LPIPS' weights from the nested dictionaries of a Flax model: `conv.N.weight`, `.bias` and `head.N`.

    Kernels go from (h, w, in, out) to torch's (out, in, h, w); heads become (in,).
    """
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


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in ("PROTO", "STOP"):
        pass
    elif name in _PUSHED:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name == "MARK":
        stack.append(_Mark())
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name == "GLOBAL":
        stack.append(_allowed(argument))
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in _TUPLES:
        count = _TUPLES[name]
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name == "SETITEMS":
        flat = _since_mark(stack)
        stack[-1].update(zip(flat[::2], flat[1::2], strict=True))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_begun(function, arguments))
    elif name == "BUILD":
        state, begun = stack.pop(), stack.pop()
        stack.append(_built(begun, state))
    else:
        raise WeightsError(f"a pickle with the instruction {name} is not read: it is no plain file of arrays")


def _allowed(text: str) -> _Name:
    if text not in (*_ARRAY, _DTYPE, _NDARRAY):
        raise WeightsError(f"a pickle that names {text.replace(' ', '.')} is not read: it is no plain file of arrays")
    return _Name(text)


def _since_mark(stack: list[Any]) -> list[Any]:
    start = max(i for i, value in enumerate(stack) if isinstance(value, _Mark))
    values = stack[start + 1 :]
    del stack[start:]
    return values


def _begun(function: _Name, arguments: tuple[Any, ...]) -> _Unfilled | _Type:
    if function.text in _ARRAY:
        return _Unfilled()
    if function.text == _DTYPE:
        return _Type(arguments[0])
    raise WeightsError(f"a pickle that calls {function.text.replace(' ', '.')} is not read")


def _built(begun: Any, state: tuple[Any, ...]) -> Any:
    if isinstance(begun, _Type):
        begun.order = state[1]
        return begun
    if not isinstance(begun, _Unfilled):
        raise WeightsError("a pickle that sets the state of something else than an array is not read")
    _, shape, kind, by_columns, data = state
    if (kind.order, kind.code) != ("<", "f4"):
        raise WeightsError(f"an array of type {kind.order}{kind.code} is not read, only float32")
    return np.frombuffer(data, "<f4").reshape(shape, order="F" if by_columns else "C")


def _has_unfilled(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_unfilled(inner) for inner in value.values())
    if isinstance(value, tuple):
        return any(_has_unfilled(inner) for inner in value)
    return isinstance(value, (_Unfilled, _Mark, _Name, _Type))
