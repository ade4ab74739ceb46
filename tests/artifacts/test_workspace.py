import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ln3d.artifacts.publish import publish
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError

HOLDER = """
import sys
from ln3d.artifacts.workspace import Workspace
with Workspace(sys.argv[1]).lock("train-vae"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    with pytest.raises(ArtifactError, match="no workspace"):
        workspace.open("vae")
    workspace.root.mkdir()
    with pytest.raises(ArtifactError, match="has no vae yet") as caught:
        workspace.open("vae")
    assert caught.value.hint == f"run: ln3d train-vae RECIPE -w {workspace.root}"


def test_what_was_published_is_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    assert not workspace.has("vae")
    with publish(workspace.path("vae"), "vae", recipe={}):
        pass
    assert workspace.has("vae") and workspace.open("vae", verify=True).path == workspace.path("vae")
    assert workspace.partial("vae") == tmp_path / "run" / "vae.partial"
    with pytest.raises(KeyError):
        workspace.path("cake")


def test_one_process_per_stage_and_none_stays_locked_out_by_a_killed_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "run")
    command = [sys.executable, "-c", HOLDER, str(workspace.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(ArtifactError, match=f"train-vae of .* is being written by process {holder.pid}$"):
            with workspace.lock("train-vae"):
                raise AssertionError("two at work")
        with workspace.lock("encode"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with workspace.lock("train-vae"):
        pass
    with workspace.lock("train-vae"):
        pass
