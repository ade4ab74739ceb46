"""Kill renderings and their workers dead, again and again, and compare what they end with to one that was left alone.

    python benchmarks/kill_render.py [--kills 20] [--seed 0] [--recipe RECIPE] [--storms command parts worker]

Three storms over `ln3d render-dataset`, each with `--kills` times SIGKILL at seeded moments: `command`, the whole
rendering with two workers; `parts`, the parts 1/2 and 2/2 side by side, of which one or both are killed; `worker`,
single worker processes of a rendering that goes on. In the first two every second death is before a flush or a rename,
the others at a random number of drawn objects; after each the command is started again. Every rendering that comes to
its end must have published the same bytes as the undisturbed one. The last line is JSON; exit code 1 tells of a
difference.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

STORMS = ("command", "parts", "worker")
PER_SHARD = 8
OBJECTS = 90
OVERRIDES = ["--set=dataset.collections=[{kind: parametric}]", f"--set=dataset.objects_per_shard={PER_SHARD}"]
OPERATIONS = 2 * OBJECTS + 5 * (OBJECTS // PER_SHARD)  # flushes and renames of a whole rendering, at most


@dataclass
class Storm:
    """One way of killing: what is compared with `reference`, and what became of it."""

    name: str
    recipe: str
    reference: Path
    folder: Path
    numbers: random.Random
    lives: int = 0
    kills: int = 0
    finished: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        return self.folder / self.name

    def rage(self, kills: int) -> None:
        live = {"command": self._command, "parts": self._parts, "worker": self._worker}[self.name]
        while self.kills < kills or self.workspace.exists():
            left = kills - self.kills
            live(left)
            if (self.workspace / "shards" / "manifest.json").is_file():
                self._compare(last=left <= 0)
            elif left <= 0:
                raise SystemExit(f"{self.name}: an undisturbed rendering published nothing")
            print(f"{self.name}: {self.kills} kills, {self.finished} finished", file=sys.stderr, flush=True)

    def _command(self, left: int) -> None:
        self._end([self._begin(["--workers", "2"], left > 0 and self._victim())])

    def _parts(self, left: int) -> None:
        doomed = self.numbers.choice([(1,), (2,), (1, 2)])[:left]
        self._end(
            [
                self._begin(["--workers", "1", "--part", f"{part}/2"], part in doomed and self._victim())
                for part in (1, 2)
            ]
        )

    def _worker(self, left: int) -> None:
        """Kill workers of one rendering, a handful and not one soon after the other, and let it come to its end."""
        process, _ = self._begin(["--workers", "2"], False)
        for _ in range(min(left, 4)):
            seen = time.monotonic() + self.numbers.uniform(0.2, 3.0)
            while process.poll() is None and (time.monotonic() < seen or not _workers_of(process.pid)):
                time.sleep(0.01)
            found = _workers_of(process.pid)
            if process.poll() is None and found:
                os.kill(self.numbers.choice(found), signal.SIGKILL)
                self.kills += 1
        self._end([(process, None)])

    def _victim(self) -> int:
        """Return when to die: the number of an operation, or minus the number of objects to wait for."""
        if (self.kills + self.lives) % 2:
            return self.numbers.randint(1, max(OPERATIONS - 2 * self._drawn(), 8))
        return -self.numbers.randint(self._drawn(), OBJECTS)

    def _begin(self, options: list[str], end: int | bool) -> tuple[subprocess.Popen[bytes], int | None]:
        self.lives += 1
        how = ["--live", *(["--die-at", str(end)] if end > 0 else [])]
        line = ["render-dataset", self.recipe, *OVERRIDES, *options, "-w", str(self.workspace), "-q"]
        process = subprocess.Popen([sys.executable, __file__, *how, "--", *line], stdout=subprocess.DEVNULL)
        return process, (-end if end < 0 else None)

    def _end(self, processes: list[tuple[subprocess.Popen[bytes], int | None]]) -> None:
        """Kill each process whose number of objects is drawn, and wait for all."""
        waiting = [(process, drawn, self.numbers.uniform(0, 0.1)) for process, drawn in processes if drawn is not None]
        while any(process.poll() is None for process, *_ in waiting):
            for process, drawn, delay in waiting:
                if process.poll() is None and self._drawn() >= drawn:
                    time.sleep(delay)
                    process.kill()
                    process.wait()
            time.sleep(0.005)
        for process, _ in processes:
            code = process.wait()
            if code not in (0, -signal.SIGKILL):
                raise SystemExit(f"{self.name}: a rendering ended with {code}")
            self.kills += code != 0

    def _drawn(self) -> int:
        """Return how many objects are drawn; those of a sealed shard count once, though a kill may leave them twice."""
        partial = self.workspace / "shards.partial"
        if (self.workspace / "shards").exists():
            return OBJECTS
        sealed = {int(path.name[6:11]) for path in partial.glob("result/shard-*.index.json")}
        loose = [path for path in partial.glob("objects/*.run") if int(path.stem) // PER_SHARD not in sealed]
        return len(loose) + sum(min(PER_SHARD, OBJECTS - PER_SHARD * number) for number in sealed)

    def _compare(self, last: bool) -> None:
        mine, theirs = (_content(place / "shards") for place in (self.workspace, self.reference))
        self.differences += [
            f"{self.name}: {name}" for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)
        ]
        if not self._is_clean():
            if not last:
                return
            self.differences.append(f"{self.name}: unfinished work is left")
        self.finished += 1
        shutil.rmtree(self.workspace)

    def _is_clean(self) -> bool:
        """Return whether nothing is left beside the artifact; what a kill after publishing left, a rerun removes.

        Files of locks do not count: nobody holds them.
        """
        left = [path for path in self.workspace.glob(".shards*") if ".lock" not in path.suffixes]
        return not left and not (self.workspace / "shards.partial").exists()


def _workers_of(process: int) -> list[int]:
    """Return the worker processes of a rendering, Python's own helpers left out."""
    found = []
    try:
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    except OSError:
        pass
    return found


def _content(artifact: Path) -> dict[str, object]:
    """Return what an artifact holds: all files as bytes, and of the manifest what belongs to the content."""
    content: dict[str, object] = {
        path.name: path.read_bytes() for path in artifact.iterdir() if path.name != "manifest.json"
    }
    manifest = json.loads((artifact / "manifest.json").read_text())
    return content | {f"manifest.{name}": manifest[name] for name in ("id", "files", "details")}


def live(arguments: list[str], die_at: int | None) -> None:
    """Run the command line in this process, which dies before its `die_at`-th flush or rename."""
    from ln3d.cli.app import main

    done = 0

    def mortal(operation):  # type: ignore[no-untyped-def]
        def wrapped(*values):  # type: ignore[no-untyped-def]
            nonlocal done
            done += 1
            if done == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*values)

        return wrapped

    if die_at is not None:
        os.fsync, os.rename, os.replace = mortal(os.fsync), mortal(os.rename), mortal(os.replace)
    sys.argv = ["ln3d", *arguments]
    main()


def storm(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    start, reference = time.monotonic(), folder / "undisturbed"
    line = ["render-dataset", options.recipe, *OVERRIDES, "--workers", "2", "-w", str(reference), "-q"]
    subprocess.run([sys.executable, "-m", "ln3d", *line], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    storms = [
        Storm(name, options.recipe, reference, folder, random.Random(f"{options.seed}/{name}"))
        for name in options.storms
    ]
    for one in storms:
        one.rage(options.kills)
    return {
        "benchmark": "kill_render",
        "seconds_undisturbed": round(seconds, 1),
        "seconds": round(time.monotonic() - start, 1),
        "objects": OBJECTS,
        "seed": options.seed,
        "storms": {one.name: {n: getattr(one, n) for n in ("lives", "kills", "finished")} for one in storms},
        "differences": [difference for one in storms for difference in one.differences],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(Path(__file__).parents[1] / "recipes" / "smoke.yaml"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--storms", nargs="+", choices=STORMS, default=STORMS)
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--die-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        live(options.arguments, options.die_at)
        return
    with tempfile.TemporaryDirectory(prefix="kill-render-") as folder:
        result = storm(options, Path(folder))
    print(json.dumps(result))
    sys.exit(1 if result["differences"] else 0)


if __name__ == "__main__":
    main()
