"""The training loop: the only one."""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ln3d.config.training import TrainingConfig
from ln3d.data.loader import batches
from ln3d.errors import ArtifactError, DivergedError
from ln3d.runtime import tune_allocator
from ln3d.talk import Progress, Talk
from ln3d.training import checkpoint
from ln3d.training.checkpoint import State
from ln3d.training.log import Log
from ln3d.training.parts import own_parts
from ln3d.training.precision import precision_on
from ln3d.training.ranks import ALONE, Ranks
from ln3d.training.step import fresh_state, take_step
from ln3d.training.stopping import Stop, leave, stop_signals
from ln3d.training.task import Task
from ln3d.training.trackers import check_trackers, open_trackers

_MOST_SETBACKS = 3

Seen = TypeVar("Seen")
Draw = Callable[[Path], None]
"""Draws a contact sheet of the networks as they are to a file."""


@dataclass
class Trained:
    """The outcome: published weights (the moving average), the metrics file, steps taken in this process."""

    weights: dict[str, Tensor]
    metrics: Path
    steps: int
    figures: dict[str, float] = field(default_factory=dict)
    """Of the last validation; empty in all processes but the first."""


def keep_sheets(trained: Trained, folder: Path) -> None:
    """Copy the contact sheets drawn on the way, if any, to `folder`/sheets."""
    sheets = trained.metrics.parent / "sheets"
    if sheets.is_dir():
        shutil.copytree(sheets, folder / "sheets")


@dataclass
class _Run:
    """What a training has in hand from its first step to its last."""

    task: Task
    config: TrainingConfig
    folder: Path
    fingerprint: str
    device: torch.device
    talk: Talk
    ranks: Ranks
    parts: list[range]
    state: State
    draw: Draw | None


def train(
    task: Task,
    config: TrainingConfig,
    folder: Path,
    *,
    fingerprint: str,
    device: torch.device,
    talk: Talk,
    title: str,
    ranks: Ranks = ALONE,
    draw: Draw | None = None,
) -> Trained:
    """Train `task` for config.steps steps, from the newest checkpoint in `folder` if there is one.

    Killed and started again it ends with the same bits: every random choice is keyed on the step. A
    non-finite loss goes back to the last checkpoint and draws other batches; the third time without getting to the
    next checkpoint is a DivergedError.
    SIGTERM and Ctrl-C seal a checkpoint and leave. With several `ranks` each works on its part of every batch, the
    outcome is that of one up to rounding, and only the first writes. `draw` makes the contact sheets of
    config.sheet_every, in `folder`/sheets. Discriminators, where the task has some, take a step after each of the
    networks', and are part of checkpoints, not of the outcome. RecipeError for a batch that cannot be divided among
    the ranks, for unknown sub-networks and for trackers that are not installed.
    """
    tune_allocator()
    metrics = folder / "metrics.jsonl"
    with ranks.together():
        parts = own_parts(config, ranks)
        check_trackers(config.trackers)
        state = fresh_state(task, config, device, metrics if ranks.first else None, ranks)
        if ranks.first:
            folder.mkdir(parents=True, exist_ok=True)
            metrics.write_text("")
    run = _Run(task, config, folder, fingerprint, device, talk, ranks, parts, state, draw)
    if _restore(run):
        talk.say(f"{title}: resumed at step {state.step}")
    else:
        _seal(run)
    if precision_on(device, config.precision) != config.precision:
        talk.say(f"{title}: fp32, because bf16 would be imitated here, many times slower")
    first = state.step
    with ExitStack() as open_things:
        progress = open_things.enter_context(talk.progress(title, config.steps, first))
        names = config.trackers if ranks.first else ()
        log = Log(state.metrics, open_things.enter_context(open_trackers(names, title, folder.parent / "logs")))
        stop = open_things.enter_context(stop_signals(insist=ranks.count == 1))
        while state.step < config.steps:
            try:
                _take_steps(run, log, progress, stop)
            except FloatingPointError as error:
                _roll_back(run, str(error))
                progress.done = state.step
    with ranks.together():
        figures = _validated(run) if ranks.first else {}
    return Trained(state.ema.copy_to(state.networks), metrics, state.step - first, figures)


def _take_steps(run: _Run, log: Log, progress: Progress, stop: Stop) -> None:
    """Take steps until the end, a signal, or a non-finite loss (FloatingPointError)."""
    state, config = run.state, run.config
    started, waited = time.monotonic(), 0.0
    steps = range(state.step, config.steps)
    samples = range(run.parts[0].start, run.parts[-1].stop)
    pinned = run.device.type == "cuda"
    source = batches(run.task.batch, steps, state.retries, samples, config.workers, pinned=pinned)
    with closing(source):  # whatever happens, the loader's processes leave
        for _ in steps:
            before = time.monotonic()
            with run.ranks.together():
                batch = {name: value.to(run.device, non_blocking=True) for name, value in next(source).items()}
            waited += time.monotonic() - before
            loss, figures = take_step(run.task, config, state, batch, run.parts, run.ranks)
            if state.step % config.log_every == 0 or state.step == config.steps:
                log.step(state.step, loss, figures, seconds=time.monotonic() - started, waited=waited)
            progress.advance(1, loss=loss)
            _look(run, log)
            stopped = run.ranks.most(stop.signal)
            if state.step % config.checkpoint_every == 0 or state.step == config.steps or stopped:
                state.setbacks = 0  # a checkpoint further on: whatever went wrong is over
                _seal(run)
            if stopped:
                leave(stopped)


def _look(run: _Run, log: Log) -> None:
    """Validate and draw, at the steps at which the recipe wants to see where the training is."""
    step, config = run.state.step, run.config
    validates = step % config.validate_every == 0
    draws = run.draw is not None and config.sheet_every > 0 and step % config.sheet_every == 0
    if not (validates or draws):
        return
    with run.ranks.together():
        if run.ranks.first and validates:
            log.validation(step, _validated(run))
        if run.ranks.first and draws:
            _draw_sheet(run)


def _restore(run: _Run) -> bool:
    state, ranks = run.state, run.ranks
    with ranks.together():
        found = checkpoint.restore(state, run.folder, run.fingerprint)
    newest = ranks.most(state.step)
    with ranks.together():
        if state.step != newest:
            raise ArtifactError(
                f"process {ranks.index} does not find the checkpoint of step {newest} that another one has found",
                "put the workspace where all processes can read it",
            )
    return found


def _seal(run: _Run) -> None:
    with run.ranks.together():
        if run.ranks.first:
            checkpoint.save(run.state, run.folder, run.fingerprint)


def _roll_back(run: _Run, reason: str) -> None:
    state = run.state
    retries, setbacks = state.retries + 1, state.setbacks + 1
    with run.ranks.together():
        if setbacks >= _MOST_SETBACKS:
            raise DivergedError(
                f"{reason}, for the third time",
                f"remove {run.folder} (or choose -w) and train with a lower learning rate or training.precision=fp32",
            )
    _restore(run)
    state.retries, state.setbacks = retries, setbacks
    _seal(run)  # with the new count, should we be killed
    if run.ranks.first:
        run.talk.warn(f"{reason}; back to step {state.step} with other batches")


def _validated(run: _Run) -> dict[str, float]:
    """Return the task's validation figures with the averaged weights in place."""
    return _with_average(run.state, run.task.validate)


def _draw_sheet(run: _Run) -> None:
    """Draw a contact sheet with the averaged weights in place."""
    draw = run.draw
    if draw is None:
        return
    sheet = run.folder / "sheets" / f"step-{run.state.step:07d}.png"
    sheet.parent.mkdir(exist_ok=True)
    _with_average(run.state, lambda: draw(sheet))


def _with_average(state: State, look: Callable[[], Seen]) -> Seen:
    networks = state.networks
    trained = {name: p.detach().clone() for name, p in networks.named_parameters()}
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            parameter.copy_(state.ema.weights[name])
        networks.eval()
        seen = look()
        networks.train()
        for name, parameter in networks.named_parameters():
            parameter.copy_(trained[name])
    return seen
