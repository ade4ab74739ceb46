"""What counts as the same training: the recipe's values that decide the weights, the seed and the inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ln3d.artifacts.manifest import InputRef, Manifest
from ln3d.artifacts.publish import publish
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.training import INDIFFERENT, TrainingConfig
from ln3d.errors import ArtifactError
from ln3d.stages.freshness import mark_of_trained, training_mark, up_to_date

RecipeOf = Callable[..., Recipe]
INPUTS = {"shards": "an id"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("vae.training.workers=3", True),
        ("vae.training.accumulate=2", True),
        ("vae.training.log_every=7", True),
        ("vae.training.trackers=[wandb]", True),
        ("diffusion.dit.width=32", True),
        ("vae.training.batch=4", False),
        ("vae.training.learning_rates={encoder: 0.5}", False),
        ("vae.training.ema=0.5", False),
        ("vae.losses.l2=3", False),
        ("seed=1", False),
    ],
)
def test_what_decides_the_weights_is_in_the_mark(tiny_recipe: RecipeOf, change: str, same: bool) -> None:
    marks = [training_mark("vae", recipe, INPUTS) for recipe in (tiny_recipe(), tiny_recipe(change))]
    assert (marks[0] == marks[1]) == same
    assert training_mark("vae", tiny_recipe(), {"shards": "another"}) not in marks


def test_how_it_is_sampled_is_not_in_the_mark_of_a_denoiser(tiny_recipe: RecipeOf) -> None:
    marks = [
        training_mark("denoiser", tiny_recipe(*change), INPUTS)
        for change in ((), ("diffusion.sampler.steps=3", "vae.losses.l2=3"), ("diffusion.balance=0.1",))
    ]
    assert marks[0] == marks[1] != marks[2]
    assert marks[0] != training_mark("vae", tiny_recipe(), INPUTS)


def test_local_files_of_weights_are_in_the_mark_by_their_content(tiny_recipe: RecipeOf) -> None:
    marks = [training_mark("vae", tiny_recipe(), INPUTS, local) for local in ({}, {"discriminators": "a"})]
    marks.append(training_mark("vae", tiny_recipe(), INPUTS, {"discriminators": "b"}))
    assert len(set(marks)) == 3 and marks[0] == training_mark("vae", tiny_recipe(), INPUTS)


def test_an_artifact_that_does_not_say_its_local_files_is_taken_to_have_todays(
    tiny_recipe: RecipeOf, tmp_path: Path
) -> None:
    workspace, local = Workspace(tmp_path), {"discriminators": "a"}
    stored = tiny_recipe().model_dump(mode="json")
    manifest = _manifest(stored, workspace, "of another time")
    assert mark_of_trained(manifest, local) == training_mark("vae", tiny_recipe(), INPUTS, local)
    manifest = _manifest(stored, workspace, "", {"discriminators": {"name": "dinov2", "sha256": "b"}})
    for asked in ({}, local):
        stated = training_mark("vae", tiny_recipe(), INPUTS, {"discriminators": "b"})
        assert mark_of_trained(manifest, asked) == stated


def test_indifferent_values_exist() -> None:
    assert TrainingConfig.model_fields.keys() >= INDIFFERENT


def _manifest(
    recipe: dict[str, Any], workspace: Workspace, mark: str, details: dict[str, Any] | None = None
) -> Manifest:
    inputs, said = {"shards": InputRef(kind="shards", id="an id", name="tiny")}, details or {}
    place = workspace.path("vae")
    with publish(place, "vae", recipe=recipe, inputs=inputs, details=said, fingerprint=mark, replace=True):
        pass
    return workspace.open("vae").manifest


def test_an_artifact_of_an_older_version_is_known_by_its_recipe(tiny_recipe: RecipeOf, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    mark, stored = training_mark("vae", tiny_recipe(), INPUTS), tiny_recipe().model_dump(mode="json")
    for name in ("accumulate", "learning_rates", "trackers", "sheet_every"):
        del stored["vae"]["training"][name]  # as it was before there were such values
    assert mark_of_trained(_manifest(stored, workspace, "of another time")) == mark
    assert up_to_date(workspace, "vae", mark, mark_of_trained) is not None
    with pytest.raises(ArtifactError, match="made with another recipe"):
        up_to_date(workspace, "vae", mark)
    stored["vae"]["training"]["ema"] = 0.5
    _manifest(stored, workspace, "of another time")
    with pytest.raises(ArtifactError, match="made with another recipe"):
        up_to_date(workspace, "vae", mark, mark_of_trained)
    stored["vae"]["forgotten"] = 1
    assert mark_of_trained(_manifest(stored, workspace, "")) == ""
