"""A model that carries features and surfaces of real objects is scored as if the objects were there."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from packed_sets import QUIET, SMALL
from stand_in_networks import Corners

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError, LN3DError, RecipeError, WeightsError
from ln3d.export.mesh import Mesh
from ln3d.generation import model as shipped
from ln3d.stages import contestants, evaluate, evaluation_request, inspect, pack
from ln3d.stages.evaluation_request import Networks
from ln3d.stages.evaluation_store import Store
from ln3d.stages.looks import Looks
from ln3d.stages.picture_distances import distances
from ln3d.stages.real_objects import open_real_objects, pictures_of
from ln3d.stages.reference_set import miniature, miniatures, quantised, unquantised
from ln3d.talk import Talk

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.fixture
def ellipsoids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let samples have ellipsoids as their surfaces."""
    ball = trimesh.creation.icosphere(3, 0.8)

    def surface(scene: object, resolution: int, *_: object) -> Mesh:
        surface.calls += 1  # type: ignore[attr-defined]
        stretched = np.asarray(ball.vertices) * [1, 0.3 + 0.2 * (surface.calls % 3), 0.5]  # type: ignore[attr-defined]
        return Mesh(stretched.astype(np.float32), np.asarray(ball.faces, np.int64))

    surface.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(contestants, "field_mesh", surface)


def scored(metric: str, model: Path | None, kept: Path | None, **options: Any) -> dict[str, Any]:
    given = {"networks": Corners().networks(), "overrides": ("evaluation.samples=3",), "workspace": kept, **options}
    return evaluate.run(metric, model, QUIET, **given)


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_a_whole_set_gives_the_figure_of_the_pictures(metric: str, own: Path, whole: Path, tmp_path: Path) -> None:
    here = scored(metric, own, tmp_path / "a", reference=whole, category="car", overrides=SMALL)
    there = scored(metric, own, tmp_path / "b", category="car", overrides=SMALL)
    assert here[metric] == pytest.approx(there[metric], rel=2e-3)  # the features are in half precision
    assert here["interval"] == pytest.approx(there["interval"], rel=5e-3)
    assert here["details"]["held_out"]["value"] == pytest.approx(there["details"]["held_out"]["value"], rel=2e-3)
    same = ("cameras", "pictures", "backbone", "seed", "resize", "interval")
    assert [here["protocol"][name] for name in same] == [there["protocol"][name] for name in same]


@pytest.mark.usefixtures("ellipsoids")
def test_a_whole_set_gives_the_figures_of_the_shapes(own: Path, whole: Path, tmp_path: Path) -> None:
    here = scored("mmd", own, tmp_path / "a", reference=whole, category="car", overrides=SMALL)
    there = scored("mmd", own, tmp_path / "b", category="car", overrides=SMALL)
    assert here["mmd"] == pytest.approx(there["mmd"], rel=1e-3)  # coordinates are in steps of 3e-5
    for name in ("cov", "nna"):
        assert here["details"][name] == there["details"][name]
    assert here["protocol"]["cameras"] == there["protocol"]["cameras"]
    assert here["protocol"]["reference"].startswith(f"all {there['details']['reference']} unique shapes")


def test_a_part_says_how_much_it_is(own: Path, part: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"networks": Corners().networks(), "overrides": ("evaluation.samples=3",), "workspace": tmp_path}
    report = evaluate.run("fid", part, Talk(1), category="car", **options)
    cars = Workspace(own).open("shards")
    total = sum(r["category"] == "car" for r in json.loads(cars.file("catalogue.json").read_text())["objects"])
    described = report["protocol"]["reference"]
    assert described.startswith(f"4 of {3 * total} pictures, of 4 of {total} real objects, drawn by the seed")
    assert report["protocol"]["pictures"] == {"reference": 4, "evaluated": 9}
    assert report["details"]["pictures"] == {"evaluated": 9, "reference": 4}
    assert f"reference: {described}" in capsys.readouterr().err
    assert set(report["inputs"]) == {"reference", "vae", "denoiser"}
    assert open_artifact(report["report"], "report").manifest.inputs["reference"].kind == "reference"


def test_the_set_holds_what_was_looked_at(own: Path, part: Path) -> None:
    real = open_real_objects(own, SMALL, Store(own / "evaluation"))
    kept = open_real_objects(part, (), Store(part))
    records = {record.source_id: record for record in real.objects("car")}
    pictures, theirs = pictures_of(kept, "car", QUIET), pictures_of(real, "car", QUIET)
    network = Corners()
    looks, every = pictures.looks(network, QUIET), theirs.looks(network, QUIET)
    order = [record.source_id for record in theirs.records]
    assert looks.seen.sum() == pictures.count == 4
    for place, record in enumerate(pictures.records):
        row = every.features[order.index(record.source_id)][looks.seen[place]]
        np.testing.assert_allclose(looks.features[place][looks.seen[place]], row, rtol=1e-3)
        assert record.captions == records[record.source_id].captions and record.licence
        difference = pictures.portrait(record).astype(int) - theirs.portrait(records[record.source_id])
        assert np.abs(difference).mean() < 8  # JPEG
    for record in kept.scanned("car"):
        surface = real.cloud(records[record.source_id])
        np.testing.assert_allclose(kept.cloud(record), surface, atol=2e-5)
    assert kept.shards_id == real.artifact.id


def test_the_shipped_model_is_measured_out_of_the_box(
    own: Path, part: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (evaluation_request, shipped):
        monkeypatch.setattr(module, "DEFAULT_MODEL", part)
    before = {path: path.stat().st_mtime_ns for path in part.rglob("*")}
    report = scored("fid", None, None, category="car")
    assert report["fid"] > 0 and report["system"] == "shipped model"
    assert Path(report["report"]) == Path("runs/shipped/report/fid-car-shipped-model")
    assert (tmp_path / report["report"] / "report.json").is_file()
    assert {path: path.stat().st_mtime_ns for path in part.rglob("*")} == before

    ball = trimesh.creation.icosphere(1)
    (tmp_path / "balls").mkdir()
    for name in "ab":
        ball.export(tmp_path / "balls" / f"{name}.ply")
    theirs = scored("kid", None, None, meshes=tmp_path / "balls", category="car")
    assert theirs["system"] == "balls" and theirs["details"]["generated"] == 2


def test_missing_weights_name_the_one_command(part: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError) as problem:
        scored("fid", part, tmp_path, networks=Networks())
    assert problem.value.hint == "run: ln3d fetch inception"


@pytest.mark.parametrize(
    ("metric", "options", "words", "hint"),
    [
        ("fid", {"category": "boat"}, "no object of category boat", "choose one of: car$"),
        ("cov", {"category": "boat"}, "no object of category boat", "choose one of: car$"),
        ("fid", {"overrides": ("evaluation.views=4",)}, "was measured with evaluation.views=3, not 4", "--reference"),
        ("mmd", {"overrides": ("evaluation.points=99",)}, "evaluation.points=256, not 99", "--reference"),
        ("fid", {"overrides": ("seed=1",)}, "changes evaluation", "leave it out"),
        ("clip-i", {}, "holds features of inception, not of clip:ViT-B-32", "--reference"),
        ("psnr", {}, "psnr needs pictures of real objects", "--reference"),
        ("fid", {"networks": Corners(sha256="e" * 64).networks()}, "weights of inception are others", "pack"),
    ],
)
def test_what_a_set_cannot_do_is_one_clear_line(
    part: Path, tmp_path: Path, metric: str, options: dict[str, Any], words: str, hint: str
) -> None:
    with pytest.raises(LN3DError, match=words) as problem:
        scored(metric, part, tmp_path, **options)
    assert "\n" not in problem.value.message
    assert problem.value.hint is not None
    assert hint.removesuffix("$") in problem.value.hint and (hint[-1] != "$" or problem.value.hint.endswith(hint[:-1]))


def test_a_network_is_known_by_its_name_and_weights_wherever_its_file_lies(own: Path, tmp_path: Path) -> None:
    def load(name: str, device: str) -> Corners:
        return Corners("dinov2", "e" * 64 if "other" in name else "f" * 64)

    mine = (*SMALL, "evaluation.backbone=dinov2=/mine/dino.safetensors", "evaluation.clip=clip:ViT-B-32=/mine/clip.st")
    given = {"reference": True, "categories": ("car",), "pictures": 4, "shapes": 2, "load": load}
    pack.run(own, QUIET, output=tmp_path / "set", overrides=mine, **given)
    pack.run(own, QUIET, output=tmp_path / "set", overrides=[o.replace("mine", "moved") for o in mine], **given)
    assert "/mine/" not in (tmp_path / "set" / "reference" / "manifest.json").read_text()
    networks, kept = Networks(image=load), tmp_path / "kept"
    names = ("dinov2", "dinov2=/theirs/dino.safetensors", "dinov2:vit_small_patch14_dinov2=~/dino.safetensors")
    values = [
        scored("fid", tmp_path / "set", kept, networks=networks, overrides=("evaluation.samples=3", f"{key}={name}"))
        for key, name in zip(["evaluation.backbone"] * 3, names, strict=True)
    ]
    assert len({report["fid[dinov2]"] for report in values}) == 1
    for name, words in {
        "dinov2=/other.safetensors": "the weights of dinov2 are others than the reference's: eeeeeeeeeeee..., not ffff",
        "dinov2:vit_base_patch14_dinov2=/mine/dino.safetensors": "features of dinov2, not of dinov2:vit_base",
        "inception": "holds features of dinov2, not of inception",
    }.items():
        with pytest.raises(RecipeError, match=words) as problem:
            scored("fid", tmp_path / "set", kept, networks=networks, overrides=(f"evaluation.backbone={name}",))
        assert "\n" not in problem.value.message


@dataclass
class Words(Corners):
    """A stand-in for CLIP: every text is the same corner."""

    name: str = "clip:ViT-B-32"

    def text_features(self, texts: Any) -> np.ndarray:
        return np.tile(np.float32([1, 0, 0, 0]), (len(texts), 1))


def test_words_need_no_features_of_real_pictures(own: Path, whole: Path, tmp_path: Path) -> None:
    """The set has features of Inception, and CLIP compares the samples with their prompts all the same."""
    networks = Words().networks()
    here = scored("clip-t", whole, tmp_path / "a", networks=networks, category="car")
    there = scored("clip-t", own, tmp_path / "b", networks=networks, category="car", overrides=SMALL)
    assert here["clip-t"] > 0 and here["details"]["all"]["count"] == 3
    assert here["protocol"]["backbone"]["name"] == "clip:ViT-B-32"
    assert here["clip-t"] == there["clip-t"]  # it has all cars, so the prompts are the same
    page = (Path(here["report"]) / "report.html").read_text()
    assert page.count("data:image/png;base64") == 3 and "nearest" not in page


def test_too_few_pictures_for_an_interval_are_one_clear_line(own: Path, tmp_path: Path) -> None:
    """Three pictures of two objects: without one of these a single picture may be left."""
    looks = Looks(np.random.default_rng(0).normal(size=(2, 2, 4)), np.array([[True, True], [True, False]]))
    whole = Looks.whole(np.random.default_rng(1).normal(size=(4, 2, 4)))
    records = open_real_objects(own, SMALL, Store(tmp_path)).objects("car")
    for metric in ("fid", "kid"):
        for pair in ((looks, whole), (whole, looks)):
            with pytest.raises(RecipeError, match=f"{metric} of . pictures against . has no interval"):
                distances(metric, *pair, records)


def test_a_folder_without_real_objects_says_what_it_has(root: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(root / "vae")
    with pytest.raises(ArtifactError, match=r"no shards and no reference set to compare with \(vae is there\)"):
        scored("fid", tmp_path, tmp_path)


def test_a_damaged_set_is_refused(part: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(part, damaged)
    features = damaged / "reference" / "features.safetensors"
    data = bytearray(features.read_bytes())
    data[-1] ^= 1
    features.write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged") as problem:
        scored("fid", damaged, tmp_path)
    assert "ln3d pack" in str(problem.value.hint)


def test_inspect_counts_what_is_in_it(part: Path) -> None:
    facts = inspect.run(part / "reference", QUIET)
    counts = facts["details"]["categories"]["car"]
    assert facts["contents"]["categories"] == {"car": facts["contents"]["objects"]}
    assert counts["pictures"] == facts["contents"]["tensors"]["features.safetensors"]["shapes"]["features"][0] == 4
    assert counts["shapes"] == facts["contents"]["tensors"]["clouds.safetensors"]["shapes"]["points"][0] == 2
    assert facts["verified"]


@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_a_step_is_small(point: list[float]) -> None:
    points = np.float32([point])
    assert np.abs(unquantised(quantised(points)) - points).max() <= 0.5 / 32767 + 1e-7


def test_miniatures_come_back_at_their_places() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (20, 3), dtype=np.uint8)
    data = miniatures([np.broadcast_to(colour, (32, 32, 3)) for colour in colours], 16)
    for place, colour in enumerate(colours):
        found = miniature(data, place, 48)
        assert found.shape == (48, 48, 3)
        assert np.abs(found[16:32, 16:32].mean(axis=(0, 1)) - colour).max() < 4  # edges bleed in a JPEG
