"""A model that is packed to be shared: half precision, lineage, and a VAE that has no denoiser yet."""

import shutil
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError
from ln3d.generation.model import Generator, read_autoencoder
from ln3d.stages import pack
from ln3d.talk import Talk

QUIET = Talk(-1)


def _kinds(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_weights_are_those_of_the_original_in_half_precision(root: Path, tmp_path: Path) -> None:
    pack.run(root, QUIET, output=tmp_path / "model")
    assert _kinds(tmp_path / "model") == ["denoiser", "vae"]
    for kind in ("vae", "denoiser"):
        original, copy = (open_artifact(folder / kind, kind) for folder in (root, tmp_path / "model"))
        assert copy.manifest.inputs["original"].id == original.id
        tensors = load_tensors(copy.file("weights.safetensors"))
        for name, value in load_tensors(original.file("weights.safetensors")).items():
            assert torch.equal(tensors[name], value.half())
    Generator.load(tmp_path / "model", "cpu")


@pytest.fixture
def vae_alone(root: Path, tmp_path: Path) -> Path:
    """Return a workspace whose denoiser has not been trained."""
    shutil.copytree(root / "vae", tmp_path / "run" / "vae")
    return tmp_path / "run"


def test_a_vae_without_a_denoiser_is_packed_alone(
    root: Path, vae_alone: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = pack.run(vae_alone, Talk(), output=tmp_path / "model")
    assert "the VAE alone: there is no denoiser yet" in capfd.readouterr().err
    assert _kinds(tmp_path / "model") == ["vae"]
    copy = Workspace(tmp_path / "model").open("vae", verify=True)
    assert made["vae"] == copy.id and "denoiser" not in made
    read_autoencoder(copy, torch.device("cpu"))
    shutil.copytree(root / "denoiser", vae_alone / "denoiser")
    whole = pack.run(vae_alone, QUIET, output=tmp_path / "model")  # trained in the meantime
    assert whole["vae"] == made["vae"] and _kinds(tmp_path / "model") == ["denoiser", "vae"]


def test_a_damaged_vae_is_not_packed_alone_either(vae_alone: Path, tmp_path: Path) -> None:
    weights = vae_alone / "vae" / "weights.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="weights.safetensors"):
        pack.run(vae_alone, QUIET, output=tmp_path / "model")
    assert not (tmp_path / "model").exists()
