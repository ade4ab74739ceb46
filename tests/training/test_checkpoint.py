"""Sealed checkpoints: everything comes back, two are kept, and none that is damaged or another's is used."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ln3d.config.training import TrainingConfig
from ln3d.errors import ArtifactError
from ln3d.models.ema import Ema
from ln3d.training.checkpoint import State, restore, save
from ln3d.training.optimiser import build_optimiser, optimiser_tensors


def _state(folder: Path, seed: int = 0) -> State:
    torch.manual_seed(seed)
    networks = nn.Linear(3, 2)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / "metrics.jsonl"
    metrics.write_text("")
    return State(networks, Ema(networks, 0.5), build_optimiser(networks, TrainingConfig()), metrics)


def _step(state: State) -> None:
    state.optimiser.zero_grad()
    state.networks(torch.ones(1, 3)).square().sum().backward()
    state.optimiser.step()
    state.ema.update(state.networks, state.step)
    state.step += 1
    with open(state.metrics, "a") as file:
        file.write(f'{{"step": {state.step}}}\n')


def _tensors(state: State) -> dict[str, torch.Tensor]:
    named = {"weights": state.networks.state_dict(), "average": state.ema.weights}
    named["optimiser"] = optimiser_tensors(state.optimiser, state.networks)
    return {f"{part}/{name}": tensor for part, tensors in named.items() for name, tensor in tensors.items()}


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "metrics.jsonl")


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    state = _state(tmp_path)
    _step(state)
    state.retries = 1
    save(state, tmp_path, "mark")
    other = _state(tmp_path, seed=5)
    assert restore(other, tmp_path, "mark")
    assert (other.step, other.retries) == (1, 1)
    assert other.metrics.read_text() == '{"step": 1}\n'
    for _ in range(2):
        _step(state)
        _step(other)
    mine, yours = _tensors(state), _tensors(other)
    assert mine.keys() == yours.keys()
    assert all(torch.equal(mine[name], yours[name]) for name in mine)


def test_without_a_checkpoint_nothing_happens(tmp_path: Path) -> None:
    state = _state(tmp_path)
    before = {name: tensor.clone() for name, tensor in _tensors(state).items()}
    assert not restore(state, tmp_path, "mark")
    assert all(torch.equal(before[name], tensor) for name, tensor in _tensors(state).items())


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path: Path) -> None:
    state = _state(tmp_path)
    for _ in range(4):
        _step(state)
        save(state, tmp_path, "mark")
    assert _names(tmp_path) == ["step-0000003", "step-0000004"]
    other = _state(tmp_path)
    restore(other, tmp_path, "mark")
    assert other.step == 4


def test_a_roll_back_is_sealed_beside_what_it_went_back_to(tmp_path: Path) -> None:
    state = _state(tmp_path)
    save(state, tmp_path, "mark")
    state.retries = 1
    save(state, tmp_path, "mark")
    assert _names(tmp_path) == ["step-0000000", "step-0000000.1"]
    other = _state(tmp_path)
    restore(other, tmp_path, "mark")
    assert other.retries == 1


def test_what_was_sealed_is_not_written_again_and_half_a_checkpoint_does_not_count(tmp_path: Path) -> None:
    state = _state(tmp_path)
    _step(state)
    save(state, tmp_path, "mark")
    sealed = (tmp_path / "step-0000001/manifest.json").stat().st_mtime_ns
    save(state, tmp_path, "mark")
    assert (tmp_path / "step-0000001/manifest.json").stat().st_mtime_ns == sealed
    (tmp_path / ".step-0000002.scratch-xyz").mkdir()  # a save that was killed
    (tmp_path / ".step-0000002.scratch-xyz/weights.safetensors").write_bytes(b"half")
    other = _state(tmp_path)
    assert restore(other, tmp_path, "mark")
    assert other.step == 1
    _step(other)
    save(other, tmp_path, "mark")
    assert _names(tmp_path) == ["step-0000001", "step-0000002"]


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    save(_state(tmp_path), tmp_path, "mark")
    with pytest.raises(ArtifactError, match="begun with another recipe or other inputs") as error:
        restore(_state(tmp_path), tmp_path, "another mark")
    assert "-w" in error.value.hint


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimiser.safetensors", "metrics.jsonl"])
def test_one_flipped_byte_is_found(tmp_path: Path, name: str) -> None:
    state = _state(tmp_path)
    _step(state)
    save(state, tmp_path, "mark")
    file = tmp_path / "step-0000001" / name
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        restore(_state(tmp_path), tmp_path, "mark")
