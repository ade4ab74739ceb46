"""Kill trainings dead, again and again, and compare what they end with to runs that were left alone.

    python benchmarks/kill_storm.py [--kills 20] [--inside-saves 5] [--steps 120] [--seed 0] [--recipe RECIPE]

`ln3d train-vae` and `ln3d train-diffusion` are each killed `--kills` times by SIGKILL at seeded random moments, half
of them with two loader processes, and `--inside-saves` of them between two flushes or renames of a checkpoint; after
each they are started again. Every training that comes to its end must have published the same bytes as the one that
nobody disturbed, metrics apart from their wall-clock figures. The last line is JSON; exit code 1 tells of a difference.
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

STAGES = {"train-vae": ("vae", ["shards"]), "train-diffusion": ("denoiser", ["shards", "vae", "latents"])}
CLOCKS = ("seconds", "loader_seconds")
OPERATIONS_OF_A_SAVE = 8
SECTIONS = {"train-vae": "vae", "train-diffusion": "diffusion"}


@dataclass
class Storm:
    """One stage: how it is started, where its undisturbed result lies, and what became of it."""

    stage: str
    command: list[str]
    reference: Path
    steps: int
    folder: Path
    lives: int = 0
    kills: int = 0
    kills_inside_saves: int = 0
    finished: int = 0
    differences: list[str] = field(default_factory=list)

    def rage(self, kills: int, inside_saves: int, numbers: random.Random) -> None:
        inside = set(numbers.sample(range(kills), inside_saves))
        while self.kills < kills:
            workers = 2 * (self.kills % 2)
            workspace = self._workspace(workers)
            if self.kills in inside:
                operation = numbers.randrange(1, 3 * OPERATIONS_OF_A_SAVE)
                killed = self._live(workspace, workers, ["--die-at", str(operation)])
                self.kills_inside_saves += killed
            else:
                killed = self._live(workspace, workers, [], numbers)
            self.kills += killed
            if not killed:
                self._compare(workspace)
            print(f"{self.stage}: {self.kills} kills, {self.finished} finished", file=sys.stderr, flush=True)
        for workers in (0, 2):
            workspace = self._workspace(workers)
            self._live(workspace, workers, [])
            self._compare(workspace)

    def _workspace(self, workers: int) -> Path:
        workspace = self.folder / f"{self.stage}-{workers}"
        if not workspace.exists():
            for kind in STAGES[self.stage][1]:
                shutil.copytree(self.reference / kind, workspace / kind)
        return workspace

    def _live(self, workspace: Path, workers: int, how: list[str], numbers: random.Random | None = None) -> bool:
        """Start the stage and return whether it was killed; otherwise it has published.

        With `numbers` it is killed from outside, at a random moment of up to half the training's steps ahead.
        """
        self.lives += 1
        section = SECTIONS[self.stage]
        command = [sys.executable, __file__, "--live", *how, "--", *self.command]
        command += ["-w", str(workspace), "-q", "--set", f"{section}.training.workers={workers}"]
        partial = workspace / f"{STAGES[self.stage][0]}.partial"
        partial.joinpath("metrics.jsonl").unlink(missing_ok=True)  # what counts is in the checkpoints
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        if numbers is not None:
            last = _sealed_step(partial) + numbers.randint(0, self.steps // 2)
            while process.poll() is None and _steps_taken(partial / "metrics.jsonl") < last:
                time.sleep(0.005)
            time.sleep(numbers.uniform(0, 0.1))
            process.kill()
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"{' '.join(command)} ended with {code}")
        return code != 0

    def _compare(self, workspace: Path) -> None:
        kind = STAGES[self.stage][0]
        mine, theirs = (_content(place / kind) for place in (workspace, self.reference))
        self.differences += [
            f"{workspace.name}: {name}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]
        if workspace.joinpath(f"{kind}.partial").exists():
            self.differences.append(f"{workspace.name}: unfinished work is left")
        self.finished += 1
        shutil.rmtree(workspace)


def _sealed_step(partial: Path) -> int:
    return max((int(manifest.parent.name[5:12]) for manifest in partial.glob("step-*/manifest.json")), default=0)


def _steps_taken(metrics: Path) -> int:
    """Return how many steps of this life and those before it are logged, -1 before the training has begun."""
    try:
        return metrics.read_text().count('"loss"')
    except FileNotFoundError:
        return -1


def _content(artifact: Path) -> dict[str, object]:
    """Return what an artifact holds: files as bytes, metrics without clocks, and the manifest's details."""
    content: dict[str, object] = {
        path.name: path.read_bytes()
        for path in artifact.iterdir()
        if path.name not in ("manifest.json", "metrics.jsonl")
    }
    content["details"] = json.loads((artifact / "manifest.json").read_text())["details"]
    lines = [json.loads(line) for line in (artifact / "metrics.jsonl").read_text().splitlines()]
    content["metrics"] = [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]
    return content


def live(arguments: list[str], die_at: int | None) -> None:
    """Run the command line in this process, which dies at its `die_at`-th flush or rename."""
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
        os.fsync, os.rename = mortal(os.fsync), mortal(os.rename)
    sys.argv = ["ln3d", *arguments]
    main()


def undisturbed(stages: list[list[str]], workspace: Path) -> dict[str, float]:
    """Run the chain once and return the seconds of each stage."""
    seconds = {}
    for command in stages:
        start = time.monotonic()
        quietly = [sys.executable, "-m", "ln3d", *command, "-w", str(workspace), "-q"]
        subprocess.run(quietly, check=True, stdout=subprocess.DEVNULL)
        seconds[command[0]] = time.monotonic() - start
        print(f"{command[0]}: {seconds[command[0]]:.0f} s undisturbed", file=sys.stderr, flush=True)
    return seconds


def storm(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    every = {"checkpoint": max(options.steps // 6, 1), "validate": max(options.steps // 2, 1), "log": 1}
    training = {"steps": options.steps} | {f"{what}_every": steps for what, steps in every.items()}
    sets = [
        f"--set={section}.training.{key}={value}" for section in SECTIONS.values() for key, value in training.items()
    ]
    chain = ["render-dataset", "train-vae", "encode", "train-diffusion"]
    commands = {stage: [stage, options.recipe, *sets] for stage in chain}
    seconds = undisturbed(list(commands.values()), folder / "undisturbed")
    storms = []
    for stage in STAGES:
        numbers = random.Random(f"{options.seed}/{stage}")
        storms.append(Storm(stage, commands[stage], folder / "undisturbed", options.steps, folder))
        storms[-1].rage(options.kills, options.inside_saves, numbers)
    counted = ("lives", "kills", "kills_inside_saves", "finished", "differences")
    return {
        "benchmark": "kill_storm",
        "seconds": seconds,
        "steps": options.steps,
        "seed": options.seed,
        "stages": {one.stage: {name: getattr(one, name) for name in counted} for one in storms},
        "equal": not any(one.differences for one in storms),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(Path(__file__).parents[1] / "recipes" / "smoke.yaml"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--inside-saves", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--die-at", type=int, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live:
        live(options.arguments, options.die_at)
        return
    with tempfile.TemporaryDirectory(prefix="kill-storm-") as folder:
        result = storm(options, Path(folder))
    print(json.dumps(result))
    sys.exit(0 if result["equal"] else 1)


if __name__ == "__main__":
    main()
