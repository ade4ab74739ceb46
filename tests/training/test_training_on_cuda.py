"""Stage 1 on a CUDA device: losses, gradients and trainings are those of the CPU, its slow twin; so is going on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from vae_tasks import thin_lpips

from ln3d.backbones.frozen_maps import FrozenPyramid, timm_maps
from ln3d.backbones.timm_networks import untrained_timm
from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.talk import Talk
from ln3d.training.loop import Trained, train
from ln3d.training.reconstruction import encode_object, evaluation_views, reconstruct
from ln3d.training.vae_step import VaeTask

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_products")]
DEVICE = "cuda"
RecipeOf = Callable[..., Recipe]
FP32 = "vae.training.precision=fp32"
IMAGE = ("vae.encoder.kind=image", "vae.encoder.resolution=8", "vae.renderer.guided_fine=0")
GAN = (
    "vae.supervision.kind=crop",
    "vae.supervision.crop=8",
    "vae.discriminators.backbone=random",
    "vae.discriminators.levels=2",
    "vae.discriminators.r1=1",
    "vae.discriminators.r1_every=3",
    "vae.losses.adversarial=0.5",
    "vae.losses.adversarial_novel=0.25",
)


SMOOTH = ("vae.supervision.kind=crop", "vae.supervision.crop=8", "vae.losses.smoothness=0.5")
LPIPS = ("vae.supervision.kind=full", "vae.losses.lpips=1", "vae.losses.lpips_net=vgg")
TRANSFORMER = "vae.discriminators.backbone=timm:test_vit"
INVARIANT = ("vae.losses.depth_kind=scale_invariant",)


def _transformer() -> FrozenPyramid:
    torch.manual_seed(0)
    return timm_maps(untrained_timm("test_vit"), levels=2)


def _task(shards: ShardSet, recipe: Recipe, device: str, frozen: FrozenPyramid | None = None) -> VaeTask:
    task = VaeTask(shards, range(7), [7, 8], recipe.vae, recipe.seed, thin_lpips(), frozen)
    task.networks.to(device)
    if task.discriminators is not None:
        task.discriminators.to(device)
    return task


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        IMAGE,
        (*IMAGE, "vae.renderer.search=true"),
        GAN,
        (*GAN, TRANSFORMER),
        ("vae.training.gradient_checkpointing=true",),
        SMOOTH,
        LPIPS,
        INVARIANT,
    ],
    ids=[
        "aligned",
        "image",
        "search",
        "discriminators",
        "transformer",
        "checkpointing",
        "smoothness",
        "lpips",
        "scale-invariant",
    ],
)
def test_loss_and_gradient_are_those_of_the_cpu(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, overrides: tuple[str, ...]
) -> None:
    """In the middle of the KL ramp, and when the discriminators' penalty is due."""
    outcomes = []
    for device in ("cpu", DEVICE):
        frozen = _transformer() if TRANSFORMER in overrides else None
        task = _task(tiny_shards, tiny_recipe(FP32, *overrides), device, frozen)
        batch = {name: value.to(device) for name, value in task.batch(0, 0, range(2)).items()}
        total, terms = task.loss(batch, 3)
        total.backward()
        gradients = {name: p.grad for name, p in task.networks.named_parameters() if p.grad is not None}
        outcomes.append({name: value.detach().cpu() for name, value in (terms | gradients).items()})
    twin, ours = outcomes
    assert ours.keys() == twin.keys()
    for name, value in twin.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(ours[name], value, atol=1e-4 + 2e-3 * scale, rtol=2e-3, msg=name)


def test_reconstructions_are_those_of_the_cpu(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    pictures = Pictures(tiny_shards)
    inputs, targets = evaluation_views(tiny_recipe().vae, tiny_shards)
    outcomes = []
    for device in ("cpu", DEVICE):
        networks = _task(tiny_shards, tiny_recipe(), device).networks.eval()
        posterior = encode_object(networks, pictures, 0, inputs)
        drawn = reconstruct(networks, pictures, 0, inputs, targets)
        outcomes.append([value.cpu() for value in (posterior.mean, posterior.log_variance, *drawn)])
    for ours, twin in zip(*reversed(outcomes), strict=True):
        torch.testing.assert_close(ours, twin, atol=2e-3, rtol=2e-3)


def _train(shards: ShardSet, recipe: Recipe, folder: Path, device: str) -> Trained:
    task = VaeTask(shards, range(7), [7, 8], recipe.vae, recipe.seed)
    where = {"fingerprint": "mark", "device": torch.device(device), "talk": Talk(0), "title": "test"}
    return train(task, recipe.vae.training, folder, **where)


def _losses(trained: Trained) -> list[float]:
    lines = [json.loads(line) for line in trained.metrics.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_a_training_follows_that_of_the_cpu(tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path) -> None:
    twin, ours = (_train(tiny_shards, tiny_recipe(FP32), tmp_path / device, device) for device in ("cpu", DEVICE))
    assert _losses(ours)[:4] == pytest.approx(_losses(twin)[:4], rel=1e-2)
    assert all(weight.isfinite().all() for weight in ours.weights.values())


@pytest.mark.parametrize("overrides", [(), GAN], ids=["plain", "discriminators"])
def test_a_training_goes_on_from_its_checkpoint(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    """Under bf16, with the moments of AdamW beside their weights: kernels that add up in any order differ a little."""
    whole = _train(tiny_shards, tiny_recipe(*overrides), tmp_path / "whole", DEVICE)

    class Killed(Exception):
        pass

    class Doomed(VaeTask):
        def loss(self, batch: dict, step: int, part: object) -> object:
            if step == 6:
                raise Killed
            return super().loss(batch, step, part)

    recipe, folder = tiny_recipe(*overrides), tmp_path / "killed"
    task = Doomed(tiny_shards, range(7), [7, 8], recipe.vae, recipe.seed)
    where = {"fingerprint": "mark", "device": torch.device(DEVICE), "talk": Talk(0), "title": "test"}
    with pytest.raises(Killed):
        train(task, recipe.vae.training, folder, **where)
    resumed = _train(tiny_shards, recipe, folder, DEVICE)
    assert resumed.steps == 8  # from the checkpoint of step 4 on
    assert _losses(resumed)[:4] == pytest.approx(_losses(whole)[:4], rel=1e-2)
    assert _losses(resumed)[4:6] == pytest.approx(_losses(whole)[4:6], rel=5e-2)
