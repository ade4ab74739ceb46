"""Trackers hear what metrics.jsonl says, and are refused where they are not installed."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.tracking import GeneralTracker

from ln3d.errors import RecipeError
from ln3d.training import trackers
from ln3d.training.log import Log
from ln3d.training.trackers import check_trackers, open_trackers


class _Notebook(GeneralTracker):
    """A tracker that remembers."""

    name = "wandb"
    requires_logging_directory = False
    main_process_only = False
    heard: list[tuple[str, object]] = []

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.heard.append(("opened", run_name))

    @property
    def tracker(self) -> object:
        return self.heard

    def start(self) -> None:
        pass

    def log(self, values: dict[str, float], step: int | None = None, **_: object) -> None:
        self.heard.append(("told", (step, values)))

    def finish(self) -> None:
        self.heard.append(("closed", None))


def test_a_tracker_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["tensorboard"])
    check_trackers(["tensorboard"])
    with pytest.raises(RecipeError, match="training.trackers: wandb not installed") as error:
        check_trackers(["wandb", "tensorboard"])
    assert "pip install wandb" in error.value.hint


def test_a_tracker_is_told_every_line_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import accelerator

    monkeypatch.setattr(trackers, "get_available_trackers", lambda: ["wandb"])
    monkeypatch.setitem(accelerator.LOGGER_TYPE_TO_CLASS, "wandb", _Notebook)
    monkeypatch.setattr(accelerator, "filter_trackers", lambda names, folder: names)
    _Notebook.heard.clear()
    with pytest.raises(KeyboardInterrupt), open_trackers(["wandb"], "train-vae", tmp_path) as opened:
        log = Log(tmp_path / "metrics.jsonl", opened)
        log.step(1, 0.5, {"colour": torch.tensor(0.25)}, seconds=1.0, waited=0.0)
        log.validation(1, {"psnr": 12.0})
        raise KeyboardInterrupt
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [{"step": step, **values} for what, (step, values) in _Notebook.heard[1:-1] if what == "told"]
    assert told == lines
    assert lines[0] == {"step": 1, "loss": 0.5, "colour": 0.25, "seconds": 1.0, "loader_seconds": 0.0}
    assert lines[1] == {"step": 1, "validation/psnr": 12.0}
    assert [_Notebook.heard[0], _Notebook.heard[-1]] == [("opened", "train-vae"), ("closed", None)]


def test_tensorboard_itself_shows_what_was_told(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_trackers(["tensorboard"], "train-vae", tmp_path / "logs") as opened:
        log = Log(tmp_path / "metrics.jsonl", opened)
        for step in (1, 2):
            log.step(step, 0.5 / step, {"colour": torch.tensor(0.25)}, seconds=1.0, waited=0.0)
        log.validation(2, {"psnr": 12.0})
    read = EventAccumulator(str(tmp_path / "logs" / "train-vae")).Reload()
    shown = {name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]}
    assert shown["loss"] == [(1, 0.5), (2, 0.25)]
    assert shown["colour"] == [(1, 0.25), (2, 0.25)]
    assert shown["validation/psnr"] == [(2, 12.0)]


def test_without_trackers_nothing_is_opened(tmp_path: Path) -> None:
    with open_trackers([], "train-vae", tmp_path / "logs") as opened:
        assert opened == []
    assert not (tmp_path / "logs").exists()
