"""Weight files are opened only as what they are known to be."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ln3d.backbones.weights import INCEPTION, LPIPS, WeightFile, file_sha256, tensors_sha256
from ln3d.errors import WeightsError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_bytes_are_compared_with_their_hash(cache: Path) -> None:
    file = WeightFile("a.pt", hashlib.sha256(b"right").hexdigest(), "thing")
    with pytest.raises(WeightsError, match="a.pt are not here") as problem:
        file.read_bytes()
    assert problem.value.hint == "run: ln3d fetch thing"
    (cache / "a.pt").write_bytes(b"right")
    assert file.read_bytes() == b"right"
    (cache / "a.pt").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="not the expected file") as problem:
        file.read_bytes()
    assert "ln3d fetch thing" in problem.value.hint


def test_tensors_are_compared_whatever_their_file_looks_like(cache: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float32)}
    file = WeightFile("a.safetensors", tensors_sha256(tensors), "thing")
    (cache / "a.safetensors").write_bytes(save(dict(reversed(tensors.items())), metadata={"by": "another writer"}))
    found = file.read_tensors()
    assert all(np.array_equal(found[name], tensors[name]) for name in tensors)
    (cache / "a.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(WeightsError, match="damaged"):
        file.read_tensors()


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([[1.0, 2.0]], np.float32)},
        {"a": np.array([1.0, 3.0], np.float32)},
        {"a": np.array([1.0, 2.0], np.float64)},
        {"b": np.array([1.0, 2.0], np.float32)},
        {},
    ],
)
def test_the_hash_of_tensors_tells_all_differences(other: dict[str, np.ndarray]) -> None:
    assert tensors_sha256(other) != tensors_sha256({"a": np.array([1.0, 2.0], np.float32)})


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own").write_bytes(b"x")
    assert file_sha256(tmp_path / "own", "") == hashlib.sha256(b"x").hexdigest()
    with pytest.raises(WeightsError, match="not here"):
        file_sha256(tmp_path / "gone", "")
    with pytest.raises(WeightsError, match="not here"):
        file_sha256(tmp_path, "")


def test_what_is_known() -> None:
    known = [INCEPTION, *LPIPS.values()]
    assert [file.fetch for file in known] == ["inception", "lpips", "lpips"]
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in known)
    assert len({file.name for file in known}) == len(known)
