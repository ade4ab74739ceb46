"""One run of a row: a workspace of its own on shards that all runs share, trained and scored by the chain's commands.

Everything can be killed and started again: the commands go on where they stopped, or say that they are up to date.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ablation_plans import RECIPES, Row, overrides_of

from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.workspace import Workspace

SHARED = "data"
"""The workspace, beside the runs, whose shards they all look at."""


class Failed(Exception):
    """A command did not end well; its own message is on stderr."""

    def __init__(self, arguments: Sequence[str], code: int) -> None:
        super().__init__(f"ln3d {' '.join(arguments)} ended with {code}")
        self.interrupted = code in (130, 143) or code < 0


def call(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command of ln3d in a process of its own and return its result. Raises Failed.

    SIGTERM is passed on, and Ctrl-C reaches the command by itself: it seals a checkpoint first.
    """
    command = [sys.executable, "-m", "ln3d", *arguments, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def pass_on(_number: int, _frame: FrameType | None) -> None:
            process.terminate()

        previous = signal.signal(signal.SIGTERM, pass_on)
        try:
            output, _ = process.communicate()
        finally:
            signal.signal(signal.SIGTERM, previous)
    if process.returncode:
        raise Failed(arguments, process.returncode)
    return json.loads(output)


@contextmanager
def noted(diary: Path) -> Iterator[None]:
    """Write a line to `diary` when the block begins, and one when it ends, however, with what its processes took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _append(diary, {"begun": time.time()})
    try:
        yield
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        _append(diary, {"cpu_seconds": used, "seconds": time.monotonic() - start})


def _append(diary: Path, line: dict[str, float]) -> None:
    with open(diary, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def share_shards(folder: Path, source: Path | None) -> None:
    """Bring the shards of all runs below `folder`: those of the workspace `source`, or drawn. Raises as they do."""
    place = Workspace(folder / SHARED)
    if source is None:
        call(["render-dataset", str(RECIPES / "base.yaml"), "-w", str(place.root)])
    else:
        shards = Workspace(source).open("shards")
        place.root.mkdir(parents=True, exist_ok=True)
        _link(place.path("shards"), shards.path)


def _link(path: Path, target: Path) -> None:
    """Make `path` a link to the folder `target`: artifacts are opened through links to them, and never written to."""
    if path.is_symlink() and path.resolve() == target.resolve():
        return
    if path.is_symlink() or path.exists():
        raise SystemExit(f"{path} is there already and is not {target}: choose another --folder")
    path.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()))


@dataclass(frozen=True)
class Run:
    """A row with a seed, below `folder`."""

    row: Row
    seed: int
    folder: Path
    scale: float = 1.0
    extra: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """Its workspace."""
        return self._place(self.row.name)

    @property
    def diary(self) -> Path:
        """Lines about its lives: what the training took, however often it was killed."""
        return self.folder / f"{self.place.name}.jsonl"

    def make(self, count: int) -> dict[str, Any]:
        """Train and score, each unless it is done; return the report of PSNR. Raises Failed."""
        self.place.mkdir(parents=True, exist_ok=True)
        _link(self.place / "shards", self.folder / SHARED / "shards")
        self._train()
        if self.row.encoded:
            call(["encode", str(self.row.path), "-w", str(self.place), *self._sets()])
        return call(["eval", "psnr", "--model", str(self.place), "--count", str(count)])

    def report(self) -> dict[str, Any] | None:
        """Return the report that is published, if there is one."""
        path = self.place / "report" / "psnr" / "report.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def metrics(self) -> Path:
        """Return the published metrics of the training."""
        return self.place / "vae" / "metrics.jsonl"

    def steps(self) -> int:
        """Return the steps that its published VAE took."""
        manifest = json.loads((self.place / "vae" / MANIFEST_NAME).read_text())
        return int(manifest["details"]["steps"])

    def cpu_seconds(self) -> float | None:
        """Return the processor time of the training; None where a life ended without telling."""
        lines = [json.loads(line) for line in self.diary.read_text().splitlines()] if self.diary.is_file() else []
        told = [line["cpu_seconds"] for line in lines if "cpu_seconds" in line]
        return sum(told) if told and 2 * len(told) == len(lines) else None

    def _place(self, name: str) -> Path:
        return self.folder / f"{name}-{self.seed}"

    def _sets(self) -> list[str]:
        changes = overrides_of(self.row, self.seed, self.scale, self.extra)
        return [part for change in changes for part in ("--set", change)]

    def _train(self) -> None:
        command = ["train-vae", str(self.row.path), "-w", str(self.place), *self._sets()]
        if self.row.start is not None:
            command += ["--init-from", str(self._place(self.row.start))]
        if (self.place / "vae" / MANIFEST_NAME).is_file():
            call(command)  # which says that it is up to date, or made otherwise
            return
        with noted(self.diary):
            call(command)
