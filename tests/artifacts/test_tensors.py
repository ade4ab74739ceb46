from pathlib import Path

import pytest
import torch
from torch import nn

from ln3d.artifacts.tensors import load_into, load_metadata, load_tensors, save_tensors
from ln3d.errors import ArtifactError

TENSORS = {
    "f32": torch.arange(6.0).reshape(2, 3),
    "f16": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bf16": torch.tensor(3.0, dtype=torch.bfloat16),
    "i64": torch.tensor([2**40]),
    "empty": torch.empty(0, 4),
}


def test_round_trip_is_exact(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", TENSORS, {"b": "2", "a": "1"})
    loaded = load_tensors(tmp_path / "t")
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
    assert load_metadata(tmp_path / "t") == {"a": "1", "b": "2"}


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    metadata = {str(i): str(i) for i in range(20)}
    save_tensors(tmp_path / "a", TENSORS, metadata)
    save_tensors(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_views_and_shared_memory_are_written_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    save_tensors(tmp_path / "t", {"base": base, "again": base, "column": base[:, 1], "turned": base.T})
    loaded = load_tensors(tmp_path / "t")
    assert torch.equal(loaded["turned"], base.T) and torch.equal(loaded["column"], base[:, 1])


def test_every_cut_of_a_file_is_noticed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", TENSORS)
    whole = (tmp_path / "t").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "t").write_bytes(whole[:size])
        with pytest.raises(ArtifactError):
            load_tensors(tmp_path / "t")
    with pytest.raises(ArtifactError, match="does not exist"):
        load_tensors(tmp_path / "nothing")
    with pytest.raises(ArtifactError):
        load_metadata(tmp_path / "t")


def test_half_precision_weights_load_into_a_full_precision_network() -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    load_into(target, {name: value.half() for name, value in source.state_dict().items()}, "vae")
    assert target.weight.dtype == torch.float32
    assert torch.equal(target.weight, source.weight.half().float())


def test_whatever_does_not_fit_is_listed_and_nothing_is_changed() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tensors = {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(2), "9.weight": torch.zeros(1)}
    with pytest.raises(ArtifactError) as caught:
        load_into(module, tensors, "vae weights")
    message = caught.value.message
    assert "2 missing: 1.weight, 1.bias" in message
    assert "1 unexpected: 9.weight" in message
    assert "1 misshaped: 0.weight 3x2 instead of 2x3" in message
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
