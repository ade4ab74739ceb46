"""What evaluations keep: found again whole, made again when damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.stages.evaluation_store import Store, features_of, picture_hash


def pictures(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def only_file(root: Path) -> Path:
    (file,) = (path for path in root.rglob("*") if path.is_file())
    return file


def test_what_is_kept_comes_back_and_is_made_once(tmp_path: Path) -> None:
    store, made = Store(tmp_path), []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"x": torch.arange(6.0).view(2, 3)}

    for _ in range(2):
        assert torch.equal(store.tensors("k", ["a", 1], make)["x"], torch.arange(6.0).view(2, 3))
    assert len(made) == 1
    assert store.kept_tensors("k", ["a", 2]) is None
    assert load_tensors(only_file(tmp_path))["x"].shape == (2, 3)


def test_views_come_back_pixel_for_pixel(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.kept_pictures("key") is None
    with pytest.raises(KeyError):
        store.pictures("key")
    assert np.array_equal(store.pictures("key", pictures), pictures())
    kept = Store(tmp_path).kept_pictures("key")
    assert kept is not None and kept.dtype == np.uint8 and np.array_equal(kept, pictures())


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_file_counts_as_missing(tmp_path: Path, damage: str) -> None:
    def hurt(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        changed = {"cut": data[:-9], "flip": data, "empty": b"", "text": b"no such thing at all"}
        path.write_bytes(changed[damage])

    store = Store(tmp_path / "t")
    store.keep_tensors("k", 1, {"x": torch.rand(64)})
    hurt(only_file(store.root))
    assert store.kept_tensors("k", 1) is None
    store = Store(tmp_path / "p")
    store.keep_pictures(1, pictures())
    hurt(only_file(store.root))
    assert store.kept_pictures(1) is None


def test_equal_pictures_have_equal_features_wherever_they_come_from(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def compute(views: np.ndarray) -> np.ndarray:
        calls.append(1)
        return views.reshape(3, -1)[:, :4].astype(np.float64)

    first = features_of(pictures(), "net", "f" * 64, store, compute)
    assert np.array_equal(features_of(pictures().copy(), "net", "f" * 64, store, compute), first)
    assert first.dtype == np.float32 and len(calls) == 1
    features_of(pictures(), "net", "e" * 64, store, compute)
    features_of(pictures(1), "net", "f" * 64, store, compute)
    assert len(calls) == 3
    assert picture_hash(pictures()) != picture_hash(pictures().reshape(3, 4, 16, 3))
