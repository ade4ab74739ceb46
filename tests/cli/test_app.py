"""The command line from outside: what it offers, what it hands to the stages, how it ends."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ln3d
from ln3d.artifacts.workspace import Workspace
from ln3d.cli import evaluate
from ln3d.cli.app import app
from ln3d.config.recipe import Recipe
from ln3d.data.unfinished import WHOLE, Part
from ln3d.errors import ArtifactError, DivergedError, LN3DError, MeshError, RecipeError, WeightsError
from ln3d.stages.reference_share import Share
from ln3d.talk import Talk

COMMANDS = ["render-dataset", "train-vae", "encode", "train-diffusion", "sample", "extract-mesh", "inspect"]
RECIPE_COMMANDS = COMMANDS[:4]
METRICS = list(evaluate.METRICS)


class Stage:
    """Stands in for a stage module: notes how it was called, then returns or raises what the test says."""

    def __init__(self) -> None:
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}
        self.outcome: Any = {"stage": "fake", "value": 1.5}

    def run(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        self.arguments, self.options = arguments, options
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    @staticmethod
    def describe(facts: dict[str, Any]) -> str:
        return f"described {facts['value']}"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    fake = Stage()
    package = types.ModuleType("ln3d.stages")
    monkeypatch.setitem(sys.modules, "ln3d.stages", package)
    for command in [*COMMANDS, "evaluate", "pack"]:
        monkeypatch.setattr(package, command.replace("-", "_"), fake, raising=False)
    return fake


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text("seed: 3\n")
    return tmp_path / "tiny.yaml"


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
def test_a_recipe_command_hands_over_recipe_and_workspace(stage: Stage, recipe: Path, command: str) -> None:
    result = call(command, recipe, "--set", "vae.decoder.depth=2", "--set", "seed=9", "--dry-run", "-q")
    assert result.exit_code == 0, result.output
    loaded, workspace, talk = stage.arguments
    assert isinstance(loaded, Recipe) and (loaded.name, loaded.seed, loaded.vae.decoder.depth) == ("tiny", 9, 2)
    assert isinstance(workspace, Workspace) and workspace.root == Path("runs/tiny")
    assert talk == Talk(verbosity=0) and stage.options["dry_run"] is True
    assert call(command, recipe, "-w", "there").exit_code == 0 and stage.arguments[1].root == Path("there")


def test_render_dataset_options(stage: Stage, recipe: Path) -> None:
    call("render-dataset", recipe, "--meshes", "m", "--workers", 3, "--limit", 5, "--only", "a", "--part", "2/8")
    chosen = {"meshes": Path("m"), "workers": 3, "limit": 5, "only": ["a"], "part": Part(2, 8), "ray": None}
    assert stage.options == {**chosen, "dry_run": False}
    call("render-dataset", recipe)
    assert (stage.options["only"], stage.options["part"]) == ((), WHOLE)
    refused = call("render-dataset", recipe, "--part", "0/8")
    assert refused.exit_code == 2 and "i/n" in refused.output


@pytest.mark.parametrize("command", RECIPE_COMMANDS[1:])
def test_trainings_take_a_device(stage: Stage, recipe: Path, command: str) -> None:
    call(command, recipe, "--device", "cuda:1", "-v")
    start = {} if command == "encode" else {"init_from": None}
    assert stage.options == {"device": "cuda:1", "dry_run": False} | start and stage.arguments[2].verbosity == 2


@pytest.mark.parametrize("command", ["train-vae", "train-diffusion"])
def test_trainings_take_a_start(stage: Stage, recipe: Path, command: str) -> None:
    call(command, recipe, "--init-from", "other/vae")
    assert stage.options == {"init_from": Path("other/vae"), "device": "auto", "dry_run": False}


@pytest.mark.parametrize("command", ["train-vae", "encode"])
def test_shards_may_lie_elsewhere(stage: Stage, recipe: Path, command: str) -> None:
    call(command, recipe, "--shards", "s3://bucket/shards", "-w", "run")
    workspace = stage.arguments[1]
    assert (workspace.root, workspace.shards_place) == (Path("run"), "s3://bucket/shards")
    call(command, recipe)
    assert stage.arguments[1].shards_place is None


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_the_first_speaks_for_the_recipe(
    stage: Stage, recipe: Path, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    stage.outcome = RecipeError("a wrong value", "put it right")
    result = call("train-vae", recipe)
    assert result.exit_code == 2
    assert ("error: a wrong value" in result.output) == (rank == "0")
    stage.outcome = ArtifactError("seen by this process alone")
    assert "error: seen by this process alone" in call("train-vae", recipe).output


def test_sample_options(stage: Stage) -> None:
    call("sample", "--text", "wooden boat", "-o", "boat.glb", "--count", 2, "--seed", 4, "--steps", 8, "--guidance", 3)
    assert stage.arguments[0] is None
    given = {"text": "wooden boat", "output": Path("boat.glb"), "count": 2, "seed": 4, "steps": 8, "guidance": 3.0}
    assert stage.options == {**given, "device": "auto", "dry_run": False}


def test_extract_mesh_options(stage: Stage) -> None:
    call("extract-mesh", "s", "--model", "m", "-o", "out", "--resolution", 64, "--format", "ply")
    assert stage.arguments[:2] == (Path("s"), Path("m"))
    given = {"output": Path("out"), "resolution": 64, "file_format": "ply"}
    assert stage.options == {**given, "device": "auto", "dry_run": False}
    assert call("extract-mesh", "s", "-o", "out", "--format", "stl").exit_code == 2


@pytest.mark.parametrize("metric", METRICS)
def test_eval_options(stage: Stage, metric: str) -> None:
    call("eval", metric, "--model", "m", "--category", "car", "--count", 7, "-o", "report")
    assert stage.arguments[:2] == (metric, Path("m"))
    given = {"category": "car", "count": 7, "output": Path("report"), "overrides": (), "of": "samples"}
    unsaid = dict.fromkeys(["reference", "meshes", "renders", "objects", "workspace"])
    assert stage.options == {**unsaid, **given, "device": "auto", "dry_run": False}


def test_eval_of_another_systems_files(stage: Stage) -> None:
    call("eval", "fid", "--meshes", "lgm", "--reference", "run", "--set", "evaluation.views=8")
    assert stage.arguments[:2] == ("fid", None)
    assert (stage.options["meshes"], stage.options["reference"]) == (Path("lgm"), Path("run"))
    assert stage.options["overrides"] == ("evaluation.views=8",)


def test_a_workspace_is_written_to_and_is_the_model_where_it_holds_one(stage: Stage, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("sample", "-w", run)
    assert stage.arguments[0] is None and stage.options["output"] == run / "samples"
    (run / "vae").mkdir(parents=True)
    call("sample", "-w", run)
    assert stage.arguments[0] == run
    call("sample", "-w", run, "--model", "other", "-o", "x.png")
    assert stage.arguments[0] == Path("other") and stage.options["output"] == Path("x.png")
    call("extract-mesh", "-w", run)
    assert stage.arguments[:2] == (run / "samples", run) and stage.options["output"] == run / "meshes"
    call("eval", "cov", "-w", run)
    assert stage.arguments[1] == stage.options["workspace"] == run
    call("eval", "cov", "-w", run, "--model", "other", "--category", "car")
    assert stage.arguments[1] == Path("other") and stage.options["workspace"] == run


@pytest.mark.parametrize("command", ["sample", "extract-mesh"])
def test_without_a_place_to_write_the_remedy_is_said(stage: Stage, command: str) -> None:
    result = call(command)
    assert result.exit_code == 2 and "no place to write" in result.stderr and "-o" in result.stderr


def test_the_metrics_are_those_of_the_stage() -> None:
    from ln3d.stages import evaluate as real

    assert tuple(evaluate.METRICS) == (*real.METRICS, "all")


def test_json_is_one_object_and_nothing_else(stage: Stage, recipe: Path) -> None:
    import numpy as np

    stage.outcome = {
        "psnr": np.float32(24.5),
        "bad": float("nan"),
        "folder": Path("a"),
        "list": [np.int64(1), {"x": 2.0}],
    }
    result = call("train-vae", recipe, "--json")
    assert json.loads(result.stdout) == {"psnr": 24.5, "bad": None, "folder": "a", "list": [1, {"x": 2.0}]}
    assert result.stdout.count("\n") == 1 and result.stderr == ""


def test_without_json_figures_are_printed_line_by_line(stage: Stage, recipe: Path) -> None:
    stage.outcome = {"psnr": 24.51234, "inside": {"mask": 1, "none": None}, "seeds": [0, 1], "files": list(range(9))}
    assert call("train-vae", recipe).stdout.splitlines() == [
        "psnr         24.51",
        "inside.mask  1",
        "inside.none  -",
        "seeds        0, 1",
        "files        9 entries",
    ]


def test_pack_takes_a_share_of_the_real_objects(stage: Stage) -> None:
    assert call("pack", "run", "-o", "model").exit_code == 0
    plain = stage.options
    options = ("--reference", "--category", "car", "--category", "plane", "--pictures", "5", "--shapes", "4")
    assert call("pack", "run", "-o", "model", *options, "--set", "evaluation.views=3").exit_code == 0
    assert stage.arguments == (Path("run"), Talk()) and stage.options["output"] == Path("model")
    changed = {name: value for name, value in stage.options.items() if plain[name] != value}
    share = {"reference": True, "categories": ("car", "plane"), "pictures": 5, "shapes": 4}
    assert changed == {**share, "overrides": ("evaluation.views=3",)}
    assert (plain["pictures"], plain["shapes"]) == (Share.pictures, Share.shapes)


def test_inspect_describes_or_prints_json(stage: Stage) -> None:
    assert call("inspect", "x").stdout == "described 1.5\n"
    assert json.loads(call("inspect", "x", "--json").stdout) == stage.outcome
    assert stage.arguments == ("x", Talk())
    call("inspect", "s3://bucket/shards", "-o", "x.png")  # an address stays as it is
    assert stage.arguments[0] == "s3://bucket/shards" and stage.options["output"] == Path("x.png")


@pytest.mark.parametrize(
    ("error", "code"),
    [(LN3DError, 1), (RecipeError, 2), (ArtifactError, 3), (MeshError, 4), (WeightsError, 5), (DivergedError, 6)],
)
def test_an_error_is_one_line_with_its_remedy_and_its_code(stage: Stage, recipe: Path, error: Any, code: int) -> None:
    stage.outcome = error("it broke", "mend it")
    result = call("encode", recipe, "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "error: it broke\nhint: mend it\n")


def test_interrupts_full_disks_and_bugs(stage: Stage, recipe: Path) -> None:
    stage.outcome = KeyboardInterrupt()
    assert call("encode", recipe).exit_code == 130
    stage.outcome = OSError(28, "No space left on device", "x/weights")
    result = call("encode", recipe)
    assert (result.exit_code, result.stderr) == (1, "error: x/weights: No space left on device\n")
    stage.outcome = ZeroDivisionError()
    assert isinstance(call("encode", recipe).exception, ZeroDivisionError)


def test_only_the_first_process_of_a_group_speaks(stage: Stage, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert call("encode", recipe, "--json").stdout == "" and stage.arguments[2].verbosity == -1


def test_a_wrong_recipe_exits_with_2_and_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("\nvea: {}\n")
    result = call("train-vae", tmp_path / "x.yaml")
    assert result.exit_code == 2 and result.stderr.startswith(
        f"error: {tmp_path}/x.yaml:2: vea: unknown key; did you mean vae?"
    )
    assert call("train-vae", tmp_path / "none.yaml").exit_code == 2


@pytest.mark.parametrize(
    "arguments", [["sampel"], ["eval", "fdi"], ["sample", "--txt", "x"], ["sample", "--count", "0"], ["train-vae"]]
)
def test_misuse_exits_with_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2 and result.stdout == ""


def test_a_misspelled_command_is_guessed() -> None:
    assert "Did you mean 'sample'?" in call("sampel").stderr
    assert "Did you mean 'fid'?" in call("eval", "fdi").stderr


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["eval"], *(["eval", m] for m in METRICS)])
def test_help_is_whole_sentences(command: list[str]) -> None:
    text = call(*command, "--help").stdout
    assert "Usage:" in text and "..." not in text.replace("[ARGS]...", "")
    for option in ["--json", "--quiet", "--verbose", *(["--dry-run", "--workspace"] if command != ["inspect"] else [])]:
        assert option in text or command in ([], ["eval"])


def test_version() -> None:
    assert call("--version").stdout == f"ln3d {ln3d.__version__}\n"


HEAVY = "{'torch', 'numpy', 'scipy', 'trimesh', 'PIL', 'yaml', 'rich'}"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["sample", "--help"], ["eval", "fid", "--help"]])
def test_what_needs_no_stage_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        f"import sys, atexit; atexit.register(lambda: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr));"
    )
    program += "from ln3d.cli.app import main; main()"
    run = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert run.stderr.splitlines()[-1] == "[]"


def test_ctrl_c_ends_with_130_and_no_traceback(recipe: Path) -> None:
    program = "import sys, time, types, os, signal; m = types.ModuleType('ln3d.stages.encode');"
    program += "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a command in the background ignores it
    program += "m.run = lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60));"
    program += "sys.modules['ln3d.stages.encode'] = m;"
    program += "import ln3d.stages; ln3d.stages.encode = m; from ln3d.cli.app import main; main()"
    command = [sys.executable, "-c", program, "encode", str(recipe)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert run.returncode == 128 + signal.SIGINT and "Traceback" not in run.stderr
