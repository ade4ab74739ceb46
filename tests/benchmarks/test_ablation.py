"""The harness of the ablations: its plans, and a small one from shards to a table, twice."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ln3d.artifacts.workspace import Workspace
from ln3d.cli.app import app
from ln3d.config.load import load_recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("ablation", "ablation_plans", "ablation_runs", "ablation_tables")
SMALL = (
    "vae.encoder.views=2",
    "vae.encoder.resolution=16",
    "vae.encoder.width=8",
    "vae.encoder.heads=2",
    "vae.latent.resolution=4",
    "vae.decoder.width=16",
    "vae.decoder.depth=2",
    "vae.decoder.heads=2",
    "vae.upsampler.unpatch=2",
    "vae.upsampler.width=8",
    "vae.field.channels=4",
    "vae.field.hidden=8",
    "vae.renderer={coarse: 8, fine: 4, guided_coarse: 4, guided_fine: 4}",
    "vae.supervision.rays=48",
    "vae.training.batch=2",
    "vae.training.workers=0",
    "vae.training.validate_every=1",
)
"""The plans' recipes on the tiny shards: six views of 16 x 16."""


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Import the scripts as Python does that starts one of them; commands run in this process."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    modules = {name: __import__(name) for name in MODULES}
    monkeypatch.setattr(modules["ablation_runs"], "call", _in_process(modules["ablation_runs"].Failed))
    yield modules
    for name in MODULES:
        del sys.modules[name]


def _in_process(failed: type[Exception]) -> Any:
    def call(arguments: Sequence[str]) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        if result.exit_code:
            raise failed(arguments, result.exit_code)
        return json.loads(result.stdout)

    return call


def _rows(harness: dict[str, ModuleType]) -> dict[str, Any]:
    return {row.name: row for rows in harness["ablation_plans"].PLANS.values() for row in rows}


def test_plans_are_made_of_recipes_that_load_and_of_rows_whose_start_comes_first(
    harness: dict[str, ModuleType],
) -> None:
    plans = harness["ablation_plans"]
    for rows in plans.PLANS.values():
        names = [row.name for row in rows]
        assert len(set(names)) == len(names)
        for place, row in enumerate(rows):
            assert row.start is None or row.start in names[:place]
            assert row is _rows(harness)[row.name]  # the same wherever it stands, since runs are shared by name
            recipe = load_recipe(row.path, plans.overrides_of(row, 1))
            assert (
                recipe.seed == 1 and recipe.vae.losses.kl_start <= recipe.vae.losses.kl_end <= recipe.vae.training.steps
            )
            assert plans.minutes_of(row) < (45 if row.longer > 1 else 15)
    table = [load_recipe(row.path).vae.training.steps for row in plans.PLANS["ablation"]]
    assert len(set(table)) == 1


def test_a_shorter_plan_shortens_every_schedule(harness: dict[str, ModuleType]) -> None:
    plans = harness["ablation_plans"]
    base = load_recipe(plans.RECIPES / "base.yaml").vae.training.steps
    assert plans.scale_of(None) == 1
    assert plans.scale_of(base // 2) == pytest.approx(0.5, rel=1e-2)
    for row in _rows(harness).values():
        whole, half, least = (load_recipe(row.path, plans.overrides_of(row, 0, scale)) for scale in (1, 0.5, 1e-6))
        assert half.vae.training.steps == pytest.approx(whole.vae.training.steps / 2, abs=1)
        for name in ("kl_start", "kl_end"):
            assert getattr(half.vae.losses, name) == pytest.approx(getattr(whole.vae.losses, name) / 2, abs=1)
        assert half.vae.training.warmup == pytest.approx(whole.vae.training.warmup / 2, abs=1)
        assert least.vae.training.steps == 1
    longer = _rows(harness)["longer"]
    assert load_recipe(longer.path, plans.overrides_of(longer, 0)).vae.training.steps == 3 * base


def test_a_plan_goes_from_shards_to_a_table_and_is_up_to_date_then(
    harness: dict[str, ModuleType], tiny_run: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher, its latents, and the encoder that learns them: every command of the harness."""
    folder = tmp_path / "runs"
    sets = [part for change in SMALL for part in ("--set", change)]
    arguments = ["--plan", "ghost", "--rows", "aligned,distilled", "--folder", str(folder), "--seeds", "1"]
    arguments += ["--steps", "4", "--count", "9", "--shards", str(tiny_run.root), *sets]
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            harness["ablation"].main(arguments)
        assert ended.value.code == 0
    first, second = _halves(capsys.readouterr().out)
    assert _timeless(first) == _timeless(second)
    figures = json.loads(first[-1])
    assert figures["benchmark"] == "ablation" and figures["failed"] == []
    assert [line.split("|")[1].strip() for line in first[2:5]] == ["aligned", "distilled", "mean picture"]
    for name in ("aligned", "distilled"):
        place = Workspace(folder / f"{name}-0")
        assert place.path("shards").is_symlink() and place.open("shards").id == tiny_run.open("shards").id
        report = json.loads((place.root / "report/psnr/report.json").read_text())
        (found,) = figures["rows"][name]
        assert found["test"]["psnr"] == report["details"]["test"]["all"]["psnr"]
        assert found["train"]["iou"] == report["details"]["train"]["all"]["iou"]
        assert len((folder / f"{name}-0.jsonl").read_text().splitlines()) == 2  # one life, begun and ended
    inputs = Workspace(folder / "distilled-0").open("vae").manifest.inputs
    assert inputs["latents"].id == Workspace(folder / "aligned-0").open("latents").id
    assert any(line.startswith("| psnr_train | 10% |") for line in first)
    _ghost_is_the_mean_picture(figures["mean_picture"], tiny_run)


def _halves(output: str) -> tuple[list[str], list[str]]:
    lines = output.strip().splitlines()
    assert len(lines) % 2 == 0
    return lines[: len(lines) // 2], lines[len(lines) // 2 :]


def _timeless(lines: Sequence[str]) -> list[object]:
    return [*lines[:-1], {key: value for key, value in json.loads(lines[-1]).items() if key != "seconds"}]


def _ghost_is_the_mean_picture(scores: dict[str, dict[str, float]], run: Workspace) -> None:
    """PSNR of the average over training objects, view by view, worked out without the scores' own code."""
    shards = ShardSet(run.open("shards"))
    pictures, views = Pictures(shards), [2, 3, 4, 5]  # those that are no inputs: the plans' held-out views do not exist
    seen = {record.index: pictures.stack(record.index, views)[0] for record in shards.objects}
    average = np.mean([seen[record.index] for record in shards.objects if record.split == "train"], axis=0)
    tests = [record.index for record in shards.objects if record.split == "test"]
    errors = [[float(np.square(average[v] - seen[index][v]).mean()) for v in range(4)] for index in tests]
    expected = np.mean([[-10 * math.log10(error) for error in views_of] for views_of in errors])
    assert scores["test"]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_what_fails_is_told_and_the_rest_is_made(
    harness: dict[str, ModuleType],
    tiny_run: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, codes = harness["ablation_runs"], {"conv": 6, "vit": 6}
    trained = []

    def call(arguments: Sequence[str]) -> dict[str, Any]:
        name = Path(arguments[arguments.index("-w") + 1]).name.partition("-")[0]
        trained.append(name)
        raise runs.Failed(arguments, codes[name])

    monkeypatch.setattr(runs, "call", call)
    arguments = ["--plan", "ablation", "--rows", "conv,vit", "--folder", str(tmp_path), "--seeds", "1"]
    arguments += ["--shards", str(tiny_run.root)]
    with pytest.raises(SystemExit) as ended:
        harness["ablation"].main(arguments)
    output = capsys.readouterr()
    assert ended.value.code == 1 and trained == ["conv", "vit"]
    assert "ended with 6" in output.err
    assert "| conv | convolutions alone | - | - | - |" in output.out
    assert json.loads(output.out.splitlines()[-1])["rows"] == {"conv": [None], "vit": [None]}
    codes["conv"] = 143
    with pytest.raises(SystemExit, match="the same command goes on"):
        harness["ablation"].main(arguments)
    assert trained[2:] == ["conv"]


def test_processor_time_is_that_of_all_lives_or_not_known(harness: dict[str, ModuleType], tmp_path: Path) -> None:
    runs = harness["ablation_runs"]
    run = runs.Run(_rows(harness)["conv"], 0, tmp_path)
    assert run.cpu_seconds() is None
    with pytest.raises(KeyboardInterrupt), runs.noted(run.diary):
        raise KeyboardInterrupt
    with runs.noted(run.diary):
        pass
    lines = [json.loads(line) for line in run.diary.read_text().splitlines()]
    assert [set(line) for line in lines] == [{"begun"}, {"cpu_seconds", "seconds"}] * 2
    assert run.cpu_seconds() == sum(line.get("cpu_seconds", 0) for line in lines)
    run.diary.write_text(run.diary.read_text() + '{"begun": 0}\n')  # killed dead
    assert run.cpu_seconds() is None


def test_tables_have_means_and_half_ranges_and_gains_seed_by_seed(harness: dict[str, ModuleType]) -> None:
    tables, rows = harness["ablation_tables"], harness["ablation_plans"].PLANS["ablation"][:2]

    def result(psnr: float) -> Any:
        scores = {split: {"psnr": psnr, "psnr_masked": psnr - 5, "iou": psnr / 100} for split in ("train", "test")}
        return tables.Result(scores, 1400, 600.0, {"psnr_train": [(700, psnr - 1), (1400, psnr)]})

    results = {rows[0].name: [result(16.0), result(17.0)], rows[1].name: [result(18.5), result(18.0)]}
    lines = tables.score_table(rows, results, None)
    assert lines[2].split(" | ")[2:6] == ["1400", "10.0 ± 0.0", "16.50 ± 0.50", "11.50 ± 0.50"]
    assert lines[3].split(" | ")[-2:] == ["+2.50 / +1.00", "18.92 |"]
    assert tables.gains(*results.values()) == [2.5, 1.0]
    results[rows[1].name][1] = None
    lines = tables.score_table(rows, results, None)
    assert lines[3].split(" | ")[3:6] == ["-", "-", "-"]
    curve = tables.curve_table(rows, results, "psnr_train")
    assert curve[2].split(" | ")[1:] == ["15.50 ± 0.50"] * 9 + ["16.50 ± 0.50 |"]
    assert curve[3].split(" | ")[-1] == "18.50 |"
