"""An interrupted evaluation goes on: nothing that was finished is worked out again, and the figures are equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ln3d.errors import DivergedError
from ln3d.generation.model import Generator
from ln3d.geometry.chamfer_minima import NearestSearch
from ln3d.stages import contestants, evaluate, reconstruction_scores, shape_distances
from ln3d.stages.contestants import Samples
from ln3d.stages.evaluation_request import Networks
from ln3d.stages.reference import Reference
from ln3d.talk import Talk

pytestmark = pytest.mark.usefixtures("in_this_process")
SMALL = ("evaluation.views=2", "evaluation.image_resolution=16", "evaluation.samples=6", "evaluation.points=64")


class Mean:
    """A frozen network that sees the mean colour of the quarters of a picture."""

    name, sha256, width, resolution = "inception", "f" * 64, 12, 2

    def features(self, images: np.ndarray) -> np.ndarray:
        quarters = images.reshape(len(images), 2, images.shape[1] // 2, 2, -1, 3).mean(axis=(2, 4))
        return quarters.reshape(len(images), -1).astype(np.float32)


class Counted:
    """A function that counts its calls, and is interrupted before the call after `most`."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self.work, self.calls, self.most = work, 0, 10_000

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        return lambda *given, **named: self(instance, *given, **named)

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.calls == self.most:
            raise KeyboardInterrupt
        self.calls += 1
        return self.work(*given, **named)


@pytest.fixture(autouse=True)
def small_batches_and_a_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    def cloud(self: Samples, latent: object, cameras: object, points: int, seed: int) -> np.ndarray:
        numbers = np.random.default_rng(seed)
        if numbers.random() < 0.2:
            raise DivergedError("the field is empty")
        return numbers.normal(size=(points, 3)).astype(np.float32)

    monkeypatch.setattr(contestants, "_BATCH", 2)
    monkeypatch.setattr(shape_distances, "_BLOCK", 2)
    monkeypatch.setattr(Samples, "_cloud", cloud)


def _scored(metric: str, root: Path, kept: Path) -> dict[str, Any]:
    networks = Networks(image=lambda name, device: Mean())
    report = evaluate.run(metric, root, Talk(0), overrides=SMALL, workspace=kept, networks=networks)
    return {name: value for name, value in report.items() if name != "report"}


@pytest.mark.parametrize(
    ("metric", "owner", "name", "least"),
    [
        ("fid", Generator, "sample", 3),
        ("fid", Generator, "views", 6),
        ("fid", Mean, "features", 6 + 9),
        ("cov", Samples, "_cloud", 6),
        ("cov", Reference, "_scan", 5),
        ("cov", NearestSearch, "nearest", 3 + 3 + 3),
        ("psnr", reconstruction_scores, "reconstruct", 7),
    ],
)
def test_it_goes_on_where_it_was(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: str, owner: Any, name: str, least: int
) -> None:
    counted = Counted(getattr(owner, name))
    monkeypatch.setattr(owner, name, counted)
    whole = _scored(metric, root, tmp_path / "whole")
    total = counted.calls
    assert total >= least
    for most in sorted({1, total // 2, total - 1}):
        counted.calls, counted.most = 0, most
        with pytest.raises(KeyboardInterrupt):
            _scored(metric, root, tmp_path / str(most))
        counted.most = total
        assert _scored(metric, root, tmp_path / str(most)) == whole
        assert counted.calls == total


def test_metrics_of_shapes_share_clouds_failures_and_distances(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cov = _scored("cov", root, tmp_path)
    for owner, name in ((Samples, "_cloud"), (Reference, "_scan"), (NearestSearch, "between"), (Generator, "sample")):
        monkeypatch.setattr(owner, name, None)
    for metric in ("mmd", "nna"):
        assert _scored(metric, root, tmp_path)["details"] == cov["details"]
