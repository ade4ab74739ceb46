"""A VAE training killed dead, anywhere, ends with the same bits as one that was left alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.talk import Talk
from ln3d.training.loop import train
from ln3d.training.vae_step import VaeTask

RecipeOf = Callable[..., Recipe]
MOMENTS = {"anywhere": 0, "inside-a-save": 2, "before-the-rename": 0}
"""How each life ends, and how many loader processes it has."""

_LIVES = """
import json, os, random, signal, sys, threading
from pathlib import Path

import torch

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.talk import Talk
from ln3d.training.loop import train
from ln3d.training.vae_step import VaeTask

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(name, count):
    whole, calls = getattr(os, name), iter(range(1, 10**6))
    setattr(os, name, lambda *values: die() if next(calls) == count else whole(*values))

class Doomed(VaeTask):
    def loss(self, batch, step, part):
        if step == 5:
            threading.Timer(random.Random(7).uniform(0, 0.05), die).start()
        if step == 11:
            die()
        return super().loss(batch, step, part)

def live(kind, folder, workers):
    if kind == "inside-a-save":
        die_at("fsync", 19)
    if kind == "before-the-rename":
        die_at("rename", 3)
    task = (Doomed if kind == "anywhere" else VaeTask)(shards, range(7), [7, 8], recipe.vae, recipe.seed)
    training = recipe.vae.training.model_copy(update={"workers": workers})
    train(task, training, folder, fingerprint="mark", device=torch.device("cpu"), talk=Talk(0), title="doomed")

root, moments = Path(sys.argv[1]), json.loads(sys.argv[2])
recipe = Recipe.model_validate_json(sys.stdin.read())
shards = ShardSet(Workspace(root).open("shards"))
ends = {}
for kind, workers in moments.items():  # one process after the other, so that torch is imported once
    child = os.fork()
    if not child:
        live(kind, Path.cwd() / kind, workers)
        os._exit(0)
    ends[kind] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(ends))
"""


def _train(shards: ShardSet, recipe: Recipe, folder: Path, workers: int = 0) -> int:
    task = VaeTask(shards, range(7), [7, 8], recipe.vae, recipe.seed)
    config = recipe.vae.training.model_copy(update={"workers": workers})
    device = torch.device("cpu")
    return train(task, config, folder, fingerprint="mark", device=device, talk=Talk(0), title="test").steps


def _without_clocks(metrics: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "loader_seconds")} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert _train(tiny_shards, tiny_recipe(), folder) == 12
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny_run: Workspace, tiny_recipe: RecipeOf) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    command, said = [sys.executable, "-c", _LIVES, str(tiny_run.root), json.dumps(MOMENTS)], folder / "said"
    with open(said, "w") as file:  # a pipe would be held open by orphaned loader processes
        recipe = tiny_recipe().model_dump_json()
        subprocess.run(command, input=recipe, text=True, stdout=file, stderr=subprocess.STDOUT, cwd=folder)
    assert said.read_text() == json.dumps(dict.fromkeys(MOMENTS, -9)) + "\n"
    return folder


@pytest.mark.parametrize("kind", MOMENTS)
def test_killed_and_resumed_it_has_the_same_bits(
    kind: str, straight: Path, killed: Path, tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    folder, workers = killed / kind, MOMENTS[kind]
    assert 0 < _train(tiny_shards, tiny_recipe(), folder, workers) < 12
    names = [sorted(path.name for path in place.glob("step-*")) for place in (straight, folder)]
    assert names[0] == names[1] == ["step-0000008", "step-0000012"]
    for name in ("weights", "ema", "optimiser"):
        mine, theirs = (load_tensors(place / f"step-0000012/{name}.safetensors") for place in (folder, straight))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert _without_clocks(folder / "metrics.jsonl") == _without_clocks(straight / "metrics.jsonl")


def test_loader_processes_change_nothing(
    straight: Path, tiny_shards: ShardSet, tiny_recipe: RecipeOf, tmp_path: Path
) -> None:
    _train(tiny_shards, tiny_recipe(), tmp_path / "two", workers=2)
    mine, theirs = (place / "step-0000012/optimiser.safetensors" for place in (tmp_path / "two", straight))
    assert mine.read_bytes() == theirs.read_bytes()
    assert _without_clocks(tmp_path / "two/metrics.jsonl") == _without_clocks(straight / "metrics.jsonl")
