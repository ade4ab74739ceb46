"""Batches of stage 2 as pure functions of their key, and the loss they lead to."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from ln3d.config.diffusion import ConditionConfig, DiffusionConfig, DitConfig
from ln3d.config.vae import LatentConfig
from ln3d.data.latents import LatentSet
from ln3d.training.diffusion_batches import DiffusionBatches
from ln3d.training.diffusion_step import DiffusionTask

LATENT = LatentConfig(channels=2, resolution=4)
CAPTIONS = ("a red car", "a car")


class _Letters:
    """Text encoder whose tokens are the letters' numbers, so that tests can read prompts back."""

    width = 256

    def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, mask = torch.zeros(len(prompts), 9, 256), torch.zeros(len(prompts), 9, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            for place, letter in enumerate(prompt):
                tokens[row, place, 0] = ord(letter)
                mask[row, place] = True
        return tokens, mask


def _prompts(batch: dict[str, torch.Tensor]) -> list[str]:
    rows = zip(batch["tokens"], batch["mask"], strict=True)
    return ["".join(chr(int(number)) for number in tokens[mask, 0]) for tokens, mask in rows]


def _latents(objects: int = 8) -> LatentSet:
    mean = torch.arange(objects).float()[:, None, None, None, None].expand(-1, 3, 2, 4, 4)
    statistics = {"mean": torch.zeros(3, 2, 1, 1), "std": torch.ones(3, 2, 1, 1)}
    splits = ["train"] * (objects - 2) + ["validation", "test"]
    records = [
        {"split": splits[i], "category": "boat" if i == 0 else "car", "captions": list(CAPTIONS)}
        for i in range(objects)
    ]
    return LatentSet(mean, torch.full_like(mean, 1e-3), statistics, records)


def _config(drop: float = 0.15, balance: float = 0.5) -> DiffusionConfig:
    condition = ConditionConfig(kind="text", depth=1, tokens=9, drop=drop)
    return DiffusionConfig(dit=DitConfig(patch=2, width=16, depth=1, heads=2), condition=condition, balance=balance)


def _batches(config: DiffusionConfig) -> DiffusionBatches:
    latents = _latents()
    return DiffusionBatches(latents, latents.of_split("train"), config, 0, _Letters())


def test_a_batch_is_a_pure_function_of_its_key_and_made_of_its_parts() -> None:
    batches = _batches(_config())
    whole, again = batches(7, 0, range(6)), batches(7, 0, range(6))
    parts = [batches(7, 0, range(0, 2)), batches(7, 0, range(2, 6))]
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name])
        assert torch.equal(tensor, torch.cat([part[name] for part in parts]))
    for other in (batches(8, 0, range(6)), batches(7, 1, range(6))):
        assert not torch.equal(whole["noise"], other["noise"])
        assert not torch.equal(whole["t"], other["t"])


def test_numbers_have_the_distributions_they_should() -> None:
    batches = _batches(_config(drop=0.25, balance=1.0))
    batch = batches(0, 0, range(2000))
    objects = Counter(batch["data"].mean(dim=(1, 2, 3, 4)).round().int().tolist())
    assert set(objects) == {0, 1, 2, 3, 4, 5}  # no validation or test object
    assert objects[0] / 2000 == pytest.approx(0.5, abs=0.05)  # the only boat
    prompts = Counter(_prompts(batch))
    assert set(prompts) == {"", *CAPTIONS}
    assert prompts[""] / 2000 == pytest.approx(0.25, abs=0.04)
    assert prompts["a car"] / prompts["a red car"] == pytest.approx(1.0, abs=0.2)
    logits = torch.logit(batch["t"])
    assert logits.mean().item() == pytest.approx(0.0, abs=0.1)
    assert logits.std().item() == pytest.approx(1.0, abs=0.1)
    assert batch["noise"].std().item() == pytest.approx(1.0, abs=0.02)


def test_posteriors_are_sampled_anew_each_time() -> None:
    batches = _batches(_config())
    first, second = (batches(step, 0, range(64))["data"] for step in (0, 1))
    residual = torch.cat([first, second])
    residual = residual - residual.mean(dim=(1, 2, 3, 4), keepdim=True)
    assert residual.std().item() == pytest.approx(1e-3, rel=0.1)


def _task(config: DiffusionConfig) -> DiffusionTask:
    latents = _latents()
    held_out = latents.of_split("validation", "test")
    return DiffusionTask(latents, latents.of_split("train"), held_out, config, LATENT, 3, _Letters())


def test_loss_of_silence_is_the_mean_square_of_the_velocity() -> None:
    task = _task(_config())
    batch = task.batch(0, 0, range(4))
    loss, _ = task.loss(batch, 0)  # an untrained network predicts zero
    assert loss.item() == pytest.approx((batch["noise"] - batch["data"]).square().mean().item(), rel=1e-5)


def test_networks_come_from_the_seed_and_validation_is_fixed() -> None:
    torch.manual_seed(5)
    one = _task(_config())
    torch.manual_seed(6)
    before = torch.random.get_rng_state()
    other = _task(_config())
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(one.networks.state_dict().values(), other.networks.state_dict().values(), strict=True)
    assert all(torch.equal(mine, yours) for mine, yours in pairs)
    assert one.validate() == other.validate() == one.validate()
    assert set(one.validate()) == {"flow_train", "flow_held_out"}


def test_a_few_steps_lower_the_loss() -> None:
    task = _task(_config())
    optimiser = torch.optim.AdamW(task.networks.parameters(), 1e-2)
    before = task.validate()["flow_train"]
    for step in range(30):
        loss, _ = task.loss(task.batch(step, 0, range(8)), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert task.validate()["flow_train"] < 0.5 * before
