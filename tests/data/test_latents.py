"""Posteriors in memory: read, split, standardised, balanced."""

import json
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.data.latents import LatentSet, balanced
from ln3d.errors import ArtifactError


def _published(path: Path, objects: int) -> LatentSet:
    mean = torch.randn(4, 3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    records = [{"split": ["train", "train", "validation", "test"][i % 4], "category": "car"} for i in range(objects)]
    with publish(path, "latents", recipe={"name": "some"}) as scratch:
        save_tensors(scratch / "latents.safetensors", {"mean": mean, "log_variance": torch.full_like(mean, -2.0)})
        statistics = {"mean": torch.full((3, 2, 1, 1), 0.5), "std": torch.full((3, 2, 1, 1), 2.0)}
        save_tensors(scratch / "statistics.safetensors", statistics)
        (scratch / "objects.json").write_text(json.dumps(records))
    return LatentSet.read(open_artifact(path, "latents"))


def test_draws_are_posterior_samples_made_standard(tmp_path: Path) -> None:
    latents = _published(tmp_path / "latents", objects=4)
    noise = torch.randn(3, 2, 5, 5)
    expected = (latents.mean[1] + torch.exp(torch.tensor(-1.0)) * noise - 0.5) / 2.0
    assert torch.allclose(latents.draw(1, noise), expected, atol=1e-6)


def test_splits_are_told_apart(tmp_path: Path) -> None:
    latents = _published(tmp_path / "latents", objects=4)
    assert latents.of_split("train") == [0, 1]
    assert latents.of_split("validation", "test") == [2, 3]


def test_records_and_latents_must_be_as_many(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="4 latents of 3 objects"):
        _published(tmp_path / "latents", objects=3)


def test_balance_goes_from_by_count_to_all_categories_alike() -> None:
    categories = ["car"] * 6 + ["boat"] * 2
    assert balanced(categories, 0.0).tolist() == pytest.approx([1 / 8] * 8)
    assert balanced(categories, 1.0)[:6].sum() == pytest.approx(0.5)
    halfway = balanced(categories, 0.5)
    assert halfway.sum() == pytest.approx(1.0)
    assert halfway[6] / halfway[0] == pytest.approx(3**0.5)
