"""How much of the real objects goes into a reference set."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """How much of the real objects goes into a reference set."""

    categories: Sequence[str] = ()
    """None: all that have two shapes."""
    pictures: int = 300
    """The most of every category."""
    shapes: int = 48
    """The most of every category."""
