"""The Inception of FID: what it is given, that nothing but the known file is opened, and that file where fetched."""

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ln3d.backbones import inception
from ln3d.backbones.inception import Inception
from ln3d.backbones.pixels import resized_clean
from ln3d.backbones.weights import INCEPTION, WeightFile
from ln3d.errors import WeightsError


class FirstPixels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2048]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a network that returns its first inputs into the cache, as if it were the known file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer PyTorch deprecates TorchScript
        torch.jit.save(torch.jit.trace(FirstPixels(), torch.zeros(2, 3, 299, 299)), buffer)
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(inception, "INCEPTION", WeightFile("stand-in.pt", digest, "inception"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "stand-in.pt").write_bytes(buffer.getvalue())
    return tmp_path / "weights" / "stand-in.pt"


def pictures(count: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_it_sees_clean_pixels_around_zero(stand_in: Path) -> None:
    images = pictures(35)  # more than a batch
    found = Inception().features(images)
    expected = (resized_clean(images, 299)[..., 0].reshape(35, -1)[:, :2048] - 128) / 128
    assert found.dtype == np.float32 and found.shape == (35, Inception.width)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert Inception().features(pictures(0)).shape == (0, 2048)


def test_a_changed_file_is_never_opened(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was opened"))
    stand_in.write_bytes(stand_in.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="not the expected file"):
        Inception()
    stand_in.unlink()
    with pytest.raises(WeightsError, match="not here") as problem:
        Inception()
    assert problem.value.hint == "run: ln3d fetch inception"


@pytest.mark.skipif(not INCEPTION.path.exists(), reason="needs: ln3d fetch inception")
def test_the_real_one_tells_pictures_apart() -> None:
    network = Inception()
    grid = np.mgrid[:64, :64]
    stripes = (np.stack([grid[1] // 8 % 2 * 255] * 3, axis=-1)).astype(np.uint8)
    discs = (np.stack([np.hypot(*(grid - 32)) < 20, grid[0] > 32, grid[1] > 9], axis=-1) * 255).astype(np.uint8)
    found = network.features(np.stack([stripes, 255 - stripes, discs, discs[:, ::-1]]))
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    likeness = unit @ unit.T
    assert (found >= 0).all() and found.std() > 0.05  # averages of rectified maps
    assert min(likeness[0, 1], likeness[2, 3]) > max(likeness[0, 2], likeness[1, 3])
