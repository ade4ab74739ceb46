"""Two processes evaluate what one does: the same scores, each a share of the work, and they fail together."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.data.shards import ShardSet

_PROCESS = """
import errno, json, os, sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from ln3d.data.workers import Outcome
from ln3d.errors import LN3DError, WeightsError
from ln3d.generation.model import Generator
from ln3d.geometry.chamfer_minima import NearestSearch
from ln3d.stages import contestants, evaluate, evaluation_question, real_pictures
from ln3d.stages import reconstruction_scores, shape_distances
from ln3d.stages.evaluation_request import Networks
from ln3d.talk import Talk
from ln3d.training.ranks import join

root, meshes, listed, kept = map(Path, sys.argv[1:])
done, ends = Counter(), {}
contestants._BATCH = shape_distances._BLOCK = 2
reconstruction_scores._SMALLEST_FOR_LPIPS = 8
SMALL = ("evaluation.views=3", "evaluation.image_resolution=16", "evaluation.samples=4", "evaluation.points=128")

class Network:
    name, sha256, width, resolution = "inception", "f" * 64, 12, 2

    def features(self, images):
        done["features"] += 1
        return images.reshape(len(images), 2, 8, 2, 8, 3).mean(axis=(2, 4)).reshape(-1, 12).astype(np.float32)

class Here:
    def __init__(self, make, *_):
        self.make = make

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self, tasks):
        done["drawn"] += len(tasks)
        yield from (Outcome(task, self.make(task)) for task in tasks)

def counted(owner, name, size):
    work = getattr(owner, name)

    def counting(*given, **named):
        done[name] += size(given)
        return work(*given, **named)

    setattr(owner, name, counting)

real_pictures.GuardedPool = Here
counted(Generator, "sample", lambda given: len(given[1]))
counted(Generator, "views", lambda given: 1)
counted(NearestSearch, "nearest", lambda given: len(given[1]))
counted(reconstruction_scores, "reconstruct", lambda given: 1)

def run(name, metric, model, **given):
    given = {"overrides": SMALL, "workspace": kept, "networks": Networks(image=lambda name, device: Network())} | given
    try:
        ends[name] = evaluate.run(metric, model, Talk(0), **given)
    except LN3DError as error:
        ends[name] = f"{type(error).__name__}: {error.message}"
    except SystemExit as error:
        ends[name] = error.code

keep = evaluation_question.keep_report

def full(folder, *given):
    if folder.name.startswith("cov"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    keep(folder, *given)

class Distance(torch.nn.Module):
    name, sha256 = "alex", "e" * 64

    def forward(self, ours, real):
        return (ours - real).square().mean(dim=(1, 2, 3))

def lpips(name):
    if ranks.index == 1:
        raise WeightsError("the weights of lpips are not on this machine")
    return Distance()

with join("cpu") as (ranks, device):
    run("fid", "fid", root)
    run("psnr", "psnr", root)
    run("cov", "cov", None, meshes=meshes, reference=root)
    run("kid", "kid", None, meshes=meshes, reference=root)
    run("all", "all", None, meshes=meshes, reference=root)
    evaluation_question.keep_report = full
    run("full", "all", None, meshes=meshes, reference=root, output=Path(f"{kept}-full"))
    evaluation_question.keep_report = keep
    for name in ("unseen", "seen by the first"):
        run(name, "mmd", None, meshes=meshes, reference=root, output=Path(f"{kept}-{ranks.index}"))
    run("listed", "psnr", root, objects=listed, networks=Networks(perceptual=lpips))
    run("vase", "fid", root, category="vase")
    run("lost", "fid", kept / "nowhere")
    ends["done"] = done
    Path(f"{kept}-{ranks.index}.json").write_text(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def ends(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what the only process, and the first and the second of two, came to."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "process.py").write_text(_PROCESS)
    (folder / "boxes").mkdir()
    for number in range(3):
        _write_box(folder / "boxes" / f"{number}.obj", (1, 0.3 + 0.3 * number, 0.5))
    shards = ShardSet(Workspace(root).open("shards"))
    listed = {"train": [record.source_id for record in shards.objects if record.split == "train"]}
    (folder / "list.json").write_text(json.dumps(listed))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    local = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    running = []
    for kept, launcher in (("one", []), ("two", torchrun)):
        places = [str(place) for place in (root, folder / "boxes", folder / "list.json", folder / kept)]
        command = [sys.executable, *launcher, "process.py", *places]
        with open(folder / f"{kept}.said", "w") as said:
            running.append(
                subprocess.Popen(command, cwd=folder, env=os.environ | local, stdout=said, stderr=subprocess.STDOUT)
            )
    for process in running:
        process.wait()
    found = {}
    for name, kept in (("alone", "one-0"), ("first", "two-0"), ("second", "two-1")):
        path = folder / f"{kept}.json"
        assert path.exists(), (folder / f"{kept.partition('-')[0]}.said").read_text()
        found[name] = json.loads(path.read_text())
    return found


def _write_box(path: Path, sides: tuple[float, float, float]) -> None:
    corners = [[(n >> axis & 1) * side for axis, side in enumerate(sides)] for n in range(8)]
    faces = [[1, 3, 4, 2], [5, 6, 8, 7], [1, 2, 6, 5], [3, 7, 8, 4], [1, 5, 7, 3], [2, 4, 8, 6]]
    lines = [*("v {} {} {}".format(*corner) for corner in corners), *("f {} {} {} {}".format(*face) for face in faces)]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("metric", ["fid", "psnr", "cov", "kid"])
def test_two_processes_come_to_the_same_scores(ends: dict[str, dict[str, Any]], metric: str) -> None:
    alone = ends["alone"][metric]
    for who in ("first", "second"):
        report = ends[who][metric]
        assert _figures(report) == pytest.approx(_figures(alone), rel=1e-5, abs=1e-9)
        assert report["protocol"] == alone["protocol"]
    artifact = open_artifact(ends["first"][metric]["report"], "report", verify=True)
    assert json.loads(artifact.file("report.json").read_text())[metric] == ends["first"][metric][metric]


def _figures(report: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Return all numbers of a report's details by their path."""
    found: dict[str, float] = {}
    for name, value in (report["details"] if not prefix else report).items():
        if isinstance(value, dict):
            found |= _figures(value, f"{prefix}/{name}")
        elif isinstance(value, (int, float)):
            found[f"{prefix}/{name}"] = value
    return found


def test_they_divide_the_work(ends: dict[str, dict[str, Any]]) -> None:
    alone, first, second = (ends[who]["done"] for who in ("alone", "first", "second"))
    assert alone.keys() == first.keys()
    for work, count in alone.items():
        assert first[work] + second[work] <= count + 1, work  # the pictures of the report come from the first alone
        assert second[work] >= 0.15 * count, work  # of so few, in blocks of two, the first one has more


def test_what_one_of_several_metrics_lacks_stops_no_other(ends: dict[str, dict[str, Any]]) -> None:
    alone, first, second = (ends[who]["all"] for who in ("alone", "first", "second"))
    assert first["results"].keys() == second["results"].keys() == alone["results"].keys()
    assert alone["results"].keys() >= {"fid", "kid", "cov", "nna"}
    assert first["lacking"] == alone["lacking"]
    assert alone["lacking"].keys() >= {"clip-t"}


def test_a_full_disk_costs_the_report_that_it_met_and_parts_nobody(ends: dict[str, dict[str, Any]]) -> None:
    alone, first, second = (ends[who]["full"] for who in ("alone", "first", "second"))
    assert alone["results"].keys() == ends["alone"]["all"]["results"].keys() - {"cov"}
    assert first["results"].keys() == second["results"].keys() == alone["results"].keys()
    assert first["lacking"].keys() == alone["lacking"].keys()
    assert "No space left on device" in first["lacking"]["cov"]


def test_the_first_one_decides_whether_a_report_is_there(ends: dict[str, dict[str, Any]]) -> None:
    """Each looks in a place of its own, so that the second one never finds what the first one has published."""
    for name in ("unseen", "seen by the first"):
        for who in ("first", "second"):
            assert ends[who][name]["mmd"] == pytest.approx(ends["alone"][name]["mmd"], rel=1e-5)


def test_lpips_is_measured_beside_a_list_where_all_have_its_network(ends: dict[str, dict[str, Any]]) -> None:
    rows = {who: ends[who]["listed"]["details"]["train"]["all"] for who in ends}
    assert {who for who, row in rows.items() if "lpips" in row} == {"alone"}
    assert rows["first"] == rows["second"]


def test_they_fail_together(ends: dict[str, dict[str, Any]]) -> None:
    assert ends["first"]["vase"] == ends["alone"]["vase"] == "RecipeError: there is no object of category vase"
    assert ends["second"]["vase"] == 2
    assert ends["first"]["lost"].startswith("ArtifactError") and ends["second"]["lost"] == 3
