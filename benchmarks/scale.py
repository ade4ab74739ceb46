"""Render a whole recipe by the command itself, and watch its clock and its memory.

    python benchmarks/scale.py [--recipe recipes/packages.yaml] [--workspace DIR] [--workers N]

Nothing may be there yet. Every ten seconds the memory of the command and of its workers is noted (PSS: a page that n
processes share counts as 1/n of it for each). It comes and goes with large objects; `flatness` is what stays: the least
of the last quarter of the run / the least of the second quarter.
The last line is one JSON object; `ratios.minutes` is the time taken / 20 minutes for 2,200 objects of 24 views.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil

EVERY_S = 10.0
MINUTES, VIEWS = 20, 2200 * 24


def memory_of(process: psutil.Process) -> tuple[int, int]:
    """Bytes of the command and of its workers."""
    own, others = 0, 0
    for one in [process, *process.children(recursive=True)]:
        try:
            size = one.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
        own, others = (size, others) if one.pid == process.pid else (own, others + size)
    return own, others


def watch(command: list[str]) -> tuple[dict[str, object], list[tuple[float, int, int]], float]:
    """The command's result, (seconds, own bytes, workers' bytes) over time, and its seconds."""
    start, noted = time.monotonic(), []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        watched = psutil.Process(running.pid)
        while True:
            try:
                output, _ = running.communicate(timeout=EVERY_S)
                break
            except subprocess.TimeoutExpired:
                noted.append((round(time.monotonic() - start, 1), *memory_of(watched)))
    if running.returncode:
        sys.exit(running.returncode)
    return json.loads(output), noted, time.monotonic() - start


def flatness(noted: list[tuple[float, int, int]], column: int) -> float | None:
    """Least of the last quarter over that of the second; None for a run too short to tell."""
    if len(noted) < 8:
        return None
    quarter = len(noted) // 4
    return min(row[column] for row in noted[-quarter:]) / min(row[column] for row in noted[quarter : 2 * quarter])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).parents[1] / "recipes" / "packages.yaml")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    command = [sys.executable, "-m", "ln3d", "render-dataset", str(options.recipe), "--json"]
    command += ["-w", str(options.workspace)] if options.workspace else []
    command += ["--workers", str(options.workers)] if options.workers else []
    result, noted, seconds = watch(command)
    objects, views = int(result["objects"]), int(result["views"])  # type: ignore[call-overload]
    print(f"{'second':>8} {'command MB':>11} {'workers MB':>11}")
    for second, own, workers in noted[:: max(1, len(noted) // 20)]:
        print(f"{second:8.0f} {own / 1e6:11.0f} {workers / 1e6:11.0f}")
    print(
        json.dumps(
            {
                "benchmark": "scale",
                "seconds": round(seconds, 1),
                "objects": objects,
                "rejected": result["rejected"],
                "views": views,
                "views_per_second": round(objects * views / seconds, 1),
                "peak_bytes": max((own + workers for _, own, workers in noted), default=None),
                "flatness": {"command": flatness(noted, 1), "workers": flatness(noted, 2)},
                "ratios": {"minutes": (seconds / 60) / (MINUTES * objects * views / VIEWS)},
            }
        )
    )


if __name__ == "__main__":
    main()
