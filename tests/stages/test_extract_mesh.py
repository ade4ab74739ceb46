import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, DivergedError, LN3DError, RecipeError
from ln3d.stages import extract_mesh
from ln3d.talk import Talk

QUIET = Talk(verbosity=0)
RECIPE = Recipe.model_validate({"name": "balls", "mesh": {"resolution": 32}})


@dataclass
class BallGenerator:
    """Decodes a latent whose first number is r to a ball of radius r."""

    recipe: Recipe = RECIPE
    iso: float = 50.0
    device: torch.device = torch.device("cpu")
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        assert latents.dtype == torch.float32
        return latents

    def field(self, planes: torch.Tensor):
        radius = planes[0, 0, 0, 0, 0]
        return lambda points: (100 * torch.sigmoid(40 * (radius - points.norm(dim=-1))), points * 0.5 + 0.5)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def load(path: Path | None, device: torch.device, *, sampling: bool) -> BallGenerator:
        assert not sampling and path is not None
        return BallGenerator(artifacts={"vae": open_artifact(path / "vae")})

    monkeypatch.setattr(extract_mesh.Generator, "load", load)
    monkeypatch.setattr(extract_mesh, "tune_allocator", lambda: True)
    return vae_in(tmp_path / "run", b"weights")


def vae_in(workspace: Path, content: bytes) -> Path:
    with publish(workspace / "vae", "vae", recipe=RECIPE) as scratch:
        (scratch / "weights.safetensors").write_bytes(content)
    return workspace


def samples_in(workspace: Path, *radii: float) -> Path:
    latents = torch.zeros(len(radii), 3, 1, 2, 2, dtype=torch.float16)
    latents[:, 0, 0, 0, 0] = torch.tensor(radii)
    inputs = {"vae": open_artifact(workspace / "vae")}
    with publish(workspace / "samples", "samples", recipe=RECIPE, inputs=inputs) as scratch:
        save_tensors(scratch / "latents.safetensors", {"latents": latents})
        document = {"prompts": ["a ball"] * len(radii), "seeds": list(range(len(radii)))}
        (scratch / "samples.json").write_text(json.dumps(document))
    return workspace / "samples"


def test_one_sample_becomes_one_file(workspace: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "ball.ply"
    result = extract_mesh.run(samples_in(workspace, 0.5), None, QUIET, output=output, resolution=48)
    assert (result["resolution"], result["format"], result["report"]["watertight"]) == (48, "ply", True)
    ball = trimesh.load(output, process=False)
    assert ball.volume == pytest.approx(4 / 3 * np.pi / 8, rel=0.02)
    assert list(output.parent.iterdir()) == [output]


def test_samples_become_an_artifact_with_what_failed_and_why(workspace: Path, tmp_path: Path) -> None:
    samples = samples_in(workspace, 0.5, 0.05, 0.8)
    output = tmp_path / "meshes"
    result = extract_mesh.run(samples, workspace, QUIET, output=output, file_format="obj")
    artifact = open_artifact(output, "meshes", verify=True)
    assert (result["meshes"], result["rejected"], result["id"]) == (2, 1, artifact.id)
    assert set(artifact.manifest.files) == {"000.obj", "002.obj", "meshes.json", "contact.png"}
    assert [entry.kind for entry in artifact.manifest.inputs.values()] == ["samples", "vae"]
    document = json.loads(artifact.file("meshes.json").read_text())
    first, last = document["meshes"]
    assert (first["prompt"], last["seed"], last["file"]) == ("a ball", 2, "002.obj")
    assert first["volume"] == pytest.approx(4 / 3 * np.pi / 8, rel=0.05)
    assert (document["rejected"][0]["sample"], document["rejected"][0]["reason"][:19]) == (1, "the field is debris")
    with Image.open(artifact.file("contact.png")) as sheet:
        assert sheet.width > 4 * 128


def test_the_same_again_is_up_to_date_and_other_meshes_are_not_overwritten(workspace: Path, tmp_path: Path) -> None:
    samples, output = samples_in(workspace, 0.5), tmp_path / "meshes"
    first = extract_mesh.run(samples, None, QUIET, output=output)
    before = (output / "manifest.json").stat().st_mtime_ns
    assert extract_mesh.run(samples, None, QUIET, output=output)["id"] == first["id"]
    assert (output / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ArtifactError, match="exists already"):
        extract_mesh.run(samples, None, QUIET, output=output, resolution=64)
    again = extract_mesh.run(samples, None, QUIET, output=tmp_path / "other" / "meshes")
    assert again["id"] == first["id"]


def test_the_samples_of_the_model_are_taken_where_none_are_named(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no samples") as caught:
        extract_mesh.run(None, workspace, QUIET, output=tmp_path / "x.glb")
    assert "ln3d sample" in caught.value.hint
    samples_in(workspace, 0.6)
    extract_mesh.run(None, workspace, QUIET, output=tmp_path / "x.glb")
    assert (tmp_path / "x.glb").read_bytes()[:4] == b"glTF"


def test_another_vae_is_refused_by_name(workspace: Path, tmp_path: Path) -> None:
    samples = samples_in(workspace, 0.5)
    other = vae_in(tmp_path / "other", b"other weights")
    with pytest.raises(ArtifactError, match="not the one these samples need: balls"):
        extract_mesh.run(samples, other, QUIET, output=tmp_path / "x.glb")
    samples.rename(tmp_path / "samples")
    with pytest.raises(ArtifactError, match="neither beside them nor shipped") as caught:
        extract_mesh.run(tmp_path / "samples", None, QUIET, output=tmp_path / "x.glb")
    assert "--model" in caught.value.hint
    extract_mesh.run(tmp_path / "samples", workspace, QUIET, output=tmp_path / "x.glb")


def test_a_flipped_byte_in_the_samples_is_noticed(workspace: Path, tmp_path: Path) -> None:
    path = samples_in(workspace, 0.5) / "latents.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="latents.safetensors is damaged"):
        extract_mesh.run(path.parent, None, QUIET, output=tmp_path / "x.glb")
    assert not (tmp_path / "x.glb").exists()


@pytest.mark.parametrize("output", ["x.glb", "meshes"])
def test_samples_without_an_object_leave_nothing_behind(workspace: Path, tmp_path: Path, output: str) -> None:
    place = tmp_path / "out"
    with pytest.raises(DivergedError, match="debris"):
        extract_mesh.run(samples_in(workspace, 0.05), None, QUIET, output=place / output)
    assert not place.exists() or not [p for p in place.iterdir() if not p.name.startswith(".")]


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("x.glb", {}, "2 samples, x.glb is one file"),
        ("x.stl", {}, "cannot write .stl"),
        ("folder", {"file_format": "fbx"}, "cannot write fbx"),
        ("x.glb", {"file_format": "obj"}, "-o says .glb, --format says obj"),
        ("folder", {"resolution": 8}, "resolution of 8"),
        ("folder", {"resolution": 4096}, "resolution of 4096"),
    ],
)
def test_requests_that_do_not_fit_are_named(
    workspace: Path, tmp_path: Path, output: str, options: dict, message: str
) -> None:
    samples = samples_in(workspace, 0.5, 0.6)
    with pytest.raises(RecipeError, match=message) as caught:
        extract_mesh.run(samples, None, QUIET, output=tmp_path / output, **options)
    assert isinstance(caught.value, LN3DError) and caught.value.hint
    assert not (tmp_path / output).exists()


def test_a_dry_run_tells_and_writes_nothing(workspace: Path, tmp_path: Path) -> None:
    samples = samples_in(workspace, 0.5, 0.6)
    plan = extract_mesh.run(samples, None, QUIET, output=tmp_path / "meshes", dry_run=True)
    assert (plan["samples"], plan["resolution"], plan["iso"], plan["format"]) == (2, 32, 50.0, "glb")
    assert not (tmp_path / "meshes").exists()
    json.dumps(plan)
