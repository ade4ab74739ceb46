"""Lines of metrics.jsonl, which trackers hear too."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ln3d.training.trackers import Tracker


@dataclass
class Log:
    """Appends to `file`; without one, as in all processes but the first, it does nothing."""

    file: Path | None
    trackers: Sequence[Tracker] = ()

    def step(self, step: int, loss: float, figures: Mapping[str, Tensor], *, seconds: float, waited: float) -> None:
        """Write what step number `step` (from 1) came to; the two times are in seconds since this process began."""
        values = {"loss": loss} | {name: float(value) for name, value in figures.items()}
        self._append(step, values | {"seconds": seconds, "loader_seconds": waited})

    def validation(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the figures of the validation after `step` steps."""
        self._append(step, {f"validation/{name}": value for name, value in figures.items()})

    def _append(self, step: int, values: Mapping[str, float]) -> None:
        if self.file is None:
            return
        rounded = {name: value if isinstance(value, int) else float(f"{value:.6g}") for name, value in values.items()}
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | rounded) + "\n")
        for tracker in self.trackers:
            tracker.log(rounded, step=step)
