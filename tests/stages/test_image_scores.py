"""FID, KID and CLIP similarities of sets whose figures are known, and what the metrics share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_sets import QUIET, SMALL
from PIL import Image
from stand_in_networks import StandIn

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.readers.scene import normalised
from ln3d.data.workers import GuardedPool
from ln3d.errors import ArtifactError, LN3DError, RecipeError, WeightsError
from ln3d.export.mesh import Mesh, write_mesh
from ln3d.generation.model import Generator
from ln3d.stages import evaluate, evaluation_request, real_pictures
from ln3d.stages.contestants import Samples
from ln3d.stages.evaluation_reports import siblings
from ln3d.stages.evaluation_request import Networks
from ln3d.stages.evaluation_store import Store
from ln3d.stages.image_scores import titled
from ln3d.stages.real_pictures import RealPictures, draw_each, drawing_order
from ln3d.stages.reference import Reference
from ln3d.talk import Talk

pytestmark = pytest.mark.usefixtures("in_this_process")


@dataclass
class Projection(StandIn):
    """Pictures averaged to 4 x 4, projected at random."""

    width: int = 6
    resolution: int = 4
    fails_after: int = 1000
    calls: list[int] = field(default_factory=list)

    def features(self, images: np.ndarray) -> np.ndarray:
        if len(self.calls) == self.fails_after:
            raise KeyboardInterrupt
        self.calls.append(len(images))
        small = images.reshape(len(images), 4, images.shape[1] // 4, 4, -1, 3).mean(axis=(2, 4)).reshape(-1, 48)
        return (small / 255 @ np.random.default_rng(0).normal(size=(48, self.width))).astype(np.float32)

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.arange(self.width) + len(text) for text in texts]).astype(np.float32)


@dataclass
class Turned(StandIn):
    """Every picture is a unit vector, and a text of n letters one that is turned by n degrees."""

    name: str = "clip:ViT-B-32"
    sha256: str = "a" * 64
    width: int = 2
    resolution: int = 16

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([2, 0]), (len(images), 1))

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        angles = np.radians([len(text) for text in texts])
        return np.stack([3 * np.cos(angles), 3 * np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def reference(root: Path, tmp_path: Path) -> Reference:
    return Reference(Workspace(root), Workspace(root).open("shards"), SMALL, Store(tmp_path / "kept"))


def real_folder(reference: Reference, folder: Path, chosen: slice = slice(None), prompt: str = "") -> Path:
    """Write the pictures of the real objects as another system would hand them in."""
    real = RealPictures(reference, reference.objects(None), QUIET)
    real.draw(QUIET)
    for number, record in enumerate(real.records[chosen]):
        (folder / f"{number:02d}").mkdir(parents=True)
        for view, picture in enumerate(real.views(record)):
            Image.fromarray(picture).save(folder / f"{number:02d}" / f"{view:03d}.png")
        if prompt:
            (folder / f"{number:02d}" / "prompt.txt").write_text(prompt)
    return folder


def scored(metric: str, root: Path, kept: Path, backbone: Any = None, **options: Any) -> dict[str, Any]:
    networks = (backbone or Projection()).networks() if not isinstance(backbone, Networks) else backbone
    given: dict[str, Any] = {"overrides": SMALL, "workspace": kept, "networks": networks, **options}
    if not {"meshes", "renders"} & given.keys():
        return evaluate.run(metric, root, QUIET, **given)
    return evaluate.run(metric, None, QUIET, reference=root, **given)


def test_the_real_pictures_themselves_are_perfect(root: Path, reference: Reference, tmp_path: Path) -> None:
    renders = real_folder(reference, tmp_path / "perfect")
    report = scored("fid", root, tmp_path / "w", renders=renders)
    assert report["fid"] == pytest.approx(0, abs=1e-6)
    assert (report["system"], report["protocol"]["evaluated"]["renders"]) == ("perfect", len(reference.objects(None)))
    similar = scored("clip-i", root, tmp_path / "w", Projection("clip:ViT-B-32"), renders=renders)
    assert similar["clip-i"] == pytest.approx(100, abs=1e-4)
    collapsed = real_folder(reference, tmp_path / "collapsed", slice(0, 2))
    assert scored("fid", root, tmp_path / "w", renders=collapsed)["fid"] > 0.01


def test_a_report_says_all_that_another_would_need(root: Path, reference: Reference, tmp_path: Path) -> None:
    report = scored("fid", root, tmp_path, renders=real_folder(reference, tmp_path / "x"))
    protocol, details = report["protocol"], report["details"]
    assert protocol["backbone"] == {
        "name": "inception",
        "sha256": "f" * 64,
        "width": 6,
        "resolution": 4,
        "stand_in": False,
    }
    cameras = np.array(protocol["cameras"]["camera_to_world"])
    assert cameras.shape == (3, 4, 4) and np.allclose(cameras[:, 1, 3], 3.2 * 0.5)
    assert protocol["pictures"]["reference"] == 3 * len(reference.objects(None)) == 3 * details["all"]["count"]
    assert protocol["cameras"]["reference_cameras"].startswith("closed orbit")
    assert {"resize", "seed", "interval", "evaluated", "background"} <= protocol.keys()
    low, high = report["interval"]
    assert 0 <= low <= report["fid"] <= high
    unseen = sum(record.split == "test" for record in reference.objects(None))
    assert details["held_out"]["count"] == unseen if unseen > 1 else "held_out" not in details
    files = open_artifact(report["report"], "report", verify=True).manifest.files
    assert set(files) == {"report.json", "report.html", "contact.png"}
    assert (Path(report["report"]) / "report.html").read_text().count("data:image/png;base64") == 18


def test_an_interrupted_evaluation_goes_on(root: Path, tmp_path: Path) -> None:
    objects = 9 + 3
    whole = scored("fid", root, tmp_path / "a")
    broken, rest = Projection(fails_after=10), Projection()
    with pytest.raises(KeyboardInterrupt):
        scored("fid", root, tmp_path / "b", broken)
    again = scored("fid", root, tmp_path / "b", rest)
    assert (len(broken.calls), len(rest.calls)) == (10, objects - 10)
    assert {k: v for k, v in again.items() if k != "report"} == {k: v for k, v in whole.items() if k != "report"}


def test_metrics_share_samples_pictures_and_features(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored("fid", root, tmp_path)
    second = Projection()
    monkeypatch.setattr(Generator, "sample", None)
    monkeypatch.setattr(Generator, "views", None)
    monkeypatch.setattr(
        real_pictures, "draw_each", lambda order, entries, talk, title: iter(()) if not entries else 1 / 0
    )
    scored("kid", root, tmp_path, second)
    assert second.calls == []
    other = Projection("other", "e" * 64)
    assert "clip-i[other]" in scored("clip-i", root, tmp_path, other)
    assert len(other.calls) == 12


def test_a_stand_in_is_named_wherever_the_figure_is(root: Path, tmp_path: Path, capsys: Any) -> None:
    networks = Projection("efficientnet-lite0").networks()
    report = evaluate.run("fid", root, Talk(1), overrides=SMALL, workspace=tmp_path, networks=networks)
    assert report["metric"] == "fid[efficientnet-lite0]" and report["fid[efficientnet-lite0]"] > 0
    assert Path(report["report"]).name.startswith("fid-efficientnet-lite0-tiny-")
    assert "fid[efficientnet-lite0] (95 %)" in capsys.readouterr().err
    assert report["protocol"]["backbone"]["stand_in"]
    assert [titled("fid", "inception"), titled("clip-i", "clip:ViT-L-14")] == ["fid", "clip-i[clip:ViT-L-14]"]


def test_clip_t_is_the_cosine_with_the_prompt(root: Path, reference: Reference, tmp_path: Path) -> None:
    renders = real_folder(reference, tmp_path / "x", prompt="t" * 60)
    networks = Turned().networks()
    report = scored("clip-t", root, tmp_path, networks, renders=renders)
    assert report["clip-t"] == pytest.approx(50, abs=1e-4)
    assert report["unit"] == "%"


def test_clip_i_is_the_cosine_with_the_object_whose_words_a_sample_has(root: Path, tmp_path: Path) -> None:
    backbone = Projection("clip:ViT-B-32")
    report = scored("clip-i", root, tmp_path, backbone)
    reference = Reference(Workspace(root), Workspace(root).open("shards"), SMALL, Store(tmp_path / "evaluation"))
    real = RealPictures(reference, reference.objects(None), QUIET)
    samples = Samples("model", Generator.load(root), reference.prompts(None, 3), reference.store)
    expected = []
    for ours, record in zip(samples.pictures(real.cameras, QUIET), reference.shapes(None), strict=False):
        a, b = backbone.features(np.asarray(ours)), backbone.features(real.views(record))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        expected.append(100 * np.mean((a * b).sum(axis=1) / lengths))
    assert len(expected) == report["details"]["all"]["count"] == 3
    assert report["clip-i"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert "whose words" in report["protocol"]["pairs"]


def test_without_meshes_the_views_of_the_shards_are_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise RecipeError("there is no such folder")

    monkeypatch.setattr(real_pictures, "list_objects", gone)
    cameras = scored("fid", root, tmp_path)["protocol"]["cameras"]
    assert cameras["reference_cameras"] == "the views of the shards (there is no such folder)"
    assert (cameras["views"], cameras["resolution"]) == (6, 16)


def test_meshes_of_another_system_are_scanned_and_drawn_like_the_data(
    root: Path, reference: Reference, tmp_path: Path
) -> None:
    entries = {entry.source_id: entry for entry in list_objects(reference.dataset)}
    (tmp_path / "ours").mkdir()
    for number, record in enumerate(reference.shapes(None)):
        scene = normalised(load_object(entries[record.source_id], reference.dataset.limits))
        firsts = np.cumsum([0] + [len(part.vertices) for part in scene.parts])
        faces = np.concatenate([p.faces + first for p, first in zip(scene.parts, firsts[:-1], strict=True)])
        vertices = 3 + 7 * np.concatenate([part.vertices for part in scene.parts])  # any place, any size
        write_mesh(Mesh(vertices.astype(np.float32), faces), tmp_path / "ours" / f"{number:02d}.ply")
    report = scored("cov", root, tmp_path / "w", meshes=tmp_path / "ours")
    assert (report["cov"], report["details"]["nna"]["value"], report["system"]) == (100, 0, "ours")
    pictures = scored("fid", root, tmp_path / "w", meshes=tmp_path / "ours")
    assert pictures["protocol"]["evaluated"]["meshes"] == len(reference.shapes(None))
    kept = {path.stem for path in (tmp_path / "w" / "evaluation" / "pictures").rglob("*.png")}
    assert len(kept) >= len(reference.objects(None)) + len(reference.shapes(None))


def test_a_kernel_distance_says_which_subsets_it_is_the_mean_of(
    root: Path, reference: Reference, tmp_path: Path
) -> None:
    """Those that were compared count, not those that were to be: one of the meshes has nothing to draw."""
    for number in range(3):
        corners = np.random.default_rng(number).uniform(-1, 1, (4, 3)).astype(np.float32)
        tetrahedron = Mesh(corners, np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))
        (tmp_path / "ours").mkdir(exist_ok=True)
        write_mesh(tetrahedron, tmp_path / "ours" / f"{number}.ply")
    (tmp_path / "ours" / "broken.obj").write_text("v 0 0 0\nf 1 2 3\n")
    report = scored("kid", root, tmp_path / "w", meshes=tmp_path / "ours")
    protocol, details = report["protocol"], report["details"]
    assert (details["generated"], details["failed"]) == (3, 1)
    assert (protocol["subsets"], protocol["subset_size"], protocol["subset_seed"]) == (100, 3 * 3, 2020)
    assert "10 groups of objects left out in turn, 10 subsets each" in protocol["interval"]
    unseen = 3 * details["held_out"]["count"]
    assert (details["all"]["subset_size"], details["held_out"]["subset_size"]) == (9, min(9, unseen))
    fewer = {**report, "system": "other", "protocol": {**protocol, "subset_size": 6}}
    others = siblings(Path(report["report"]).parent / "other", fewer)
    assert [other["system"] for other in others] == ["ours"]


def test_worker_processes_draw_what_this_one_does(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = list_objects(reference.dataset)[:1]
    order = drawing_order(reference, reference.shape_cameras(), "rig")
    ((_, here),) = draw_each(order, entries, QUIET, "draw")
    monkeypatch.setattr(real_pictures, "GuardedPool", GuardedPool)
    monkeypatch.setattr(real_pictures, "own_cores", lambda: 1)
    ((_, there),) = draw_each(order, entries, QUIET, "draw")
    assert not isinstance(here, str) and not isinstance(there, str)
    assert np.array_equal(here.colour, there.colour) and np.array_equal(here.depth, there.depth)
    stored = reference.shards
    place = next(r.index for r in stored.objects if r.source_id == entries[0].source_id)
    assert np.allclose(there.depth[0], stored.depth(place, 0), atol=1e-4)


def test_all_runs_what_has_its_networks_and_lists_what_is_lacking(root: Path, tmp_path: Path) -> None:
    def load(name: str, device: str) -> Any:
        if name == "inception":
            return Projection()
        raise WeightsError(f"the weights of {name} are missing", "run: ln3d fetch clip")

    def none(name: str) -> Any:
        raise WeightsError("the weights of lpips are missing", "run: ln3d fetch lpips")

    result = scored("all", root, tmp_path, Networks(load, none))
    assert {"fid", "kid", "psnr", "ssim"} <= result["results"].keys()
    assert result["lacking"]["clip-i"] == "the weights of clip:ViT-B-32 are missing"
    assert result["lacking"]["lpips"] == "the weights of lpips are missing"
    assert all(Path(found["report"]).is_dir() for found in result["results"].values())


def test_systems_of_one_protocol_share_a_table(
    root: Path, reference: Reference, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored("fid", root, tmp_path / "w", renders=real_folder(reference, tmp_path / "perfect"))
    capsys.readouterr()
    networks = Projection().networks()
    evaluate.run("fid", root, Talk(1), overrides=SMALL, workspace=tmp_path / "w", networks=networks)
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert {"model", "perfect"} <= {line[0] for line in lines if line}


def test_few_pictures_are_warned_about(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored("fid", root, tmp_path, Projection(width=9))
    assert "warning: 9 pictures of model are too few for 9 features" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "options", "words"),
    [
        ("fid", {"renders": "few"}, "has 2 pictures, the protocol 3"),
        ("fid", {"renders": "small"}, "has 8x8 pixels, the protocol 16x16"),
        ("fid", {"renders": "one"}, "fid of 1 object of one"),
        ("fid", {"renders": "empty"}, "no pictures <object>/<view>.png"),
        ("fid", {"meshes": "empty"}, "no objects of kind folder"),
        ("fid", {"meshes": "nowhere"}, "no such folder"),
        ("cov", {"renders": "good"}, "have no surface to compare"),
        ("psnr", {"renders": "good"}, "measures how a model gives real objects back"),
        ("clip-t", {"renders": "good"}, "needs the words"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(
    root: Path, tmp_path: Path, metric: str, options: dict[str, str], words: str
) -> None:
    def fill(name: str, objects: int, views: int, side: int = 16) -> None:
        for number in range(objects):
            (tmp_path / name / str(number)).mkdir(parents=True)
            for view in range(views):
                Image.new("RGB", (side, side)).save(tmp_path / name / str(number) / f"{view}.png")

    (tmp_path / "empty").mkdir()
    fill("few", 2, 2)
    fill("small", 2, 3, 8)
    fill("one", 1, 3)
    fill("good", 2, 3)
    given = {name: tmp_path / folder for name, folder in options.items()}
    with pytest.raises(LN3DError, match=words) as caught:
        scored(metric, root, tmp_path / "w", **given)
    assert caught.value.hint and "\n" not in caught.value.message


def test_files_need_something_to_be_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_request, "DEFAULT_MODEL", tmp_path)
    with pytest.raises(ArtifactError, match=r"no reference set to compare with \(nothing is there\)") as caught:
        evaluate.run("fid", None, QUIET, renders=tmp_path)
    assert "--reference" in caught.value.hint
