"""Discriminators in the loop: two sides in one backward pass are two players in turns, through kills and roll-backs."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ln3d.artifacts.tensors import load_tensors
from ln3d.config.training import TrainingConfig
from ln3d.seeding import generator
from ln3d.talk import Talk
from ln3d.training.loop import Trained, train
from ln3d.training.optimiser import build_optimiser, learning_rate, set_learning_rate
from ln3d.training.parts import WHOLE, Part
from ln3d.training.sides import opponents_of

CPU = torch.device("cpu")
FILES = ("weights", "ema", "optimiser", "discriminators", "discriminator_optimiser")


def _config(**changes: object) -> TrainingConfig:
    chosen = {"steps": 12, "batch": 4, "learning_rate": 0.05, "warmup": 2, "ema": 0.9, "precision": "fp32"}
    return TrainingConfig(**(chosen | {"checkpoint_every": 4, "log_every": 1, "validate_every": 6} | changes))


JUDGES = _config(learning_rate=0.02, warmup=0, betas=(0.0, 0.9), final_learning_rate=1)


def _fooling(fake: Tensor) -> Tensor:
    return F.softplus(-fake).mean()


def _lesson(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


@dataclass
class Duel:
    """Learn to draw from the normal distribution around 3. `at` is called with the step, and may spoil the lesson."""

    at: Callable[[int], float] = lambda step: 1.0
    start: int = 0
    networks: nn.Module = field(init=False)
    discriminators: nn.Module | None = field(init=False)
    discriminator_training: TrainingConfig = JUDGES
    weighted = False

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.networks, self.discriminators = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

    def batch(self, step: int, retries: int, samples: range) -> dict[str, Tensor]:
        drawn = torch.stack([torch.randn(2, generator=generator(step, sample)) for sample in samples])
        return {"noise": drawn[:, :1], "real": 3 + drawn[:, 1:]}

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        fake, judge = self.networks(batch["noise"]), self.discriminators
        total = 0.1 * fake.square().mean()
        if step < self.start:
            return total, {}
        judge.requires_grad_(False)
        total = total + _fooling(judge(fake))
        judge.requires_grad_(True)
        lesson = self.at(step) * _lesson(judge(batch["real"]), judge(fake.detach()))
        return total + (lesson - lesson.detach()), {"lesson": lesson.detach()}

    def validate(self) -> dict[str, float]:
        return {"mean": float(self.networks.bias[0])}


def _train(folder: Path, task: Duel | None = None, **changes: object) -> Trained:
    config = _config(**changes)
    return train(task or Duel(), config, folder, fingerprint="", device=CPU, talk=Talk(0), title="test")


def _tensors(trained: Trained, step: int = 12) -> dict[str, Tensor]:
    (last,) = trained.metrics.parent.glob(f"step-{step:07d}*")
    files = {name: load_tensors(last / f"{name}.safetensors") for name in FILES}
    return {f"{file}/{name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}


def _lines(trained: Trained) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in trained.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "loader_seconds")} for line in lines]


def _assert_same(one: Trained, other: Trained) -> None:
    mine, theirs = _tensors(one), _tensors(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert _lines(one) == _lines(other)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return _train(tmp_path_factory.mktemp("straight"))


def test_the_discriminators_step_follows_the_networks(straight: Trained) -> None:
    """Two backward passes and two steps in turns, written out, come to the same bits."""
    duel, config = Duel(), _config()
    judge = duel.discriminators
    mover, learner = build_optimiser(duel.networks, config), build_optimiser(judge, JUDGES)
    for step in range(12):
        batch = duel.batch(step, 0, range(4))
        fake = duel.networks(batch["noise"])
        set_learning_rate(mover, learning_rate(step, config))
        mover.zero_grad()
        (0.1 * fake.square().mean() + _fooling(judge(fake))).backward()
        nn.utils.clip_grad_norm_(duel.networks.parameters(), config.gradient_clip)
        mover.step()
        learner.zero_grad()  # of what fooling has left there
        _lesson(judge(batch["real"]), judge(fake.detach())).backward()
        nn.utils.clip_grad_norm_(judge.parameters(), JUDGES.gradient_clip)
        learner.step()
    end = _tensors(straight)
    for place, module in {"weights": duel.networks, "discriminators": judge}.items():
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(end[f"{place}/{name}"], tensor)
    assert learner.param_groups[0]["lr"] == 0.02


def test_they_are_watched_and_not_published(straight: Trained) -> None:
    steps = [line for line in _lines(straight) if "loss" in line]
    assert all(line.keys() == {"step", "loss", "lesson", "gradient", "discriminator_gradient"} for line in steps)
    assert all(line["discriminator_gradient"] > 0 for line in steps)
    assert straight.weights.keys() == {"weight", "bias"}
    duel = Duel()
    loss, figures = duel.loss(duel.batch(0, 0, range(4)), 0)
    assert steps[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)  # the value is that of the networks' side alone
    assert steps[0]["loss"] < figures["lesson"].item()


def test_without_them_there_is_one_side(tmp_path: Path) -> None:
    duel = Duel(start=99)
    duel.discriminators = None
    assert opponents_of(duel, CPU) is None and opponents_of(nn.Identity(), CPU) is None
    trained = _train(tmp_path, duel)
    assert not list(tmp_path.glob("*/discriminator*"))
    # Discriminators that have not begun change nothing, and have not moved.
    waiting = _train(tmp_path / "waiting", Duel(start=99))
    assert all(torch.equal(trained.weights[name], waiting.weights[name]) for name in trained.weights)
    fresh, end = Duel().discriminators.state_dict(), _tensors(waiting)
    assert all(torch.equal(end[f"discriminators/{name}"], fresh[name]) for name in fresh)
    assert not [name for name in end if name.startswith("discriminator_optimiser")]


class _Killed(BaseException):
    """Nothing that anybody catches."""


@pytest.mark.parametrize("moment", [0, 3, 4, 11])
def test_killed_and_resumed_both_sides_end_with_the_same_bits(tmp_path: Path, straight: Trained, moment: int) -> None:
    def die(step: int) -> float:
        if step == moment:
            raise _Killed
        return 1.0

    with pytest.raises(_Killed):
        _train(tmp_path, Duel(die))
    _assert_same(_train(tmp_path), straight)


def test_a_signal_seals_both_sides(tmp_path: Path, straight: Trained) -> None:
    def interrupt(step: int) -> float:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    with pytest.raises(SystemExit):
        _train(tmp_path, Duel(interrupt))
    assert (tmp_path / "step-0000006/discriminators.safetensors").is_file()
    _assert_same(_train(tmp_path), straight)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_lesson_that_is_not_finite_takes_both_sides_back(tmp_path: Path, straight: Trained, poison: float) -> None:
    """Since these batches are the same after a roll-back, the end must be, too."""
    poisons = iter([poison])
    trained = _train(tmp_path, Duel(lambda step: next(poisons, 1.0) if step == 6 else 1.0))
    _assert_same(trained, straight)
    assert [path.name for path in tmp_path.glob("step-*12*")] == ["step-0000012.1"]


def test_passes_of_a_step_add_up_on_both_sides(tmp_path: Path, straight: Trained) -> None:
    mine, theirs = _tensors(_train(tmp_path, accumulate=2)), _tensors(straight)
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, atol=1e-5, rtol=1e-4)


def test_a_duel_teaches_what_the_real_ones_are_like(tmp_path: Path) -> None:
    trained = _train(tmp_path, steps=300, checkpoint_every=300, validate_every=300, learning_rate=0.02, batch=16)
    assert 1.5 < trained.weights["bias"].item() < 3.5
