"""The training loop on a small regression: resuming, signals, roll-backs, metrics."""

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ln3d.artifacts.opening import open_artifact
from ln3d.config.training import TrainingConfig
from ln3d.errors import ArtifactError, DivergedError, RecipeError
from ln3d.models.ema import Ema
from ln3d.seeding import generator
from ln3d.talk import Talk
from ln3d.training.loop import Trained, keep_sheets, train
from ln3d.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from ln3d.training.parts import WHOLE, Part, own_parts
from ln3d.training.ranks import Ranks

CPU = torch.device("cpu")
QUIET = Talk(0)
WALL_CLOCK = ("seconds", "loader_seconds")


def _config(**changes: object) -> TrainingConfig:
    chosen = {"steps": 12, "batch": 4, "learning_rate": 0.05, "warmup": 2, "ema": 0.9, "precision": "fp32"}
    return TrainingConfig(**(chosen | {"checkpoint_every": 4, "log_every": 1, "validate_every": 6} | changes))


@dataclass
class Regression:
    """Fit y = 2 x_1 - x_2. `before_loss` is called with step and retries, and may replace the loss."""

    before_loss: Callable[[int, int], float | None] = lambda step, retries: None
    networks: nn.Module = field(init=False)
    weighted = False

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.networks = nn.Linear(2, 1)

    def batch(self, step: int, retries: int, samples: range) -> dict[str, Tensor]:
        x = torch.stack([torch.randn(2, generator=generator(step, retries, sample)) for sample in samples])
        return {"x": x, "retries": torch.full((len(samples),), retries)}

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        error = self.networks(batch["x"])[:, 0] - batch["x"] @ torch.tensor([2.0, -1.0])
        loss = error.square().mean()
        factor = self.before_loss(step, int(batch["retries"][0]))
        return loss if factor is None else loss * factor, {"worst": error.abs().max().detach()}

    def validate(self) -> dict[str, float]:
        return {"weight": float(self.networks.weight[0, 0]), "learning": float(self.networks.training)}


def _train(
    folder: Path,
    task: Regression | None = None,
    mark: str = "mark",
    talk: Talk = QUIET,
    title: str = "test",
    **changes: object,
) -> Trained:
    config = _config(**changes)
    return train(task or Regression(), config, folder, fingerprint=mark, device=CPU, talk=talk, title=title)


def _lines(trained: Trained | Path) -> list[dict[str, float]]:
    path = trained if isinstance(trained, Path) else trained.metrics
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in WALL_CLOCK} for line in lines]


def _same(one: Trained, other: Trained) -> bool:
    weights = all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    return weights and _lines(one) == _lines(other) and one.figures == other.figures


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return _train(tmp_path_factory.mktemp("straight"))


def test_it_takes_the_steps_that_a_plain_loop_would(straight: Trained) -> None:
    task, config = Regression(), _config()
    optimiser, average = build_optimiser(task.networks, config), Ema(task.networks, config.ema)
    for step in range(12):
        set_learning_rate(optimiser, learning_rate(step, config))
        loss, _ = task.loss(task.batch(step, 0, range(4)), step)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.networks.parameters(), config.gradient_clip)
        optimiser.step()
        average.update(task.networks, step)
    assert all(torch.equal(straight.weights[name], average.weights[name]) for name in average.weights)
    assert not torch.equal(straight.weights["weight"], task.networks.state_dict()["weight"])


def test_metrics_hold_losses_figures_and_validations_of_the_average(straight: Trained) -> None:
    lines = _lines(straight)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert all(line.keys() == {"step", "loss", "worst", "gradient"} for line in steps)
    assert all(math.isfinite(value) for line in lines for value in line.values())
    checks = [line for line in lines if "loss" not in line]
    assert [line["step"] for line in checks] == [6, 12]
    assert checks[1]["validation/weight"] == pytest.approx(straight.weights["weight"][0, 0].item(), rel=1e-5)
    assert straight.figures == {"weight": straight.weights["weight"][0, 0].item(), "learning": 0.0}
    assert straight.steps == 12


def test_passes_of_a_step_add_up_to_the_step(tmp_path: Path, straight: Trained) -> None:
    sizes = set()

    class Watched(Regression):
        def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            sizes.add((len(batch["x"]), part.first, part.parts))
            return super().loss(batch, step)

    trained = _train(tmp_path, Watched(), accumulate=2)
    assert sizes == {(2, 0, 2), (2, 2, 2)}
    for name, weight in straight.weights.items():
        torch.testing.assert_close(trained.weights[name], weight)
    for mine, theirs in zip(_lines(trained), _lines(straight), strict=True):
        for name in mine.keys() & {"loss", "gradient", "validation/weight"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4)


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(RecipeError, match="a batch of 4 cannot be divided evenly among 3 processes") as error:
        own_parts(_config(), Ranks(0, 3))
    assert error.value.hint == "make it a multiple of 3"
    with pytest.raises(ValidationError, match="a batch of 4 cannot be divided evenly among 3 passes"):
        _config(accumulate=3)


def test_sheets_are_drawn_of_the_average_and_kept(tmp_path: Path, straight: Trained) -> None:
    task, drawn = Regression(), {}

    def draw(path: Path) -> None:
        assert not task.networks.training
        drawn[path.name] = task.networks.weight[0, 0].item()
        path.write_text("a sheet")

    config, folder = _config(sheet_every=5), tmp_path / "run"
    trained = train(task, config, folder, fingerprint="mark", device=CPU, talk=Talk(0), title="test", draw=draw)
    assert drawn.keys() == {"step-0000005.png", "step-0000010.png"}
    assert _same(trained, straight)
    keep_sheets(trained, tmp_path)
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == sorted(drawn)


class _Killed(BaseException):
    """Nothing that anybody catches."""


@pytest.mark.parametrize("moment", [0, 3, 4, 11])
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_dead_and_resumed_it_ends_the_same(
    tmp_path: Path, straight: Trained, moment: int, workers: int
) -> None:
    def die(step: int, retries: int) -> None:
        if step == moment:
            raise _Killed

    with pytest.raises(_Killed):
        _train(tmp_path, Regression(die), workers=workers)
    resumed = _train(tmp_path, workers=2 - workers)
    assert resumed.steps == 12 - moment // 4 * 4
    assert _same(resumed, straight)


def test_when_all_is_done_it_only_reads_the_last_checkpoint(tmp_path: Path, straight: Trained) -> None:
    _train(tmp_path)
    again = _train(tmp_path)
    assert again.steps == 0
    assert _same(again, straight)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    _train(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-0000008", "step-0000012"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_seals_a_checkpoint_and_leaves(
    tmp_path: Path, straight: Trained, number: signal.Signals, workers: int
) -> None:
    def interrupt(step: int, retries: int) -> None:
        if step == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt) as left:
        _train(tmp_path, Regression(interrupt), workers=workers)
    if number == signal.SIGTERM:
        assert left.value.code == 143
    assert signal.getsignal(number) is before
    assert (tmp_path / "step-0000006/manifest.json").is_file()
    resumed = _train(tmp_path)
    assert resumed.steps == 6
    assert _same(resumed, straight)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_goes_back_and_draws_other_batches(
    tmp_path: Path, straight: Trained, poison: float, capsys: pytest.CaptureFixture[str]
) -> None:
    def bad_at_six(step: int, retries: int) -> float | None:
        return poison if step == 6 and retries == 0 else None

    trained = _train(tmp_path, Regression(bad_at_six))
    assert "not finite at step 6; back to step 4 with other batches" in capsys.readouterr().err
    assert all(bool(value.isfinite().all()) for value in trained.weights.values())
    mine, theirs = _lines(trained), _lines(straight)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    assert mine[:4] == theirs[:4]
    assert mine[4] != theirs[4]


def test_a_gradient_that_is_not_finite_counts_too(tmp_path: Path) -> None:
    class Steep(Regression):
        def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            loss, figures = super().loss(batch, step)
            if step == 1 and int(batch["retries"][0]) == 0:
                loss = loss + torch.sqrt(self.networks.weight.sum() * 0)  # the slope of a root at 0
            return loss, figures

    assert all(bool(value.isfinite().all()) for value in _train(tmp_path, Steep()).weights.values())


def test_the_third_time_it_gives_up_and_stays_so(tmp_path: Path) -> None:
    tries: list[tuple[int, int]] = []

    def always_bad(step: int, retries: int) -> float | None:
        tries.append((step, retries))
        return float("nan") if step == 2 else None

    with pytest.raises(DivergedError, match="not finite at step 2, for the third time") as error:
        _train(tmp_path, Regression(always_bad))
    assert "learning rate" in error.value.hint
    assert [step for step, _ in tries] == [0, 1, 2] * 3
    assert [retries for _, retries in tries] == [0] * 3 + [1] * 3 + [2] * 3
    tries.clear()
    with pytest.raises(DivergedError):
        _train(tmp_path, Regression(always_bad))
    assert {retries for _, retries in tries} == {2}


def test_losses_that_are_not_finite_now_and_then_end_nothing(tmp_path: Path) -> None:
    """Three times, each got over: what is counted begins anew with every checkpoint further on."""
    poisoned = {1: 0, 5: 1, 9: 2}

    def now_and_then(step: int, retries: int) -> float | None:
        return float("nan") if poisoned.get(step) == retries else None

    trained = _train(tmp_path, Regression(now_and_then))
    assert all(bool(value.isfinite().all()) for value in trained.weights.values())
    assert [line["step"] for line in _lines(trained) if "loss" in line] == list(range(1, 13))
    (last,) = tmp_path.glob("step-0000012*")
    details = open_artifact(last, "checkpoint").manifest.details
    assert (details["retries"], details["setbacks"]) == (3, 0)


def test_killed_after_a_roll_back_it_remembers_it(tmp_path: Path) -> None:
    def bad(step: int, retries: int) -> float | None:
        return float("nan") if step == 6 and retries == 0 else None

    def bad_then_dead(step: int, retries: int) -> float | None:
        if step == 5 and retries == 1:
            raise _Killed
        return bad(step, retries)

    whole = _train(tmp_path / "whole", Regression(bad))
    with pytest.raises(_Killed):
        _train(tmp_path / "killed", Regression(bad_then_dead))
    assert _same(_train(tmp_path / "killed", Regression(bad)), whole)


def test_a_training_of_another_recipe_is_refused(tmp_path: Path) -> None:
    _train(tmp_path)
    with pytest.raises(ArtifactError, match="begun with another recipe"):
        _train(tmp_path, mark="another")


def test_precision_is_chosen_anew_for_every_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: dict[str, torch.dtype] = {}
    weights: dict[str, Tensor] = {}
    monkeypatch.setattr("ln3d.training.precision.has_bfloat16", lambda device: True)

    class Watched(Regression):
        def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            kinds[name] = self.networks(batch["x"]).dtype
            return super().loss(batch, step)

    for name in ("bf16", "fp32"):
        weights[name] = _train(tmp_path / name, Watched(), precision=name, steps=3).weights["weight"]
    assert kinds == {"bf16": torch.bfloat16, "fp32": torch.float32}
    assert not torch.equal(weights["bf16"], weights["fp32"])


def test_a_device_without_bf16_trains_in_fp32_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ln3d.training.precision.has_bfloat16", lambda device: False)
    asked, plain = (_train(tmp_path / name, talk=Talk(1), title=name, precision=name) for name in ("bf16", "fp32"))
    assert _same(asked, plain)
    said = capsys.readouterr().err
    assert "bf16: fp32, because" in said
    assert "fp32: fp32" not in said
