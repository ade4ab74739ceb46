"""Starting the command line: `ln3d --help` against what an eager import of torch alone would cost, and another tool.

    python benchmarks/startup.py [--repeats 7]

The commands take turns and the best time of each counts, so that other work on the machine disturbs all alike. The
peers: a bare `import torch`, which every command line that imports its networks at the top pays, and `hf --help`, a
command line of similar size that is known for its care. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "ln3d": [sys.executable, "-m", "ln3d", "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
    "hf": [str(Path(sys.executable).with_name("hf")), "--help"],
}


def seconds(command: list[str]) -> tuple[float, float]:
    """Return wall-clock and processor time of one run in a process of its own."""
    before, start = os.times(), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - start, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    commands = {name: command for name, command in COMMANDS.items() if Path(command[0]).exists()}
    for command in commands.values():
        seconds(command)  # byte code and page cache
    runs = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            runs[name].append(seconds(command))
    wall = {name: min(time for time, _ in found) for name, found in runs.items()}
    used = {name: min(time for _, time in found) for name, found in runs.items()}
    for name in commands:
        print(f"{name:<14} {wall[name]:.3f} s, {used[name]:.3f} s of processor time")
    result = {
        "benchmark": "startup",
        "seconds": {name: round(value, 3) for name, value in wall.items()},
        "processor_seconds": {name: round(value, 3) for name, value in used.items()},
        "ratios": {name: round(wall[name] / wall["ln3d"], 2) for name in commands if name != "ln3d"},
        "processor_ratios": {name: round(used[name] / used["ln3d"], 2) for name in commands if name != "ln3d"},
        "repeats": repeats,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
