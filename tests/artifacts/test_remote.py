"""Artifacts at fsspec addresses: the same as in a folder, damage named the same way, troubles of the way outlived."""

import json
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.cached import SimpleCacheFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from ln3d.artifacts import addresses
from ln3d.artifacts.addresses import is_address, joined
from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.artifacts.remote import RemoteArtifact, open_at
from ln3d.errors import ArtifactError, RecipeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with publish(tmp_path / "vae", "vae", recipe={"name": "tiny", "seed": 1}) as scratch:
        (scratch / "weights.bin").write_bytes(bytes(range(256)) * 40)
        (scratch / "sheets").mkdir()
        (scratch / "sheets" / "one.txt").write_text("a sheet")
    return tmp_path / "vae"


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_memory(folder: Path) -> str:
    files = fsspec.filesystem("memory")
    if files.exists("/bucket"):
        files.rm("/bucket", recursive=True)
    for name, data in _files(folder).items():
        files.pipe_file(f"/bucket/vae/{name}", data)
    return "memory://bucket/vae"


def in_a_zip(folder: Path, inner: str = "vae/") -> str:
    path = folder.parent / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in _files(folder).items():
            archive.writestr(f"{inner}{name}", data)
    return f"zip://{inner}::file://{path}"


PLACES: dict[str, Callable[[Path], str]] = {
    "memory": in_memory,
    "file": lambda folder: f"file://{folder}",
    "zip": in_a_zip,
    "root of a zip": lambda folder: in_a_zip(folder, ""),
    "cached": lambda folder: f"simplecache::{in_memory(folder)}",
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end without open archives and caches, and without waiting between tries."""
    monkeypatch.setattr(addresses, "_PAUSES_S", (0.0, 0.0))
    addresses._connected.cache_clear()
    SimpleCacheFileSystem.clear_instance_cache()
    yield
    addresses._connected.cache_clear()


@pytest.mark.parametrize("place", PLACES)
def test_it_is_the_same_artifact_wherever_it_lies(folder: Path, place: str) -> None:
    here, there = open_artifact(folder, "vae"), open_at(PLACES[place](folder), "vae")
    assert isinstance(there, RemoteArtifact)
    assert (there.id, there.manifest) == (here.id, here.manifest)
    for name in here.manifest.files:
        assert there.verified(name) == here.verified(name)
    whole = (folder / "weights.bin").read_bytes()
    for start, stop in ((0, 1), (0, 5000), (255, 258), (10_000, 10_240)):
        assert there.read("weights.bin", start, stop) == whole[start:stop]
    assert ForkingPickler.loads(ForkingPickler.dumps(there)) == there


def test_a_folder_is_opened_as_ever(folder: Path) -> None:
    for place in (folder, str(folder)):
        assert open_at(place, "vae") == open_artifact(folder, "vae")
        assert isinstance(open_at(place), Artifact)
    with pytest.raises(ArtifactError, match="does not exist"):
        open_at("nowhere", "vae")


def test_addresses_are_told_from_paths_and_names_are_put_where_the_path_is() -> None:
    assert all(map(is_address, ("s3://b/x", "simplecache::s3://b/x", "zip::/a/x.zip", "memory://")))
    assert not any(map(is_address, ("runs/a", "/data/a", "C:\\data", "C:/data", "a:b", "~/x", "../a::b")))
    assert joined("s3://b/x", "m") == joined("s3://b/x/", "m") == "s3://b/x/m"
    assert joined("memory://", "m") == "memory://m"
    assert joined("zip://x::s3://b/a.zip", "m") == "zip://x/m::s3://b/a.zip"
    assert joined("zip://::a.zip", "m") == "zip://m::a.zip"
    assert joined("simplecache::https://h/x", "m") == "simplecache::https://h/x/m"


def _edited(folder: Path, **changes: object) -> None:
    manifest = folder / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **changes}))


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda f: (f / MANIFEST_NAME).unlink(), r"vae/manifest\.json\S* is missing"),
    "cut manifest": (lambda f: (f / MANIFEST_NAME).write_bytes(b'{"kind": "vae", '), "cut short"),
    "binary manifest": (lambda f: (f / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "edited manifest": (lambda f: _edited(f, seed=2), "was changed"),
    "newer schema": (lambda f: _edited(f, schema_version=99), "reads up to"),
    "another kind": (lambda f: _edited(f, kind="cake"), "holds cake, not vae"),
    "missing file": (lambda f: (f / "weights.bin").unlink(), r"vae/weights\.bin\S* is missing"),
    "cut file": (lambda f: (f / "weights.bin").write_bytes(b"short"), "is damaged: 5 bytes instead of 10240"),
    "flipped bit": (lambda f: _flipped(f / "weights.bin"), "is damaged: it is not the file"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_named_with_the_remedy(folder: Path, place: str, damage: str) -> None:
    inflict, words = DAMAGES[damage]
    inflict(folder)
    if place == "root of a zip":
        words = words.replace("vae/", "zip://")
    with pytest.raises(ArtifactError, match=words) as caught:
        open_at(PLACES[place](folder), "vae").verified("weights.bin")
    assert any(remedy in caught.value.hint for remedy in ("copy the whole folder", "ln3d train-vae", "upgrade"))


def test_only_listed_files_are_read(folder: Path) -> None:
    address = in_memory(folder)
    fsspec.filesystem("memory").pipe_file("/bucket/vae/stray", b"x")
    artifact = open_at(address)
    assert isinstance(artifact, RemoteArtifact)
    for name in ("stray", "../vae/weights.bin", MANIFEST_NAME):
        with pytest.raises(ArtifactError, match="has no file"):
            artifact.verified(name)
        with pytest.raises(ArtifactError, match="has no file"):
            artifact.read(name, 0, 1)


def test_an_unknown_protocol_and_a_missing_package_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"^nowhere://x: Protocol not known: nowhere") as caught:
        open_at("nowhere://x", "vae")
    assert "protocols" in caught.value.hint
    lacking = {"class": "no_such_package.Files", "err": "Install no_such_package to go there"}
    monkeypatch.setitem(known_implementations, "there", lacking)
    for address in ("there://x", "simplecache::there://x"):
        with pytest.raises(RecipeError, match="needs a package: Install no_such_package to go there") as caught:
            open_at(address, "vae")
        assert caught.value.hint == "pip install no_such_package"


def test_an_archive_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    for name in ("x.zip", "none.zip"):
        with pytest.raises(ArtifactError, match=rf"zip://vae::file://\S*/{name} cannot be opened"):
            open_at(f"zip://vae::file://{tmp_path}/{name}", "vae")


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """Memory whose readings fail as often as `troubles` says, and then so long as `trouble` is not taken away."""

    protocol = "flaky"
    cachable = False
    troubles: list[Exception] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        inner: str = super()._strip_protocol(path.removeprefix("flaky://"))
        return inner

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        if self.troubles:
            raise self.troubles.pop()
        data: bytes = super().cat_file(path, start, end, **options)
        return data

    def find(self, *_: object, **__: object) -> dict[str, object]:
        raise NotImplementedError("no listing")


@pytest.fixture
def flaky(folder: Path) -> str:
    in_memory(folder)
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    return "flaky://bucket/vae"


def test_a_hiccup_of_the_network_is_outlived(flaky: str) -> None:
    artifact = open_at(flaky, "vae")
    for troubles in ([OSError("reset")], [TimeoutError(), ConnectionError("gone")]):
        Flaky.troubles = list(troubles)
        assert artifact.verified("sheets/one.txt") == b"a sheet"
        assert not Flaky.troubles


def test_a_lasting_trouble_is_an_error_that_says_what_and_where(flaky: str) -> None:
    artifact = open_at(flaky, "vae")
    for troubles, left, remedy in (
        ([OSError("a reset")] * 4, 1, "it goes on where it stopped"),
        ([OSError("x"), PermissionError("a reset")], 1, "check the keys"),
        ([OSError("x"), NotImplementedError("a reset")], 1, "copy the folder to this machine"),
    ):
        Flaky.troubles = list(troubles)
        with pytest.raises(ArtifactError, match=r"^flaky://\S*/one\.txt cannot be read \(a reset\)$") as caught:
            artifact.verified("sheets/one.txt")
        assert remedy in caught.value.hint
        assert len(Flaky.troubles) == left
    Flaky.troubles = []


def test_where_nothing_can_be_listed_what_is_read_is_checked_all_the_same(flaky: str) -> None:
    artifact = open_at(flaky, "vae")
    assert isinstance(artifact, RemoteArtifact)
    fsspec.filesystem("memory").pipe_file("/bucket/vae/weights.bin", b"short")
    assert open_at(flaky, "vae") == artifact
    with pytest.raises(ArtifactError, match=r"weights\.bin is damaged: 3 bytes instead of 8$"):
        artifact.read("weights.bin", 2, 10)
    with pytest.raises(ArtifactError, match=r"weights\.bin is damaged: it is not the file"):
        artifact.verified("weights.bin")


def test_what_a_listing_leaves_out_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = in_memory(folder)
    cut = {f"/bucket/vae/{MANIFEST_NAME}": {"size": None}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: cut)
    assert open_at(address, "vae").id == open_artifact(folder).id
    fsspec.filesystem("memory").rm_file("/bucket/vae/weights.bin")
    with pytest.raises(ArtifactError, match=r"weights\.bin is missing"):
        open_at(address, "vae")
