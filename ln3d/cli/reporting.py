"""How a command ends: its result on stdout, or an error of one line with its remedy on stderr and an exit code."""

import errno
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec

import typer

from ln3d.errors import LN3DError, RecipeError
from ln3d.talk import Talk

P = ParamSpec("P")

INTERRUPTED = 130
_WIDEST_LIST = 6
_REFUSED_BY_THE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors that a user can meet into `error:` and `hint:` lines and exit codes; bugs keep their traceback."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LN3DError as error:
            if _is_first_process() or not isinstance(error, RecipeError):  # all processes have the same recipe
                _complain(error.message, error.hint)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            if _is_first_process():
                _complain("interrupted", "run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in _REFUSED_BY_THE_SYSTEM:
                raise
            _complain(f"{error.filename or 'writing'}: {error.strerror}", "")
            raise typer.Exit(LN3DError.exit_code) from None

    return wrapper


def talk_of(quiet: bool, verbose: bool) -> Talk:
    """Return the talk that -q and -v ask for; only the first process of a group speaks."""
    if not _is_first_process():
        return Talk(verbosity=-1)
    return Talk(verbosity=0 if quiet else 2 if verbose else 1)


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a stage's result on stdout: one JSON object, or its figures line by line."""
    if not _is_first_process():
        return
    if as_json:
        print(json.dumps(_without_nan(dict(result)), default=_plain, allow_nan=False))
        return
    lines = list(_lines(result))
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        print(f"{name:<{width}}  {text}")


def _complain(message: str, hint: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in result.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _lines(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and (len(value) > _WIDEST_LIST or any(_is_nested(v) for v in value)):
            yield name, f"{len(value)} entries"
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(_text(entry) for entry in value)
        else:
            yield name, _text(value)


def _is_nested(value: object) -> bool:
    return isinstance(value, (Mapping, list, tuple))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _without_nan(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return value


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a numpy or torch scalar
        return _without_nan(value.item())
    raise TypeError(f"{type(value).__name__} in a result")
