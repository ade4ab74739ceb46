"""The recipes of the paper's sizes take two whole steps of their training, unshrunk, on tensors without contents."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ln3d.backbones.frozen_names import untrained_maps
from ln3d.backbones.perceptual import untrained_lpips
from ln3d.config.load import load_recipe
from ln3d.config.recipe import Recipe
from ln3d.data.batches import VaeBatches
from ln3d.geometry.cameras import orbit
from ln3d.geometry.vectors import unit
from ln3d.training.checkpoint import State
from ln3d.training.ranks import ALONE
from ln3d.training.step import fresh_state, take_step
from ln3d.training.vae_step import VaeTask

FOLDER = Path(__file__).parents[1] / "recipes"
BATCH = 2  # of 64, which only repeats them
CONTEST = {"adversarial", "adversarial_novel", "discriminator", "discriminator_novel", "discriminator_gradient"}
FIGURES = {
    "shapenet_chair": {"alpha", "smoothness"},
    "ffhq": CONTEST,
    "objaverse": CONTEST | {"alpha", "depth"},
}
"""What a step says of itself, beside colour, LPIPS, KL and the norm of the gradient."""


@dataclass
class Noise:
    """Stands in for shards: objects in as many views, as large, as a recipe wants, of noise."""

    recipe: Recipe
    objects: list[SimpleNamespace] = field(default_factory=lambda: [SimpleNamespace(lacks=())] * BATCH)
    lacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.views, self.resolution = self.recipe.dataset.cameras.views, self.recipe.dataset.resolution
        self.poses, self.lenses = orbit(self.views, 3.0, 20.0, 50.0)

    def require(self, index: int, what: str) -> None:
        """Nothing is missing."""

    def camera_to_world(self, index: int) -> np.ndarray:
        return self.poses

    def eyes(self, index: int) -> np.ndarray:
        return unit(self.poses[:, :3, 3])

    def intrinsics(self, index: int) -> np.ndarray:
        return self.lenses

    def colour(self, index: int, view: int) -> np.ndarray:
        return np.random.default_rng(view).integers(0, 256, (self.resolution, self.resolution, 4), dtype=np.uint8)

    def depth(self, index: int, view: int) -> np.ndarray:
        return np.full((self.resolution, self.resolution), 3.0, dtype=np.float32)


@pytest.mark.parametrize("name", FIGURES)
def test_two_steps_of_the_papers_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is the recipe's own but the contents of the tensors, what is frozen among them, and the size of the batch."""
    # All that a step asks of numbers is whether they are finite.
    monkeypatch.setattr(FakeTensor, "__float__", lambda _: 1.0, raising=False)
    monkeypatch.setattr(nn.Module, "to", lambda module, _: module)  # it is there already, and cannot be exchanged
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    config, shards = recipe.vae, Noise(recipe)
    batches = VaeBatches(shards, range(BATCH), config, recipe.seed)
    drawn = [batches(step, 0, range(BATCH)) for step in range(2)]
    frozen = untrained_maps(config.discriminators.backbone, config.discriminators.levels)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        pretrained = {"perceptual": untrained_lpips(config.losses.lpips_net), "frozen": frozen.to_empty(device="cpu")}
        task = VaeTask(shards, range(BATCH), [], config, recipe.seed, **pretrained)
        state = fresh_state(task, config.training, torch.device("cpu"), None)
        for each in drawn:
            batch = {key: mode.from_tensor(value) for key, value in each.items()}
            _, figures = take_step(task, config.training, state, batch, [range(BATCH)], ALONE)
    assert state.step == 2
    assert set(figures) >= {"colour", "lpips", "kl", "gradient"} | FIGURES[name]
    _assert_all_learns(state)


def _assert_all_learns(state: State) -> None:
    sides = [(state.networks, state.optimiser)]
    if state.opponents is not None:
        sides.append((state.opponents.networks, state.opponents.optimiser))
    for networks, optimiser in sides:
        learning = [p for p in networks.parameters() if p.requires_grad]
        assert set(optimiser.state) == set(learning)
        assert all(p.grad is not None and p.grad.shape == p.shape for p in learning)
    assert all(state.ema.weights[name].shape == p.shape for name, p in state.networks.named_parameters())


@pytest.mark.parametrize("name", ["shapenet_car", "shapenet_plane"])
def test_the_other_shapes_take_the_same_steps(name: str) -> None:
    recipe, other = (load_recipe(FOLDER / f"{each}.yaml") for each in (name, "shapenet_chair"))
    assert recipe.vae == other.vae
    assert recipe.dataset.cameras == other.dataset.cameras
