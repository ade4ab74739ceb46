import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import open_artifact, verify_file
from ln3d.artifacts.publish import publish
from ln3d.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with publish(tmp_path / "vae", "vae", recipe={"name": "tiny", "seed": 1}) as scratch:
        (scratch / "weights.bin").write_bytes(bytes(range(256)))
        (scratch / "metrics.jsonl").write_text("{}\n")
    return tmp_path / "vae"


def edit(folder: Path, **changes: object) -> None:
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "weights.bin").read_bytes())
    data[100] ^= 1
    (folder / "weights.bin").write_bytes(data)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def link_outside(folder: Path) -> None:
    (folder.parent / "elsewhere").write_bytes((folder / "weights.bin").read_bytes())
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to(folder.parent / "elsewhere")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / MANIFEST_NAME).unlink(), "half-written"),
    "cut manifest": (cut(MANIFEST_NAME, 200), "cut short"),
    "empty manifest": (cut(MANIFEST_NAME, 0), "cut short"),
    "binary manifest": (lambda f: (f / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "manifest of another sort": (lambda f: (f / MANIFEST_NAME).write_text("[1]"), "no manifest"),
    "edited manifest": (lambda f: edit(f, seed=2), "was changed"),
    "newer schema": (lambda f: edit(f, schema_version=99), "reads up to"),
    "unknown kind": (lambda f: edit(f, kind="cake"), "holds cake, not vae"),
    "missing file": (lambda f: (f / "weights.bin").unlink(), "is missing"),
    "cut file": (cut("weights.bin", 255), "255 bytes instead of 256"),
    "flipped bit": (flip_a_byte, "is damaged"),
    "link outside": (link_outside, "leads outside"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_named_with_the_remedy(folder: Path, damage: str) -> None:
    inflict, words = DAMAGES[damage]
    inflict(folder)
    with pytest.raises(ArtifactError, match=words) as caught:
        open_artifact(folder, "vae", verify=True)
    assert str(folder) in caught.value.message or damage == "newer schema"
    assert "train-vae" in caught.value.hint or "upgrade" in caught.value.hint


def test_every_cut_of_the_manifest_is_noticed(folder: Path) -> None:
    whole = (folder / MANIFEST_NAME).read_bytes()
    for size in range(0, len(whole.rstrip()), 7):
        (folder / MANIFEST_NAME).write_bytes(whole[:size])
        with pytest.raises(ArtifactError):
            open_artifact(folder)


def test_hashes_are_checked_only_where_asked(folder: Path) -> None:
    flip_a_byte(folder)
    artifact = open_artifact(folder, verify=["metrics.jsonl"])
    with pytest.raises(ArtifactError, match="is damaged"):
        verify_file(artifact, "weights.bin")


def test_verified_bytes_are_read_once_and_are_those_that_were_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, opened, real = open_artifact(folder), [], io.open

    def counted(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(Path(file).name)
        return real(file, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("io.open", counted)
        patch.setattr("builtins.open", counted)
        assert artifact.verified("weights.bin") == bytes(range(256))
        assert verify_file(artifact, "weights.bin") == folder / "weights.bin"
    assert opened == ["weights.bin"] * 2
    flip_a_byte(folder)
    reads: list[Callable[[str], object]] = [artifact.verified, partial(verify_file, artifact)]
    for read in reads:
        with pytest.raises(
            ArtifactError, match=r"weights\.bin is damaged: it is not the file that was published"
        ) as caught:
            read("weights.bin")
        assert "ln3d train-vae" in caught.value.hint
        with pytest.raises(ArtifactError, match="has no file nothing"):
            read("nothing")
    (folder / "weights.bin").unlink()
    for read in reads:
        with pytest.raises(ArtifactError, match=r"cannot read \S*weights\.bin: No such file") as caught:
            read("weights.bin")
        assert "ln3d train-vae" in caught.value.hint


def test_what_is_not_there_is_said_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist") as caught:
        open_artifact(tmp_path / "latents", "latents")
    assert "ln3d encode" in caught.value.hint


def test_a_workspace_in_place_of_an_artifact_lists_what_it_holds(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="holds some") as caught:
        open_artifact(folder.parent, "vae")
    assert str(folder) in caught.value.hint


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="is a file"):
        open_artifact(folder / "weights.bin")


def test_only_listed_files_are_files_of_the_artifact(folder: Path) -> None:
    artifact = open_artifact(folder)
    (folder / "stray").write_text("")
    assert artifact.file("weights.bin") == folder / "weights.bin"
    for name in ("stray", "../vae/weights.bin", "nothing"):
        with pytest.raises(ArtifactError, match="has no file"):
            artifact.file(name)
