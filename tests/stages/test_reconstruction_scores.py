"""Reconstructions are compared at the recipe's resolution, whatever the shards store."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.perceptual import Lpips
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.geometry.colour import LUMA
from ln3d.metrics.image import psnr
from ln3d.models.autoencoder import Autoencoder
from ln3d.stages.evaluation_store import Store
from ln3d.stages.reconstruction_scores import area_mean, compared_side, reconstruction_scores
from ln3d.stages.reference import Reference
from ln3d.talk import Talk
from ln3d.training.reconstruction import reconstruct

RecipeOf = Callable[..., Recipe]


class MeanDifference(nn.Module):
    """Stands in for LPIPS: the mean absolute difference."""

    name, sha256 = "alex", "0" * 64

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        assert image.shape[1:] == reference.shape[1:] == (3, 8, 8)
        return (image - reference).abs().mean(dim=(1, 2, 3))


@pytest.mark.parametrize(("stored", "wanted", "side"), [(64, 64, 64), (128, 64, 64), (16, 64, 16), (96, 32, 32)])
def test_views_are_never_enlarged(stored: int, wanted: int, side: int) -> None:
    assert compared_side(stored, wanted) == side


def test_pixels_are_never_split() -> None:
    with pytest.raises(RecipeError, match=r"128 pixels cannot be averaged to evaluation\.resolution 48") as caught:
        compared_side(128, 48)
    assert "8, 16, 32, 64, 128" in caught.value.hint


def test_noise_that_averages_out_costs_nothing() -> None:
    real = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2 + 0.25
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16)[None, :, :, None]
    noisy = real + 0.25 * signs
    assert psnr(noisy, real).mean() == pytest.approx(12.04, abs=0.01)
    assert torch.all(psnr(area_mean(noisy, 16), area_mean(real, 16)) == 100)
    assert torch.equal(area_mean(real, 32), real)


def test_it_is_the_average_that_the_shards_give(tiny_shards: ShardSet) -> None:
    pictures = Pictures(tiny_shards)
    (whole, coverage, _), (colour, alpha, _) = (pictures.stack(0, [0, 3], side) for side in (None, 8))
    assert torch.allclose(area_mean(torch.from_numpy(whole), 8), torch.from_numpy(colour), atol=1e-6)
    reduced = area_mean(torch.from_numpy(coverage)[..., None], 8)[..., 0]
    assert torch.allclose(reduced, torch.from_numpy(alpha), atol=1e-6)


@pytest.mark.parametrize(("wanted", "side"), [(64, 16), (16, 16), (8, 8)])
def test_the_figure_is_that_of_both_pictures_made_small(
    tiny_run: Workspace, tiny_recipe: RecipeOf, tmp_path: Path, wanted: int, side: int
) -> None:
    torch.manual_seed(0)
    networks = Autoencoder(tiny_recipe().vae).eval()
    override = f"evaluation.resolution={wanted}"
    reference = Reference(tiny_run, tiny_run.open("shards"), [override], Store(tmp_path))
    report, found = reconstruction_scores("psnr", networks, reference, None, 1, Talk(0), vae="x")
    index, pictures = found[0].record.index, Pictures(reference.shards)
    drawn, _, _ = reconstruct(networks, pictures, index, [0, 1], [4])
    real, _, _ = pictures.stack(index, [4], side)
    expected = psnr(area_mean(drawn.clamp(0, 1), side), torch.from_numpy(real))
    assert report["psnr"] == pytest.approx(expected.item(), rel=1e-5)
    assert found[0].ours.shape == found[0].real.shape == (1, side, side, 3)
    protocol = report["protocol"]
    assert (protocol["stored_resolution"], protocol["compared_resolution"]) == (16, side)
    assert protocol["filter"].startswith("none" if side == 16 else "mean over areas")


def test_pictures_are_looked_at_once_for_all_metrics(
    tiny_run: Workspace, tiny_recipe: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = Autoencoder(tiny_recipe().vae).eval()
    reference = Reference(tiny_run, tiny_run.open("shards"), (), Store(tmp_path))
    psnr_report, _ = reconstruction_scores("psnr", networks, reference, None, 1, Talk(0), vae="x")
    monkeypatch.setattr("ln3d.stages.reconstruction_scores.reconstruct", None)
    ssim_report, _ = reconstruction_scores("ssim", networks, reference, None, 1, Talk(0), vae="x")
    assert ssim_report["details"] == psnr_report["details"]
    assert ssim_report["ssim"] == psnr_report["details"]["train"]["all"]["ssim"]
    assert (ssim_report["unit"], psnr_report["unit"]) == ("", "dB")


def test_a_perceptual_distance_is_of_both_pictures_made_small(
    tiny_run: Workspace, tiny_recipe: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ln3d.stages.reconstruction_scores._SMALLEST_FOR_LPIPS", 8)
    networks = Autoencoder(tiny_recipe().vae).eval()
    reference = Reference(tiny_run, tiny_run.open("shards"), ["evaluation.resolution=8"], Store(tmp_path))
    report, found = reconstruction_scores(
        "lpips", networks, reference, None, 1, Talk(0), vae="x", lpips=cast("Lpips", MeanDifference())
    )
    expected = [float((f.ours - f.real).abs().mean()) for f in found if f.record.split == "train"]
    assert report["lpips"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert report["protocol"]["backbone"] == {"name": "alex", "sha256": "0" * 64}


@pytest.mark.parametrize(("drawn", "kept"), [("the same", 1.0), ("grey", 0.0)])
def test_a_reconstruction_keeps_its_hue_if_it_is_the_same_and_loses_it_if_it_is_grey(
    tiny_run: Workspace,
    tiny_recipe: RecipeOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    drawn: str,
    kept: float,
) -> None:
    def picture(
        networks: Autoencoder, pictures: Pictures, index: int, inputs: list[int], targets: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        colour, alpha, depth = map(torch.from_numpy, pictures.stack(index, targets))
        grey = colour @ torch.tensor(LUMA)
        return (colour if drawn == "the same" else grey[..., None].expand_as(colour)), alpha, depth

    monkeypatch.setattr("ln3d.stages.reconstruction_scores.reconstruct", picture)
    reference = Reference(tiny_run, tiny_run.open("shards"), (), Store(tmp_path))
    names = {
        split: {"": tuple(r.source_id for r in reference.shards.objects if r.split == split)}
        for split in ("train", "test")
    }
    networks = Autoencoder(tiny_recipe().vae).eval()
    report, _ = reconstruction_scores("psnr", networks, reference, None, None, Talk(0), vae="x", listed=names)
    assert report["saturated"]["count"] > 0
    assert report["saturated"]["kept"] == kept
    if drawn == "the same":
        assert report["psnr"] == 100
        row = report["details"]["train"]["all"]
        assert row["above_flat"] == pytest.approx(100 - max(row["white_psnr_masked"], row["flat_psnr_masked"]))
