"""What tests of evaluations share: small untrained models, packed ones, and drawing without other processes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from packed_sets import PART, QUIET, WHOLE, packed

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data import engines
from ln3d.data.workers import Outcome
from ln3d.errors import MeshError
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.dit import build_denoiser
from ln3d.stages import real_pictures, render_dataset


class Here:
    """Draws in this process, where the real pool would start others for every test."""

    def __init__(self, make: Any, *_: object) -> None:
        self.make = make

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks: Sequence[Any]) -> Iterator[Outcome]:
        for task in tasks:
            try:
                yield Outcome(task, self.make(task))
            except MeshError as error:
                yield Outcome(task, None, error.message)


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    """Draw in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (real_pictures, engines):
            patch.setattr(module, "GuardedPool", Here)
        yield


@pytest.fixture(scope="session")
def publish_untrained(tiny_recipe: Any) -> Callable[[Workspace], None]:
    """Return a function that publishes an untrained model in a workspace that has shards."""
    recipe: Recipe = tiny_recipe("mesh.resolution=16", "diffusion.condition.kind=text", "diffusion.condition.depth=1")

    def publish_model(workspace: Workspace) -> None:
        torch.manual_seed(0)
        inputs = {"shards": workspace.open("shards")}
        with publish(workspace.path("vae"), "vae", recipe=recipe, inputs=inputs, details={"iso": 5.0}) as to:
            save_tensors(to / "weights.safetensors", dict(Autoencoder(recipe.vae).state_dict()))
        inputs = {"vae": workspace.open("vae")}
        with publish(workspace.path("denoiser"), "denoiser", recipe=recipe, inputs=inputs) as to:
            denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent)
            save_tensors(to / "weights.safetensors", dict(denoiser.state_dict()))
            statistics = {"mean": torch.zeros(3, 2, 1, 1), "std": torch.ones(3, 2, 1, 1)}
            save_tensors(to / "statistics.safetensors", statistics)

    return publish_model


@pytest.fixture(scope="session")
def root(
    tiny_run: Workspace, publish_untrained: Callable[[Workspace], None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a workspace with the tiny shards and an untrained model. It is everybody's: nobody may write into it."""
    workspace = Workspace(tmp_path_factory.mktemp("run") / "tiny")
    workspace.root.mkdir()
    workspace.path("shards").symlink_to(tiny_run.path("shards"))
    publish_untrained(workspace)
    return workspace.root


@pytest.fixture(scope="module")
def data(in_this_process: None, tiny_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with shards alone: three cars in two colours, the vans held out, and one chair in two."""
    recipe = tiny_recipe("dataset.collections=[{kind: parametric}]", "dataset.split={validation: 0, test: 0}")
    held_out = {"held_out": ("parametric/car/van/red",)}
    dataset = recipe.dataset.model_copy(update={"split": recipe.dataset.split.model_copy(update=held_out)})
    workspace = Workspace(tmp_path_factory.mktemp("data"))
    only = [f"parametric/{what}/{paint}" for what in ("car/*", "chair/plain") for paint in ("red", "blue")]
    render_dataset.run(recipe.model_copy(update={"dataset": dataset}), workspace, QUIET, only=only)
    return workspace.root


@pytest.fixture(scope="module")
def own(data: Path, publish_untrained: Callable[[Workspace], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with these shards and an untrained model."""
    workspace = Workspace(tmp_path_factory.mktemp("own"))
    workspace.path("shards").symlink_to(data / "shards")
    publish_untrained(workspace)
    return workspace.root


@pytest.fixture(scope="module")
def whole(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a packed model that has all cars."""
    return packed(own, tmp_path_factory.mktemp("sets") / "whole", WHOLE)


@pytest.fixture(scope="module")
def part(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a packed model that has a part of the cars."""
    return packed(own, tmp_path_factory.mktemp("sets") / "part", PART)
