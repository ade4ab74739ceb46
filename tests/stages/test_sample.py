"""`sample`: files by suffix, seeds, retries, and errors with their remedies."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import trimesh
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.tensors import load_tensors
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, DivergedError, RecipeError
from ln3d.generation.model import Generator
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.dit import build_denoiser
from ln3d.rendering.fields import Field
from ln3d.stages import sample
from ln3d.talk import Talk

QUIET = Talk(verbosity=0)


def _generator(kind: str = "text") -> Generator:
    vae = {
        "encoder": {"resolution": 8, "width": 8, "multipliers": [1, 2]},
        "latent": {"channels": 2, "resolution": 4},
        "decoder": {"width": 16, "depth": 1, "heads": 2},
        "upsampler": {"width": 8, "multipliers": [1]},
        "renderer": {"coarse": 6, "fine": 0},
    }
    diffusion = {
        "dit": {"width": 16, "depth": 1, "heads": 2},
        "condition": {"kind": kind, "depth": 1},
        "sampler": {"steps": 2},
    }
    document = {"name": "tiny", "vae": vae, "diffusion": diffusion, "mesh": {"resolution": 32}}
    recipe = Recipe.model_validate(document)
    torch.manual_seed(0)
    denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent)
    statistics = {"mean": torch.zeros(3, 2, 1, 1), "std": torch.ones(3, 2, 1, 1)}
    return Generator(recipe, Autoencoder(recipe.vae), denoiser, statistics, 10.0, torch.device("cpu"))


def _balls(radius: Callable[[Tensor], float]) -> Callable[[Generator, Tensor], Field]:
    """Return a stand-in for `Generator.field`: a ball whose radius depends on the planes."""

    def field(self: Generator, planes: Tensor) -> Field:
        size = radius(planes)

        def ball(points: Float[Tensor, "b n 3"]) -> tuple[Tensor, Tensor]:
            return 20 * torch.sigmoid(30 * (size - points.norm(dim=-1))), (points + 1) / 2

        return ball

    return field


@pytest.fixture
def solid(monkeypatch: pytest.MonkeyPatch) -> Generator:
    """A model whose samples are all balls of radius 0.7."""
    generator = _generator()
    monkeypatch.setattr(sample.Generator, "load", lambda *arguments, **options: generator)
    monkeypatch.setattr(Generator, "decode", lambda self, latents: latents)
    monkeypatch.setattr(Generator, "field", _balls(lambda planes: 0.7))
    monkeypatch.setattr(sample, "_SIZE", 16)
    return generator


@pytest.fixture
def hollow(solid: Generator, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """A model whose seeds 0, 2 and 1000 are empty."""
    empty = [solid.decode(solid.sample([None], [seed])) for seed in (0, 2, 1000)]

    def radius(planes: Tensor) -> float:
        return -1.0 if any(torch.allclose(planes, bad, atol=1e-4) for bad in empty) else 0.7

    monkeypatch.setattr(Generator, "field", _balls(radius))
    return solid


def test_a_single_mesh_has_the_name_that_was_asked_for(solid: Generator, tmp_path: Path) -> None:
    output = tmp_path / "new" / "boat.glb"
    report = sample.run(None, QUIET, text="wooden boat", output=output, seed=5)
    assert report["files"] == [str(output)]
    assert report["seeds"] == [5]
    assert report["retries"] == 0
    assert report["steps"] == 2
    assert report["seconds"] > 0
    mesh = trimesh.load(output, force="mesh")
    assert mesh.volume == pytest.approx(4 / 3 * 3.1416 * 0.7**3, rel=0.05)
    assert [path.name for path in output.parent.iterdir()] == ["boat.glb"]
    json.dumps(report)


@pytest.mark.parametrize("suffix", ["obj", "ply", "gif"])
def test_several_samples_are_numbered(solid: Generator, tmp_path: Path, suffix: str) -> None:
    report = sample.run(None, QUIET, text=None, output=tmp_path / f"x.{suffix}", count=2)
    assert [Path(file).name for file in report["files"]] == [f"x-0.{suffix}", f"x-1.{suffix}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"x-0.{suffix}", f"x-1.{suffix}"]
    if suffix == "gif":
        with Image.open(report["files"][0]) as turntable:
            assert turntable.n_frames == 36


def test_a_picture_has_a_row_per_sample(solid: Generator, tmp_path: Path) -> None:
    heights = []
    for count in (1, 3):
        report = sample.run(None, QUIET, text="red car", output=tmp_path / "x.png", count=count)
        assert report["files"] == [str(tmp_path / "x.png")]
        with Image.open(tmp_path / "x.png") as picture:
            heights.append(picture.height)
    assert heights[1] > 2 * heights[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_name_without_suffix_is_an_artifact(solid: Generator, tmp_path: Path) -> None:
    report = sample.run(None, QUIET, text="red car", output=tmp_path / "cars", count=3, seed=2, guidance=1.5)
    artifact = open_artifact(tmp_path / "cars", "samples", verify=True)
    latents = load_tensors(artifact.file("latents.safetensors"))["latents"]
    assert torch.allclose(latents, solid.sample(["red car"] * 3, [2, 3, 4], guidance=1.5), atol=1e-4)
    document = json.loads(artifact.file("samples.json").read_text())
    assert document["prompts"] == ["red car"] * 3
    assert document["seeds"] == report["seeds"] == [2, 3, 4]
    assert artifact.manifest.details["guidance"] == 1.5
    assert artifact.file("contact.png").is_file()
    with pytest.raises(ArtifactError, match="exists already"):
        sample.run(None, QUIET, text="red car", output=tmp_path / "cars")


def test_empty_fields_are_drawn_again_and_this_is_said(
    hollow: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = sample.run(None, QUIET, text=None, output=tmp_path / "x.ply", count=3)
    assert report["seeds"] == [2000, 1, 1002]
    assert report["retries"] == 3
    assert [Path(file).name for file in report["files"]] == ["x-0.ply", "x-1.ply", "x-2.ply"]
    said = capsys.readouterr().err
    assert "seed 0: the field is empty" in said
    assert "trying seed 1000" in said
    assert "trying seed 2000" in said


def test_a_sample_that_never_comes_out_is_left_out_or_an_error(
    solid: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = solid.decode(solid.sample([None], [0]))
    monkeypatch.setattr(sample, "_ATTEMPTS", 1)
    monkeypatch.setattr(
        Generator, "field", _balls(lambda planes: -1.0 if torch.allclose(planes, first, atol=1e-4) else 0.7)
    )
    report = sample.run(None, QUIET, text=None, output=tmp_path / "x.ply", count=2)
    assert [Path(file).name for file in report["files"]] == ["x-1.ply"]
    for name in ("y.ply", "y.png", "y.gif", "folder"):
        with pytest.raises(DivergedError, match="none of 1 seeds gave an object") as problem:
            sample.run(None, QUIET, text=None, output=tmp_path / name)
        assert "--seed" in problem.value.hint
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["x-1.ply"]


def test_what_was_there_survives_a_failure(solid: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(frames: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(sample, "write_gif", interrupted)
    output = tmp_path / "x.gif"
    output.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        sample.run(None, QUIET, text=None, output=output)
    assert output.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]


def test_dry_run_writes_nothing(solid: Generator, tmp_path: Path) -> None:
    plan = sample.run(None, QUIET, text="boat", output=tmp_path / "x.glb", count=4, steps=7, dry_run=True)
    assert plan["steps"] == 7
    assert plan["count"] == 4
    assert list(tmp_path.iterdir()) == []


def test_wrong_wishes_are_refused(solid: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"cannot write samples as x\.stl") as problem:
        sample.run(None, QUIET, text=None, output=tmp_path / "x.stl")
    assert ".glb" in problem.value.hint
    with pytest.raises(RecipeError, match="--count is 0"):
        sample.run(None, QUIET, text=None, output=tmp_path / "x.glb", count=0)
    with pytest.raises(RecipeError, match="--steps is -1"):
        sample.run(None, QUIET, text=None, output=tmp_path / "x.glb", steps=-1)
    unconditional = _generator("none")
    monkeypatch.setattr(sample.Generator, "load", lambda *arguments, **options: unconditional)
    with pytest.raises(RecipeError, match="unconditional") as problem:
        sample.run(None, QUIET, text="red car", output=tmp_path / "x.glb")
    assert "--text" in problem.value.hint
    assert list(tmp_path.iterdir()) == []
