"""A polite end: SIGTERM and Ctrl-C are noted, so that a step can be finished and sealed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """The signal that has arrived; 0 for none."""

    signal: int = 0


@contextmanager
def stop_signals(*, insist: bool = True) -> Iterator[Stop]:
    """Note SIGTERM and Ctrl-C instead of dying; a second one acts at once.

    Without `insist` a second one is only noted again: launchers pass on to every process what all of them were sent.
    """
    stop = Stop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        if insist:
            signal.signal(number, previous[signal.Signals(number)] or signal.SIG_DFL)

    try:
        for number in previous:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


def leave(number: int) -> None:
    """End as the signal `number` asks: KeyboardInterrupt for Ctrl-C, else SystemExit with the code of that signal."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
