"""The README tells the truth: its commands run, its names exist, and what is installed has all that they need."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.cli.app import app
from ln3d.config.render import LimitsConfig
from ln3d.data.readers.mesh import read_scene
from ln3d.data.shards import ShardSet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
STAGES = ["render-dataset", "train-vae", "encode", "train-diffusion", "sample", "extract-mesh", "eval"]


def section(title: str) -> str:
    """Return the text of a section of the README."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def fenced(text: str) -> list[str]:
    """Return the lines of the shell blocks of `text`: those between fences that name no language."""
    lines, fence = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            fence = line if fence is None else None
        elif fence == "```":
            lines.append(line)
    return lines


def commands(text: str) -> list[list[str]]:
    """Return the `ln3d` lines of the shell blocks in `text`, without their comments, as lists of arguments."""
    return [shlex.split(line, comments=True)[1:] for line in fenced(text) if line.startswith("ln3d ")]


def registered() -> set[str]:
    """Return the names of all commands."""
    return {str(info.name) for info in (*app.registered_commands, *app.registered_groups)}


def run(arguments: list[str], folder: Path) -> dict:
    """Run a command in a process of its own and return the one JSON object that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "ln3d", *arguments, "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, f"ln3d {shlex.join(arguments)}\n{done.stderr}"
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def faces_of_coloured(path: Path) -> int:
    """Return how many faces a GLB has, after making sure that its vertices have more than one colour."""
    (part,) = read_scene(path, LimitsConfig()).parts
    assert part.colours is not None and len(np.unique(part.colours, axis=0)) > 1
    return len(part.faces)


@pytest.mark.timeout(1800)  # two minutes alone on two cores
def test_the_seven_commands(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    lines = commands(section("The seven commands"))
    assert list(dict.fromkeys(line[0] for line in lines)) == [*STAGES, "inspect"]
    results = {shlex.join(line): run(line, tmp_path) for line in lines}

    assert faces_of_coloured(tmp_path / "chair.glb") > 100
    with Image.open(tmp_path / "chair.png") as picture:
        assert picture.width > 4 * 128 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 100

    workspace = Workspace(tmp_path / "runs" / "smoke")
    shards = ShardSet(workspace.open("shards", verify=True))
    assert {record.category for record in shards.objects} == {"chair", "table", "car", "plane", "boat"}
    assert {record.split for record in shards.objects} == {"train", "validation", "test"}
    for kind in ("vae", "latents", "denoiser", "samples", "meshes"):
        artifact = workspace.open(kind, verify=True)
        assert kind == "latents" or (artifact.path / "contact.png").is_file()
    assert len(list((workspace.path("meshes")).glob("*.glb"))) == artifact.manifest.details["meshes"] >= 1
    assert open_artifact(workspace.path("report") / "psnr", "report", verify=True)

    score = next(result for line, result in results.items() if line.startswith("eval psnr"))
    assert score["psnr"] > score["details"]["train"]["all"]["white_psnr"] + 1  # it has learned something
    seen = next(result for line, result in results.items() if line.startswith("inspect"))
    assert all("problem" not in artifact for artifact in seen["artifacts"]) and not seen["unfinished"]


def test_the_shipped_model_answers_the_first_command(tmp_path: Path) -> None:
    line = next(line for line in README.splitlines() if line.startswith("python3 -m venv"))
    words = shlex.split(line.split("&&")[-1])
    assert words[0] == ".venv/bin/ln3d"
    run(words[1:], tmp_path)
    assert faces_of_coloured(tmp_path / "boat.glb") > 1000


def test_set_up_is_two_lines() -> None:
    assert fenced(section("Set up")) == [
        'python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/ln3d sample --text "wooden boat" -o boat.glb',
        ".venv/bin/pip install -e '.[dev]' && .venv/bin/pytest -n 2",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_named_exists(page: str) -> None:
    named = {line[0] for line in commands(PAGES[page])} | set(re.findall(r"`ln3d ([a-z][a-z-]*)", PAGES[page]))
    assert named <= registered()


def test_every_command_is_in_the_readme() -> None:
    assert registered() == {line[0] for line in commands(README)}


def test_every_option_of_the_readme_exists() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "ln3d" / "cli").glob("*.py"))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section("Options"))):
        assert f'"{option}"' in source or f"{option.removeprefix('--').replace('-', '_')}:" in source, option


def test_every_exit_code_is_in_the_readme() -> None:
    from ln3d import errors
    from ln3d.cli.reporting import INTERRUPTED

    codes = {value.exit_code for value in vars(errors).values() if isinstance(value, type)}
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Options"), re.MULTILINE)}
    assert told == {0, *codes, INTERRUPTED}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    rooted = re.findall(r"`((?:ln3d|recipes|tests|benchmarks|docs|\.ci)/[\w./]+)`", PAGES[page])
    inner = re.findall(r"`((?:stages|artifacts|training)/[\w./]+\.py|[a-z_]+\.py)`", PAGES[page])
    missing = [name for name in rooted if not (ROOT / name).exists()]
    missing += [name for name in inner if not any((ROOT / top / name).exists() for top in ("ln3d", "benchmarks"))]
    assert not missing


def test_every_room_is_in_the_architecture_and_in_the_tree() -> None:
    rooms = {path.name for path in (ROOT / "ln3d").iterdir() if (path / "__init__.py").is_file()}
    levels = re.findall(r"^\| \d \| (.*?) \|$", PAGES["architecture.md"], re.MULTILINE)
    placed = [set(re.findall(r"`(\w+)`", level)) for level in levels]
    layers = re.search(r"^LAYERS = \[\n(.*?)^\]", (ROOT / "tests/test_architecture.py").read_text(), re.M | re.DOTALL)
    assert layers and placed == [set(re.findall(r'"(\w+)"', line)) for line in layers[1].splitlines()]
    assert rooms <= set().union(*placed)
    assert rooms == set(re.findall(r"(\w+)/ ", section("The tree").split("recipes/")[0])) - {"ln3d"}


def test_the_wheel_will_hold_everything() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    settings = project["tool"]["setuptools"]
    held: set[Path] = set()
    for package, patterns in settings["package-data"].items():
        folder = ROOT.joinpath(*package.split("."))
        held |= {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    assert settings["packages"]["find"]["include"] == ["ln3d*"]
    for path in (ROOT / "ln3d").rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        packaged = path.suffix == ".py" and (path.parent / "__init__.py").is_file()
        assert packaged or path in held, f"{path.relative_to(ROOT)} would not be installed"
    assert project["project"]["scripts"] == {"ln3d": "ln3d.cli.app:main"}
    assert project["project"]["readme"] == "README.md" and (ROOT / "LICENSE").is_file()
