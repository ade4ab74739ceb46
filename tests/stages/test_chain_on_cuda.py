"""The commands on a CUDA device: trained there, they publish what the CPU reads, decodes and samples alike."""

from collections.abc import Callable

import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.generation.model import Generator, views_around
from ln3d.stages import encode, train_diffusion, train_vae
from ln3d.talk import Talk

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_products")]
DEVICE = "cuda"
QUIET = Talk(0)
RecipeOf = Callable[..., Recipe]
SHORT = ("vae.training.steps=4", "vae.training.validate_every=2", "vae.training.checkpoint_every=2")


def test_what_is_trained_there_is_used_anywhere(
    own_run: Workspace, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_diffusion, "_SHEET_SIZE", 16)
    recipe = tiny_recipe(*SHORT)
    train_vae.run(recipe, own_run, QUIET, device=DEVICE)
    encode.run(recipe, own_run, QUIET, device=DEVICE)
    train_diffusion.run(recipe, own_run, QUIET, device=DEVICE)
    latents = load_tensors(own_run.open("latents").file("latents.safetensors"))["mean"][:2]
    outcomes = []
    for device in ("cpu", DEVICE):
        generator = Generator.load(own_run.root, device)
        sampled = generator.sample([None, None], seeds=[0, 1]).cpu()
        seen = generator.views(latents, *views_around(2), size=16)
        outcomes.append((sampled, seen))
    for ours, twin in zip(*reversed(outcomes), strict=True):
        torch.testing.assert_close(ours, twin, atol=5e-3, rtol=5e-3)
