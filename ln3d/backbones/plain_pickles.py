"""Reading pickles as data.

Pickles are programs. This reader runs none: it walks the instructions that `pickletools` lists, knows only those that
make dictionaries, lists, tuples, numbers, text and what a `Dialect` stands for, looks nothing up by name, and refuses
all else.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol

from ln3d.errors import WeightsError

_PUSHED = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINFLOAT"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """A global that the pickle names; it stays a name."""

    text: str


class Dialect(Protocol):
    """What stands for the names in one kind of file."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that may occur, as `module name`."""

    def called(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return what stands for the result of calling `name`; WeightsError where it may not be called."""

    def built(self, begun: Any, state: Any) -> Any:
        """Return `begun` after its state was told; WeightsError where it has none."""

    def referred(self, key: Any) -> Any:
        """Return what stands for a thing outside the pickle; WeightsError where there is none."""


class _Mark:
    """Where a group of values begins."""


def read_plain_pickle(stream: IO[bytes], dialect: Dialect) -> Any:
    """Return what the pickle holds that begins where `stream` is, and leave the stream behind it.

    Raises WeightsError for any instruction or name that the dialect does not have, and for a file that ends too soon.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for instruction, argument, _ in pickletools.genops(stream):
            _step(instruction.name, argument, stack, memo, dialect)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise WeightsError(f"a pickle of arrays is damaged: {problem}") from None
    if len(stack) != 1 or isinstance(stack[0], _Mark):
        raise WeightsError("a pickle of arrays is damaged: it ends too soon")
    return stack[0]


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any], dialect: Dialect) -> None:
    if name in ("PROTO", "STOP"):
        pass
    elif name in _PUSHED:
        stack.append(argument)
    elif name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name == "MARK":
        stack.append(_Mark())
    elif name == "GLOBAL":
        stack.append(_allowed(argument, dialect))
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in _TUPLES:
        count = _TUPLES[name]
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
        _fill(name, stack)
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(dialect.called(function.text, arguments))
    elif name == "BUILD":
        state, begun = stack.pop(), stack.pop()
        stack.append(dialect.built(begun, state))
    elif name == "BINPERSID":
        stack.append(dialect.referred(stack.pop()))
    else:
        raise WeightsError(f"a pickle with the instruction {name} is not read: it is no plain file of arrays")


def _fill(name: str, stack: list[Any]) -> None:
    """Put the last values of the stack into the dictionary or list before them."""
    if name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
    elif name == "APPEND":
        value = stack.pop()
        stack[-1].append(value)
    elif name == "APPENDS":
        values = _since_mark(stack)
        stack[-1].extend(values)
    else:
        flat = _since_mark(stack)
        stack[-1].update(zip(flat[::2], flat[1::2], strict=True))


def _allowed(text: str, dialect: Dialect) -> Name:
    if text not in dialect.names:
        raise WeightsError(f"a pickle that names {text.replace(' ', '.')} is not read: it is no plain file of arrays")
    return Name(text)


def _since_mark(stack: list[Any]) -> list[Any]:
    start = max(i for i, value in enumerate(stack) if isinstance(value, _Mark))
    values = stack[start + 1 :]
    del stack[start:]
    return values
