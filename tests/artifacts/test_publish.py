import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts import publish as publish_module
from ln3d.artifacts.manifest import MANIFEST_NAME, InputRef
from ln3d.artifacts.publish import Artifact, open_artifact, publish
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError

RECIPE = Recipe(name="tiny", seed=7)


def put(path: Path, text: str = "hello", kind: str = "vae", **options: Any) -> Artifact:
    with publish(path, kind, recipe=RECIPE, **options) as scratch:
        (scratch / "inner").mkdir(exist_ok=True)
        (scratch / "inner" / "weights.bin").write_text(text)
    return open_artifact(path, kind, verify=True)


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if "scratch" in p.name or "previous" in p.name)


def test_what_is_published_is_described_in_full(tmp_path: Path) -> None:
    base = put(tmp_path / "shards", kind="shards")
    details: dict[str, Any] = {"iso": 4.5}
    with publish(tmp_path / "vae", "vae", recipe=RECIPE, inputs={"shards": base}, details=details) as scratch:
        (scratch / "a").write_bytes(b"abc")
        details["late"] = (1, 2)
        assert not (tmp_path / "vae").exists()
    manifest = open_artifact(tmp_path / "vae").manifest
    assert (manifest.kind, manifest.name, manifest.seed) == ("vae", "tiny", 7)
    assert manifest.details == {"iso": 4.5, "late": [1, 2]}
    assert manifest.inputs == {"shards": InputRef(kind="shards", id=base.id, name="tiny")}
    assert manifest.recipe == RECIPE.model_dump(mode="json")
    # the hash of "abc" in FIPS 180-2, appendix B.1
    assert manifest.files["a"].sha256.startswith("ba7816bf8f01cfea414140de5dae2223")
    assert manifest.files["a"].bytes == 3


def test_equal_content_has_an_equal_id(tmp_path: Path) -> None:
    ids = {put(tmp_path / name).id for name in ("a", "b")}
    assert len(ids) == 1
    assert put(tmp_path / "c", text="hellO").id not in ids
    assert put(tmp_path / "d", details={"x": 1}).id not in ids


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), publish(tmp_path / "x", "vae", recipe=RECIPE) as scratch:
        (scratch / "half").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "x").exists() and not leftovers(tmp_path)


def test_a_kept_folder_survives_an_error_and_is_then_published(tmp_path: Path) -> None:
    keep = tmp_path / "x.partial"
    with pytest.raises(RuntimeError), publish(tmp_path / "x", "vae", recipe=RECIPE, keep=keep) as scratch:
        (scratch / "first").write_text("1")
        raise RuntimeError
    with publish(tmp_path / "x", "vae", recipe=RECIPE, keep=keep) as scratch:
        assert (scratch / "first").read_text() == "1"
    assert list(open_artifact(tmp_path / "x").manifest.files) == ["first"] and not keep.exists()


def test_an_existing_artifact_is_replaced_only_when_asked(tmp_path: Path) -> None:
    old = put(tmp_path / "x", "old")
    with pytest.raises(ArtifactError, match="exists already"):
        put(tmp_path / "x", "new")
    assert open_artifact(tmp_path / "x", verify=True).id == old.id
    assert put(tmp_path / "x", "new", replace=True).id != old.id
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("replace", [False, True])
def test_nothing_but_an_artifact_of_that_kind_is_replaced(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    put(tmp_path / "other", kind="shards")
    for name in ("mine", "file", "other"):
        with pytest.raises(ArtifactError):
            put(tmp_path / name, replace=replace)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    open_artifact(tmp_path / "other", "shards", verify=True)


def test_a_damaged_artifact_can_be_made_again(tmp_path: Path) -> None:
    put(tmp_path / "x")
    (tmp_path / "x" / MANIFEST_NAME).write_text('{"kind": "va')
    assert put(tmp_path / "x", "new", replace=True).manifest.files["inner/weights.bin"].bytes == 3


def test_an_empty_folder_may_become_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    put(tmp_path / "x")


def test_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="link"), publish(tmp_path / "x", "vae", recipe=RECIPE) as scratch:
        (scratch / "a").symlink_to("/etc/hostname")
    assert not (tmp_path / "x").exists()


def test_a_failing_rename_brings_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(tmp_path / "x", "old")
    rename = os.rename

    def fail_for_scratch(source: Path, target: Path) -> None:
        if "scratch" in Path(source).name:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_scratch)
    with pytest.raises(OSError, match="space"):
        put(tmp_path / "x", "new", replace=True)
    monkeypatch.undo()
    assert open_artifact(tmp_path / "x", verify=True).id == old.id


def test_a_second_writer_is_told_who_is_at_work(tmp_path: Path) -> None:
    with publish(tmp_path / "x", "vae", recipe=RECIPE):
        with pytest.raises(ArtifactError, match=f"being written by process {os.getpid()}"):
            put(tmp_path / "x")
    open_artifact(tmp_path / "x")


KILLED = textwrap.dedent("""
    import os, signal, sys
    from pathlib import Path
    from ln3d.artifacts import publish as module, swap
    target, moment = Path(sys.argv[1]), sys.argv[2]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    rename = os.rename
    def rename_then_die(source, destination):
        if moment == "before" or (moment == "between" and "scratch" in str(source)):
            die()
        rename(source, destination)

    if moment == "sealing":
        module.flush_folder = die
    if moment in ("before", "between"):
        os.rename = rename_then_die
    if moment == "deleting":
        swap.shutil.rmtree = die
    with module.publish(target, "vae", recipe={"name": "tiny"}, replace=True) as scratch:
        (scratch / "weights.bin").write_text("new")
        if moment == "filling":
            die()
""")


@pytest.mark.parametrize("moment", ["filling", "sealing", "before", "between", "deleting"])
def test_a_killed_writer_leaves_the_old_or_the_new_one_whole(tmp_path: Path, moment: str) -> None:
    old = put(tmp_path / "x", "old")
    (tmp_path / "killed.py").write_text(KILLED)
    run = subprocess.run([sys.executable, tmp_path / "killed.py", tmp_path / "x", moment], check=False)
    assert run.returncode == -signal.SIGKILL
    found = open_artifact(tmp_path / "x", "vae", verify=True)
    assert (found.id == old.id) == (moment != "deleting")
    put(tmp_path / "x", "again", replace=True)
    assert not leftovers(tmp_path)


def test_everything_is_flushed_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    swap_in = publish_module.swap_in
    monkeypatch.setattr(publish_module, "swap_in", lambda *a: (events.append("rename"), swap_in(*a))[1])
    put(tmp_path / "x")
    before = [Path(event).name for event in events[: events.index("rename")]]
    assert before[:2] == ["weights.bin", MANIFEST_NAME] and before[-1] == "inner"
    assert events[-1] == str(tmp_path)


def test_the_manifest_is_readable_by_people(tmp_path: Path) -> None:
    put(tmp_path / "x")
    text = (tmp_path / "x" / MANIFEST_NAME).read_text()
    assert text.count("\n") > 10 and json.loads(text)["recipe"]["seed"] == 7
