"""The training loop: the only one."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ln3d.config.training import TrainingConfig
from ln3d.data.loader import batches
from ln3d.errors import DivergedError, RecipeError
from ln3d.models.ema import Ema
from ln3d.runtime import tune_allocator
from ln3d.talk import Progress, Talk
from ln3d.training import checkpoint
from ln3d.training.checkpoint import State
from ln3d.training.optimiser import build_optimiser, learning_rate, set_learning_rate

_MOST_RETRIES = 3


class Task(Protocol):
    """What is trained: networks, where their batches come from, and the loss of one."""

    @property
    def networks(self) -> nn.Module:
        """What is trained."""

    def batch(self, step: int, retries: int, samples: range) -> dict[str, Tensor]:
        """Return the part `samples` of the batch of `step`: a pure function of its arguments and the seed."""

    def loss(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and the figures worth logging."""

    def validate(self) -> dict[str, float]:
        """Return figures of the networks on data that is not trained on."""


@dataclass
class Trained:
    """The outcome: published weights (the moving average), the metrics file, steps taken in this process."""

    weights: dict[str, Tensor]
    metrics: Path
    steps: int
    figures: dict[str, float] = field(default_factory=dict)


class _Step(nn.Module):
    """A forward pass is a loss, so that autocast and data parallelism wrap the whole of it."""

    def __init__(self, task: Task, device: str, bf16: bool) -> None:
        super().__init__()
        self.networks, self.task, self.device, self.bf16 = task.networks, task, device, bf16

    def forward(self, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return self.task.loss(batch, step)


def train(
    task: Task, config: TrainingConfig, folder: Path, *, fingerprint: str, device: torch.device, talk: Talk, title: str
) -> Trained:
    """Train `task` for config.steps steps, from the newest checkpoint in `folder` if there is one.

    Killed and started again it ends with the same bits: every random choice is keyed on the step. A
    non-finite loss goes back to the last checkpoint and draws other batches; the third time is a DivergedError.
    SIGTERM and Ctrl-C seal a checkpoint and leave. RecipeError when started as one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("training in several processes is not built yet", "start one process, without torchrun")
    tune_allocator()
    folder.mkdir(parents=True, exist_ok=True)
    networks = task.networks.to(device).train()
    state = State(
        networks, Ema(networks, config.ema), build_optimiser(networks, config), metrics=folder / "metrics.jsonl"
    )
    state.metrics.write_text("")
    if checkpoint.restore(state, folder, fingerprint):
        talk.say(f"{title}: resumed at step {state.step}")
    else:
        checkpoint.save(state, folder, fingerprint)
    first = state.step
    # Accelerate keeps one precision per process, and a process may train more than once: autocast is ours.
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    step = accelerator.prepare_model(_Step(task, device.type, config.precision == "bf16"))
    with talk.progress(title, config.steps, first) as progress, _stop_signals() as stop:
        while state.step < config.steps:
            try:
                _run(task, step, state, config, folder, fingerprint, accelerator, progress, stop)
            except FloatingPointError as error:
                _roll_back(state, folder, fingerprint, talk, str(error))
                progress.done = state.step
    figures = _validated(task, state)
    return Trained(state.ema.copy_to(networks), state.metrics, state.step - first, figures)


def _run(
    task: Task,
    step: nn.Module,
    state: State,
    config: TrainingConfig,
    folder: Path,
    fingerprint: str,
    accelerator: Accelerator,
    progress: Progress,
    stop: "_Stop",
) -> None:
    """Take steps until the end, a signal, or a non-finite loss (FloatingPointError)."""
    started, waited = time.monotonic(), 0.0
    steps = range(state.step, config.steps)
    source = batches(task.batch, steps, state.retries, range(config.batch), config.workers)
    with closing(source):  # whatever happens, the loader's processes leave
        for _ in steps:
            before = time.monotonic()
            batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in next(source).items()}
            waited += time.monotonic() - before
            loss, figures = _optimise(step, batch, state, config, accelerator)
            state.step += 1
            if state.step % config.log_every == 0 or state.step == config.steps:
                _log(state, loss, figures, seconds=time.monotonic() - started, waited=waited)
            progress.advance(1, loss=loss)
            if state.step % config.validate_every == 0:
                _log_validation(state, _validated(task, state))
            if state.step % config.checkpoint_every == 0 or state.step == config.steps or stop.signal:
                checkpoint.save(state, folder, fingerprint)
            if stop.signal:
                raise KeyboardInterrupt if stop.signal == signal.SIGINT else SystemExit(128 + stop.signal)


def _optimise(
    step: nn.Module, batch: dict[str, Tensor], state: State, config: TrainingConfig, accelerator: Accelerator
) -> tuple[float, dict[str, Tensor]]:
    set_learning_rate(state.optimiser, learning_rate(state.step, config))
    loss, figures = step(batch, state.step)
    state.optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(state.networks.parameters(), config.gradient_clip)
    value = float(loss.detach())
    if not math.isfinite(value) or not math.isfinite(float(norm)):
        raise FloatingPointError(f"the loss or its gradient was not finite at step {state.step}")
    state.optimiser.step()
    state.ema.update(state.networks, state.step)
    return value, figures | {"gradient": norm}


def _roll_back(state: State, folder: Path, fingerprint: str, talk: Talk, reason: str) -> None:
    retries = state.retries + 1
    if retries >= _MOST_RETRIES:
        raise DivergedError(f"{reason}, for the third time", "lower the learning rate or set training.precision=fp32")
    checkpoint.restore(state, folder, fingerprint)
    state.retries = retries
    checkpoint.save(state, folder, fingerprint)  # with the new count, should we be killed
    talk.warn(f"{reason}; back to step {state.step} with other batches")


def _validated(task: Task, state: State) -> dict[str, float]:
    """Return the task's validation figures with the averaged weights in place."""
    networks = state.networks
    trained = {name: p.detach().clone() for name, p in networks.named_parameters()}
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            parameter.copy_(state.ema.weights[name])
        networks.eval()
        figures = task.validate()
        networks.train()
        for name, parameter in networks.named_parameters():
            parameter.copy_(trained[name])
    return figures


def _log(state: State, loss: float, figures: dict[str, Tensor], *, seconds: float, waited: float) -> None:
    values = {name: float(value) for name, value in figures.items()}
    _append(state, {"step": state.step, "loss": loss} | values | {"seconds": seconds, "loader_seconds": waited})


def _log_validation(state: State, figures: dict[str, float]) -> None:
    _append(state, {"step": state.step} | {f"validation/{name}": value for name, value in figures.items()})


def _append(state: State, line: dict[str, float]) -> None:
    with open(state.metrics, "a", encoding="utf-8") as file:
        file.write(json.dumps({k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in line.items()}) + "\n")


@dataclass
class _Stop:
    signal: int = 0


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """Note SIGTERM and Ctrl-C instead of dying; a second one acts at once."""
    stop = _Stop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, previous[signal.Signals(number)] or signal.SIG_DFL)

    try:
        for number in previous:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
