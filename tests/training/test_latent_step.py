"""The encoder alone, taught the posteriors of another one."""

from collections.abc import Callable

import pytest
import torch

from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.stages.estimate import estimate
from ln3d.training.latent_step import FROZEN, LatentTask
from ln3d.training.reconstruction import views_of
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
LATENTS = (
    "vae.encoder.kind=image",
    "vae.supervision.kind=latents",
    "vae.augmentation.saturation=1",
    "vae.augmentation.permutation=0",
)
SAMPLES = range(2)


@pytest.fixture
def task(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> LatentTask:
    train = [i for i, record in enumerate(tiny_shards.objects) if record.split == "train"]
    vae = VaeTask(tiny_shards, train, [], tiny_recipe(*LATENTS).vae, 0)
    shape = (len(tiny_shards.objects), 3, 2, 4, 4)
    drawn = torch.Generator().manual_seed(1)
    return LatentTask(vae, torch.randn(shape, generator=drawn), torch.randn(shape, generator=drawn))


def test_a_batch_is_what_the_encoder_sees_and_whose_it_is(task: LatentTask) -> None:
    batch = task.batch(3, 0, SAMPLES)
    assert batch.keys() == {"input_colour", "input_depth", "input_cameras", "input_intrinsics", "object"}
    assert {int(index) for index in batch["object"]} <= set(task.vae.train)
    epoch = torch.cat([task.batch(step, 0, SAMPLES)["object"] for step in range(len(task.vae.train))])
    assert sorted(epoch.tolist()) == sorted(2 * list(task.vae.train))
    second = task.batch(3, 0, range(1, 2))
    assert all(torch.equal(value, batch[name][1:]) for name, value in second.items())


def test_who_gives_the_taught_posteriors_has_no_loss_and_others_have_theirs(task: LatentTask) -> None:
    batch = task.batch(0, 0, SAMPLES)
    with torch.no_grad():
        own = task.networks.encode(views_of(batch))
    taught = [own.mean, own.log_variance]
    for everything, value in zip((task.mean, task.log_variance), taught, strict=True):
        everything[batch["object"]] = value
    loss, figures = task.loss(batch, 0)
    assert loss.item() == figures["latent_error"].item() == 0
    task.mean[batch["object"]] += 3 * torch.exp(own.log_variance / 2)  # three standard deviations off
    loss, figures = task.loss(batch, 0)
    assert loss.item() == pytest.approx(9 / 2, rel=1e-5)
    assert figures["latent_error"].item() == pytest.approx(3 * own.log_variance.exp().mean().sqrt().item(), rel=1e-5)


def test_a_part_of_a_batch_has_its_share_of_the_loss(task: LatentTask) -> None:
    whole, _ = task.loss(task.batch(0, 0, SAMPLES), 0)
    halves = [task.loss(task.batch(0, 0, range(i, i + 1)), 0)[0] for i in SAMPLES]
    torch.testing.assert_close(whole, torch.stack(halves).mean())


def test_nothing_but_the_encoder_learns(task: LatentTask) -> None:
    loss, _ = task.loss(task.batch(0, 0, SAMPLES), 0)
    loss.backward()
    learning = {name.partition(".")[0] for name, p in task.networks.named_parameters() if p.grad is not None}
    parts = {name for name, _ in task.networks.named_children()}
    assert learning == parts - set(FROZEN) == {"encoder"}
    assert task.validate().keys() == {"psnr_train"}


def test_what_is_taught_is_learned(task: LatentTask) -> None:
    """The same posterior for all objects, again and again: the divergence falls to a fraction."""
    task.mean[:], task.log_variance[:] = 1.0, -1.0
    batch = task.batch(0, 0, SAMPLES)
    optimiser = torch.optim.AdamW(task.networks.encoder.parameters(), lr=2e-2)
    losses = []
    for step in range(40):
        loss, _ = task.loss(batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_pictures_and_changed_colours_have_no_place_beside_latents(tiny_recipe: RecipeOf) -> None:
    with pytest.raises(RecipeError, match="latents are those of the objects as they are"):
        tiny_recipe(*LATENTS[:2])
    for change in ("vae.augmentation.mirror=0.5", "vae.augmentation.stretch=1.2"):
        with pytest.raises(RecipeError, match="latents are those of the objects as they are"):
            tiny_recipe(*LATENTS, change)
    with pytest.raises(RecipeError, match="losses.lpips compare pictures, and latents are none"):
        tiny_recipe(*LATENTS, "vae.losses.lpips=1")


def test_only_the_encoder_is_counted(tiny_recipe: RecipeOf) -> None:
    pictures, latents = tiny_recipe("vae.encoder.kind=image"), tiny_recipe(*LATENTS)
    assert 0 < estimate(latents)["operations_per_step"] < 0.5 * estimate(pictures)["operations_per_step"]
