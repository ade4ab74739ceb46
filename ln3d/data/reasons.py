"""What an error says in one line, and whether it says it of an object or of the machine that draws it."""

import errno
from collections.abc import Iterator

from ln3d import errors
from ln3d.errors import LN3DError

AGAIN = "run the same command again to go on"

_LONGEST = 300  # characters: some parsers quote the file
_CANNOT_MAP = ("failed to map segment", "cannot map zero-fill", "annot allocate memory")  # words of the dynamic loader
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def one_line(text: str) -> str:
    """Return a reason that fits a report: what a file quotes in it can neither break the line nor fill the screen."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(line.encode("utf-8", errors="replace").decode().split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out behind an error: a library that cannot be mapped is an ImportError, for instance.

    Unlike the machine, the object is at fault then: the memory that is left to it is limited.
    """
    return any(
        isinstance(link, MemoryError)
        or (isinstance(link, OSError) and link.errno == errno.ENOMEM)
        or (isinstance(link, ImportError) and any(words in str(link) for words in _CANNOT_MAP))
        for link in _chain(error)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        yield link
        seen.append(link)
        link = link.__cause__ or link.__context__


def fault_of_machine(error: Exception) -> LN3DError | None:
    """Return an error that says nothing about the object, in a form that can be sent; None where it may."""
    if isinstance(error, LN3DError):
        return plain(error)
    if isinstance(error, ImportError):
        said = one_line(f"{type(error).__name__}: {error}")
        return LN3DError(f"this Python cannot draw: {said}", f"install what is missing, then {AGAIN}")
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return LN3DError(f"drawing needs room on the disk: {one_line(str(error))}", f"make room, then {AGAIN}")
    return None


def plain(error: LN3DError, where: str = "") -> LN3DError:
    """Return an error of `ln3d.errors` with the same exit code, message and hint; `where` goes before the message."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return kind(f"{where}{error.message}", error.hint)
