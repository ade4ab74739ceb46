"""A VAE trained against both discriminators, with bf16, accumulation and R1: exact resume, and what every key does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.talk import Talk
from ln3d.training.loop import train
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
FILES = ("weights", "ema", "optimiser", "discriminators", "discriminator_optimiser")
SUPERVISION = {"kind": "crop", "crop": 8, "input_views": 1, "novel_views": 1}
LOSSES = {"adversarial": 0.5, "adversarial_novel": 0.25}
DISCRIMINATORS = {
    "backbone": "random",
    "levels": 2,
    "hidden": 8,
    "start": 2,
    "learning_rate": 0.01,
    "r1": 1,
    "r1_every": 3,
}
TRAINING = {"steps": 6, "batch": 4, "accumulate": 2, "precision": "bf16", "validate_every": 6}
SECTIONS = {"supervision": SUPERVISION, "losses": LOSSES, "discriminators": DISCRIMINATORS, "training": TRAINING}
GAN = tuple(f"vae.{section}.{key}={value}" for section, values in SECTIONS.items() for key, value in values.items())


def _train(shards: ShardSet, recipe: Recipe, folder: Path, task: type[VaeTask] = VaeTask) -> Path:
    made = task(shards, range(7), [7, 8], recipe.vae, recipe.seed)
    training, cpu = recipe.vae.training, torch.device("cpu")
    train(made, training, folder, fingerprint="mark", device=cpu, talk=Talk(0), title="test")
    return folder


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    (last,) = folder.glob("step-0000006*")
    files = {name: load_tensors(last / f"{name}.safetensors") for name in FILES}
    return {f"{file}/{name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}


def _lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "loader_seconds")} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> Path:
    return _train(tiny_shards, tiny_recipe(*GAN), tmp_path_factory.mktemp("straight"))


class _Killed(BaseException):
    """Nothing that anybody catches."""


@pytest.mark.parametrize("moment", [3, 5])
def test_killed_and_resumed_it_has_the_same_bits(
    straight: Path, tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path, moment: int
) -> None:
    class Doomed(VaeTask):
        def loss(self, batch, step, part):  # type: ignore[no-untyped-def]
            if step == moment:
                raise _Killed
            return super().loss(batch, step, part)

    with pytest.raises(_Killed):
        _train(tiny_shards, tiny_recipe(*GAN), tmp_path, Doomed)
    _train(tiny_shards, tiny_recipe(*GAN, "vae.training.workers=1"), tmp_path)
    mine, theirs = _tensors(tmp_path), _tensors(straight)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert _lines(tmp_path) == _lines(straight)


def test_it_begins_when_the_recipe_says_and_the_penalty_comes_when_it_is_due(straight: Path) -> None:
    steps = [line for line in _lines(straight) if "loss" in line]
    assert [line["step"] - 1 for line in steps if "discriminator" in line] == [2, 3, 4, 5]
    assert [line["step"] - 1 for line in steps if {"r1", "r1_novel"} <= line.keys()] == [2, 5]
    assert [line["discriminator_gradient"] > 0 for line in steps] == [False, False] + [True] * 4


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ("vae.losses.adversarial=0", 2),
        ("vae.losses.adversarial_novel=0", 2),
        ("vae.losses.adversarial=0.6", 2),
        ("vae.losses.adversarial_novel=0.3", 2),
        ("vae.discriminators.loss=hinge", 2),
        ("vae.discriminators.start=4", 2),
        ("vae.discriminators.levels=1", 2),
        ("vae.discriminators.hidden=12", 2),
        ("vae.discriminators.r1=0", 3),
        ("vae.discriminators.r1_every=2", 3),
        ("vae.discriminators.learning_rate=0.02", 3),
        ("vae.discriminators.novel_learning_rate=0.02", 3),
        ("vae.discriminators.betas=[0.9, 0.999]", 4),
        ("vae.supervision.known_views=3", 0),
    ],
)
def test_every_key_changes_the_curve_and_not_what_was_before(
    straight: Path, tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path, change: str, first: int
) -> None:
    """`first` is the first step whose loss a key can change: what a step has learned is seen in the next one."""
    _train(tiny_shards, tiny_recipe(*GAN, change), tmp_path)
    mine, theirs = ([line["loss"] for line in _lines(folder) if "loss" in line] for folder in (tmp_path, straight))
    assert mine[:first] == theirs[:first]
    assert mine[first] != theirs[first]


def test_discriminators_learn_to_tell_renders_from_pictures(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path
) -> None:
    """With networks that hardly move, the cross entropy of the input views' discriminator falls well below chance."""
    still = ("vae.training.learning_rate=1e-9", "vae.training.steps=40", "vae.training.accumulate=1")
    changes = ("vae.discriminators.r1=0", "vae.discriminators.start=0", "vae.losses.adversarial_novel=0")
    _train(tiny_shards, tiny_recipe(*GAN, *still, *changes), tmp_path)
    learned = [line["discriminator"] for line in _lines(tmp_path) if "discriminator" in line]
    assert learned[0] > 1.2
    assert max(learned[-5:]) < 0.3
