"""What samples are held against: training objects have known scores, reconstructions are the VAE's pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stand_in_networks import Corners

from ln3d.artifacts.workspace import Workspace
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ObjectRecord
from ln3d.errors import ArtifactError, LN3DError, RecipeError
from ln3d.generation.model import Generator
from ln3d.stages import evaluate
from ln3d.stages.evaluation_request import Networks
from ln3d.stages.evaluation_store import Store
from ln3d.stages.real_pictures import RealPictures, to_uint8
from ln3d.stages.reference import Reference
from ln3d.stages.yardsticks import Reconstructions, TrainingObjects, training_shapes
from ln3d.talk import Talk
from ln3d.training.reconstruction import encode_object, evaluation_views

pytestmark = pytest.mark.usefixtures("in_this_process")
QUIET = Talk(0)
SMALL = ("evaluation.views=3", "evaluation.image_resolution=16", "evaluation.points=256")


def scored(metric: str, root: Path, kept: Path, **options: Any) -> dict[str, Any]:
    networks = Networks(image=lambda name, device: Corners(name))
    given = {"overrides": SMALL, "workspace": kept, "networks": networks, "count": 9} | options
    return evaluate.run(metric, root, QUIET, **given)


def reference_of(root: Path, kept: Path) -> Reference:
    workspace = Workspace(root)
    return Reference(workspace, workspace.open("shards"), SMALL, Store(kept / "evaluation"))


def of_all(reference: Reference) -> list[ObjectRecord]:
    return training_shapes(reference, None, 99)


def test_training_objects_cover_themselves_and_nothing_else(root: Path, tmp_path: Path) -> None:
    reference = reference_of(root, tmp_path)
    shapes, chosen = reference.shapes(None), of_all(reference)
    assert {record.split for record in chosen} == {"train"} and len(chosen) < len(shapes)
    report = scored("cov", root, tmp_path, of="training-objects")
    assert report["cov"] == pytest.approx(100 * len(chosen) / len(shapes))
    assert report["details"]["generated"] == len(chosen) and report["system"] == "training objects"


def test_what_the_model_was_trained_on_is_at_no_distance_from_itself(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = of_all(reference_of(root, tmp_path))
    monkeypatch.setattr(Reference, "objects", lambda self, category: chosen)
    assert scored("fid", root, tmp_path, of="training-objects")["fid"] == pytest.approx(0, abs=1e-9)
    assert scored("mmd", root, tmp_path, of="training-objects")["mmd"] == 0
    assert scored("nna", root, tmp_path, of="training-objects")["nna"] == 0


def test_pictures_of_training_objects_are_those_of_the_reference(root: Path, tmp_path: Path) -> None:
    reference = reference_of(root, tmp_path)
    chosen = of_all(reference)
    real, subject = RealPictures(reference, chosen, QUIET), TrainingObjects(reference, chosen)
    real.draw(QUIET)
    for place, views in zip((1, 0), subject.pictures(real.cameras, QUIET, [1, 0]), strict=True):
        np.testing.assert_array_equal(views, real.views(chosen[place]))
    stored = next(iter(subject.pictures(reference.shape_cameras(), QUIET)))
    every = range(reference.shards.views)
    np.testing.assert_array_equal(stored, to_uint8(Pictures(reference.shards).stack(chosen[0].index, every)[0]))


def test_a_reconstruction_is_the_decoded_mean_of_the_posterior(root: Path, tmp_path: Path) -> None:
    reference, generator = reference_of(root, tmp_path), Generator.load(root, sampling=False)
    chosen = of_all(reference)
    subject = Reconstructions("model", generator, reference, chosen)
    cameras = RealPictures(reference, chosen, QUIET).cameras
    inputs, _ = evaluation_views(generator.autoencoder.config, reference.shards)
    posterior = encode_object(generator.autoencoder, Pictures(reference.shards), chosen[1].index, inputs)
    poses, lenses = torch.from_numpy(cameras.camera_to_world), torch.from_numpy(cameras.intrinsics)
    expected = to_uint8(generator.views(posterior.mean, poses, lenses, cameras.size)[0])
    np.testing.assert_array_equal(next(iter(subject.pictures(cameras, QUIET, [1]))), expected)
    assert len({subject.key(number) for number in range(len(chosen))}) == len(chosen)


def test_reports_of_a_model_and_of_its_yardsticks_lie_side_by_side(root: Path, tmp_path: Path) -> None:
    folders = {scored("fid", root, tmp_path, of=of)["report"] for of in ("samples", "reconstructions")}
    again = scored("fid", root, tmp_path, of="reconstructions")
    assert len(folders) == 2 and again["report"] in folders
    assert again["protocol"]["evaluated"]["latent"] == "posterior mean"
    assert set(again["inputs"]) == {"shards", "vae"}


@pytest.mark.parametrize("of", ["reconstructions", "training-objects"])
def test_without_words_there_is_no_similarity_to_them(root: Path, tmp_path: Path, of: str) -> None:
    with pytest.raises(RecipeError, match="clip-t needs the words"):
        scored("clip-t", root, tmp_path, of=of)
    results = scored("all", root, tmp_path, of=of, output=tmp_path / "report")["results"]
    assert not {"psnr", "ssim", "lpips", "clip-t"} & set(results) and {"fid", "kid"} <= set(results)


@pytest.mark.parametrize(
    ("metric", "options", "error", "message"),
    [
        ("fid", {"of": "dreams"}, RecipeError, "dreams.*"),
        ("psnr", {"of": "reconstructions"}, RecipeError, "--of reconstructions does not go with psnr"),
        ("cov", {"of": "training-objects", "count": 1}, RecipeError, "of 1 sample"),
    ],
)
def test_what_makes_no_sense_is_refused(
    root: Path, tmp_path: Path, metric: str, options: dict[str, Any], error: type[LN3DError], message: str
) -> None:
    with pytest.raises(error, match=message):
        scored(metric, root, tmp_path, **options)


def test_other_systems_have_no_vae_of_ours(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not go with other systems' files"):
        scored("fid", None, tmp_path, of="reconstructions", meshes=tmp_path, reference=root)  # type: ignore[arg-type]


def test_the_shipped_model_has_features_and_no_views(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="training-objects need the views of real objects"):
        scored("fid", None, tmp_path, of="training-objects", overrides=(), category="car")  # type: ignore[arg-type]
