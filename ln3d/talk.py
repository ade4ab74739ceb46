"""What the program tells a person: lines and progress, all on stderr, so that stdout stays data."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

_PLAIN_INTERVAL_S = 15.0


@dataclass
class Talk:
    """Lines and progress bars for a person.

    `verbosity`: 0 quiet, 1 normal, 2 with details; -1 says nothing at all, where another process speaks.
    """

    verbosity: int = 1

    def say(self, message: str) -> None:
        """Print a line, unless quiet."""
        if self.verbosity >= 1:
            print(message, file=sys.stderr, flush=True)

    def detail(self, message: str) -> None:
        """Print a line only when asked for details (-v)."""
        if self.verbosity >= 2:
            print(message, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """Print a warning, however quiet."""
        if self.verbosity >= 0:
            print(f"warning: {message}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, title: str, total: int, done: int = 0) -> "Iterator[Progress]":
        """Show `total` steps of long work with rate and time left: a bar on a terminal, plain lines elsewhere."""
        if self.verbosity < 1:
            yield Progress(title, total, done, silent=True)
        elif sys.stderr.isatty():
            with _bar(title, total, done) as progress:
                yield progress
        else:
            yield Progress(title, total, done)


@dataclass
class Progress:
    """Counts steps; prints a plain line every 15 seconds and at the end, or drives a rich bar."""

    title: str
    total: int
    done: int = 0
    silent: bool = False
    bar: Any = None
    _start: float = field(default_factory=time.monotonic)
    _first: int = -1
    _last_line: float = field(default_factory=time.monotonic)

    def advance(self, count: int = 1, **figures: float | str) -> None:
        """Count `count` more steps and show `figures` (a loss, say) beside them."""
        if self._first < 0:
            self._first = self.done
        self.done += count
        words = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        if self.bar is not None:
            self.bar(self.done, words)
            return
        now = time.monotonic()
        if not self.silent and (self.done >= self.total or now - self._last_line >= _PLAIN_INTERVAL_S):
            self._last_line = now
            print(self._line(now, words), file=sys.stderr, flush=True)

    def _line(self, now: float, words: str) -> str:
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        text = f"{self.title}: {self.done}/{self.total}  {rate:.2f}/s  {left:.0f} s left"
        return f"{text}  {words}" if words else text


@contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    ]
    start = time.monotonic()
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="", words="")

        def update(now_done: int, words: str) -> None:
            rate = (now_done - done) / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=now_done, words=words, rate=f"{rate:.2f}/s")

        yield Progress(title, total, done, bar=update)
