"""Two processes train what one does: same curve, same weights, same latents, and they stop and fail together."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from ln3d.artifacts.tensors import load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.data.latents import LatentSet
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.generation.model import read_autoencoder
from ln3d.training import ranks
from ln3d.training.ranks import ALONE, Ranks, join
from ln3d.training.reconstruction import encode_object

RecipeOf = Callable[..., Recipe]
VAE = ("vae.training.batch=4", "vae.training.steps=3", "vae.training.checkpoint_every=3", "vae.training.precision=fp32")
GAN = (
    "vae.supervision.kind=crop",
    "vae.supervision.crop=8",
    "vae.supervision.novel_views=0",
    "vae.losses.adversarial=0.5",
    "vae.losses.adversarial_novel=0.25",
    "vae.discriminators.backbone=random",
    "vae.discriminators.levels=2",
    "vae.discriminators.hidden=8",
    "vae.discriminators.learning_rate=0.01",
    "vae.discriminators.r1=1",
    "vae.discriminators.r1_every=2",
)
PICTURES = (
    "vae.encoder.kind=image",
    "vae.encoder.resolution=8",
    "vae.renderer.guided_fine=0",
    "vae.renderer.search=true",
    "vae.supervision.kind=full",
    "vae.field.density_shift=-2",
    "vae.losses.depth_kind=scale_invariant",
    "vae.losses.smoothness=0.1",
    "vae.losses.lpips=0.5",
)

_PROCESS = """
import json, os, signal, sys
from pathlib import Path

import torch
from torch import nn
from vae_tasks import thin_lpips

from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.training import TrainingConfig
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, LN3DError
from ln3d.seeding import generator
from ln3d.stages import encode, train_vae
from ln3d.talk import Talk
from ln3d.training.loop import train
from ln3d.training.optimiser import build_optimiser, optimiser_tensors, set_learning_rate
from ln3d.training.ranks import ALONE, join
from ln3d.training.vae_step import VaeTask

recipe, contested, whole = (
    Recipe.model_validate_json(Path(f"{name}.json").read_text()) for name in ("recipe", "contested", "pictures")
)
folder = Path.cwd()
ends = {}

class Line:
    weighted = False

    def __init__(self, at=lambda step, retries, samples: 1.0):
        torch.manual_seed(0)
        self.networks, self.at = nn.Linear(2, 1), at

    def batch(self, step, retries, samples):
        x = torch.stack([torch.randn(2, generator=generator(step, retries, sample)) for sample in samples])
        return {"x": x, "factor": torch.full((len(samples),), self.at(step, retries, samples))}

    def loss(self, batch, step, part):
        error = self.networks(batch["x"])[:, 0] - batch["x"] @ torch.tensor([2.0, -1.0])
        return (batch["factor"] * error.square()).mean(), {"error": error.detach().abs().mean()}

    def validate(self):
        return {"weight": float(self.networks.weight[0, 0].detach())}

def run(name, task, ranks, config):
    where = folder / name
    try:
        train(task, config, where, fingerprint="", device=torch.device("cpu"), talk=Talk(0), title="", ranks=ranks)
        ends[name] = "done"
    except LN3DError as error:
        ends[name] = f"{type(error).__name__}: {error.message}"
    except SystemExit as error:
        ends[name] = error.code

def line(name, ranks, at=None, **changes):
    values = {"steps": 6, "batch": 4, "learning_rate": 0.05, "warmup": 2, "ema": 0.9, "precision": "fp32"}
    every = {"checkpoint_every": 2, "log_every": 1, "validate_every": 3}
    run(name, Line() if at is None else Line(at), ranks, TrainingConfig(**values | every | changes))

def vae(name, ranks, recipe=recipe, **changes):
    task = VaeTask(shards, range(7), [7, 8], recipe.vae, recipe.seed, perceptual=thin_lpips())
    run(name, task, ranks, recipe.vae.training.model_copy(update=changes))

def stopped(step, retries, samples):
    if step == 2 and 3 in samples:
        for _ in range(2):  # as from a launcher that passes on what all have been sent
            os.kill(os.getpid(), signal.SIGTERM)
    return 1.0

def poisoned(step, retries, samples):
    return float("nan") if step == 3 and retries == 0 and 3 in samples else 1.0

def spoilt(step, retries, samples):
    if step == 1 and 3 in samples:
        raise ArtifactError("a spoilt member")
    return 1.0

def orthogonalised(ranks):
    torch.manual_seed(0)  # three matrices for two processes, so that one of them has nothing to do at last
    networks = nn.Sequential(nn.Linear(32, 40), nn.Linear(40, 24), nn.Linear(24, 32))
    config = TrainingConfig(optimiser="muon", learning_rate=0.05, precision="fp32")
    optimiser = build_optimiser(networks, config, ranks)
    for step in range(2):
        set_learning_rate(optimiser, 0.05)
        for index, parameter in enumerate(networks.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=generator(step, index))
        optimiser.step()
    return networks.state_dict() | optimiser_tensors(optimiser, networks)

with join("cpu") as (ranks, device):
    columns_first = torch.arange(6.0).view(2, 3).T
    ends["sum"] = ranks.sum(columns_first if ranks.first else torch.zeros(3, 2)).tolist()
    alone, shared = orthogonalised(ALONE), orthogonalised(ranks)
    ends["muon"] = {name: torch.equal(tensor, shared[name]) for name, tensor in alone.items()}
    run_root = Workspace(folder / "run")
    shards = ShardSet(run_root.open("shards"))
    if ranks.first:
        line("line", ALONE)
        line("poisoned", ALONE, poisoned)
        vae("vae", ALONE)
        vae("gan", ALONE, contested)
        vae("pictures", ALONE, whole)
    vae("vae-2", ranks, workers=1)
    vae("vae-2-2", ranks, accumulate=2)
    vae("gan-2", ranks, contested)
    vae("gan-2-2", ranks, contested, accumulate=2)
    vae("pictures-2", ranks, whole)
    vae("pictures-2-2", ranks, whole, accumulate=2)
    line("poisoned-2", ranks, poisoned)
    line("stopped-2", ranks, stopped)
    line("spoilt-2", ranks, spoilt)
    line("odd-2", ranks, batch=3)
    if ranks.first:
        ends["sealed"] = sorted(path.name for path in (folder / "stopped-2").glob("step-*"))
        line("stopped-2", ALONE)
    train_vae.run(recipe, run_root, Talk(0), device="cpu")
    report = encode.run(recipe, run_root, Talk(0), device="cpu")
    ends["encoded"], ends["where"] = report["objects"], str(device)
    Path(f"ends-{ranks.index}.json").write_text(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, tiny_run: Workspace, tiny_recipe: RecipeOf) -> Path:
    folder = tmp_path_factory.mktemp("together")
    shutil.copytree(tiny_run.path("shards"), folder / "run" / "shards")
    for name, changes in {"recipe": (), "contested": GAN, "pictures": PICTURES}.items():
        (folder / f"{name}.json").write_text(tiny_recipe(*VAE, *changes).model_dump_json())
    shutil.copy(Path(__file__).with_name("vae_tasks.py"), folder)
    (folder / "process.py").write_text(_PROCESS)
    said = _launched(folder, "process.py")
    assert (folder / "ends-0.json").exists(), said
    return folder


def _launched(folder: Path, *program: str) -> str:
    """Run two processes of a program in `folder` by torchrun; return what they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    local = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    with open(folder / "said", "w") as said:
        subprocess.run(command, cwd=folder, env=os.environ | local, stdout=said, stderr=subprocess.STDOUT)
    return (folder / "said").read_text()


def _lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "loader_seconds")} for line in lines]


def _assert_same_curve(one: Path, other: Path) -> None:
    mine, theirs = _lines(one), _lines(other)
    assert len(mine) == len(theirs) >= 3
    for line, reference in zip(mine, theirs, strict=True):
        assert line == pytest.approx(reference, rel=1e-3)


def _assert_same_weights(one: Path, other: Path) -> None:
    """Compare what has learned; AdamW also moves weights whose gradient is nothing but rounding."""
    _assert_same_files(one, other, "optimiser", ("weights", "ema"))


def _assert_same_files(one: Path, other: Path, optimiser: str, files: Sequence[str]) -> None:
    (last,) = sorted(other.glob("step-*"))[-1:]
    moments = load_tensors(last / f"{optimiser}.safetensors")
    for file in files:
        mine, theirs = (load_tensors(place / last.name / f"{file}.safetensors") for place in (one, other))
        assert mine.keys() == theirs.keys()
        learned = {name: moments[f"{name}/exp_avg_sq"].sqrt() > 1e-6 for name in mine}
        assert sum(int(mask.sum()) for mask in learned.values()) > 0.6 * sum(mask.numel() for mask in learned.values())
        for name, mask in learned.items():
            torch.testing.assert_close(mine[name][mask], theirs[name][mask], atol=2e-4, rtol=1e-3)


def test_two_processes_train_and_encode_as_one_does(together: Path) -> None:
    ends, others = (json.loads((together / f"ends-{index}.json").read_text()) for index in (0, 1))
    for name in ("vae-2", "vae-2-2"):
        assert ends[name] == others[name] == "done"
        _assert_same_curve(together / name, together / "vae")
        _assert_same_weights(together / name, together / "vae")
    assert {"smoothness", "lpips"} <= _lines(together / "pictures")[0].keys()
    for name in ("pictures-2", "pictures-2-2"):
        assert ends[name] == others[name] == "done"
        _assert_same_curve(together / name, together / "pictures")
        _assert_same_weights(together / name, together / "pictures")
    for name in ("gan-2", "gan-2-2"):
        assert ends[name] == others[name] == "done"
        _assert_same_curve(together / name, together / "gan")
        _assert_same_weights(together / name, together / "gan")
        _assert_same_files(together / name, together / "gan", "discriminator_optimiser", ["discriminators"])
    # A loss that one process finds not finite sends both back, with other batches.
    assert ends["poisoned-2"] == others["poisoned-2"] == "done"
    _assert_same_curve(together / "poisoned-2", together / "poisoned")
    assert _lines(together / "poisoned")[:2] == _lines(together / "line")[:2]
    assert _lines(together / "poisoned")[2:] != _lines(together / "line")[2:]
    # A signal to one stops both after the same step; one process alone then goes on where they stopped.
    assert ends["sealed"] == ["step-0000002", "step-0000003"]
    assert others["stopped-2"] == 143
    assert ends["stopped-2"] == "done"
    _assert_same_curve(together / "stopped-2", together / "line")
    _assert_same_weights(together / "stopped-2", together / "line")
    # What one process meets, the first one says, and all leave with the same code.
    assert (ends["spoilt-2"], others["spoilt-2"]) == ("ArtifactError: a spoilt member", 3)
    assert ends["odd-2"] == "RecipeError: training.batch: a batch of 3 cannot be divided evenly among 2 processes"
    assert others["odd-2"] == 2
    # One artifact of each stage, with the latents of a single process.
    assert ends["encoded"] == others["encoded"] == 9
    workspace = Workspace(together / "run")
    assert sorted(path.name for path in workspace.root.iterdir() if path.name[0] != ".") == ["latents", "shards", "vae"]
    networks, _ = read_autoencoder(workspace.open("vae"), torch.device("cpu"))
    latents, pictures = LatentSet.read(workspace.open("latents")), Pictures(ShardSet(workspace.open("shards")))
    for index in range(9):
        posterior = encode_object(networks, pictures, index, [0, 1])
        torch.testing.assert_close(latents.mean[index], posterior.mean[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(latents.std[index], torch.exp(posterior.log_variance[0] / 2), atol=1e-5, rtol=1e-4)


def test_sums_do_not_depend_on_the_order_in_memory(together: Path) -> None:
    for index in (0, 1):
        assert json.loads((together / f"ends-{index}.json").read_text())["sum"] == [[0, 3], [1, 4], [2, 5]]


def test_the_number_of_processes_changes_no_bit_of_muons_steps(together: Path) -> None:
    for index in (0, 1):
        same = json.loads((together / f"ends-{index}.json").read_text())["muon"]
        assert {"0.weight", "2.weight", "2.weight/momentum_buffer", "1.bias/exp_avg"} <= same.keys()
        assert all(same.values())


def test_the_commands_make_the_same_weights_and_latents(
    together: Path, tiny_run: Workspace, repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.path("shards"), tmp_path / "run" / "shards")
    changes = [argument for change in VAE for argument in ("--set", change)]
    for command in ("train-vae", "encode"):
        said = _launched(
            tmp_path,
            "-m",
            "ln3d",
            command,
            str(repository / "tests/tiny.yaml"),
            *changes,
            "-w",
            "run",
            "--device",
            "cpu",
        )
        assert said.count("published ") == 1, said
    ours, theirs = Workspace(tmp_path / "run"), Workspace(together / "run")
    weights, others = (load_tensors(made.open("vae").file("weights.safetensors")) for made in (ours, theirs))
    assert all(torch.equal(weights[name], others[name]) for name in others)
    latents, others = (LatentSet.read(made.open("latents")) for made in (ours, theirs))
    assert torch.equal(latents.mean, others.mean) and torch.equal(latents.std, others.std)


@pytest.mark.parametrize(("total", "count"), [(9, 2), (3, 5), (0, 3), (8, 4)])
def test_shares_are_in_order_and_leave_nothing_out(total: int, count: int) -> None:
    shares = [Ranks(index, count).share(total) for index in range(count)]
    assert [thing for share in shares for thing in share] == list(range(total))
    assert max(len(share) for share in shares) == -(-total // count)


@pytest.mark.parametrize(("total", "count"), [(9, 2), (40, 3), (0, 3), (3, 4)])
def test_what_is_made_together_is_not_divided(total: int, count: int) -> None:
    shares = [Ranks(index, count).share(total, 4) for index in range(count)]
    assert [thing for share in shares for thing in share] == list(range(total))
    assert all(share.start % 4 == 0 or not share for share in shares)


def test_alone_nothing_is_shared() -> None:
    ones = torch.ones(2)
    ALONE.average([ones])
    assert ALONE.sum(ones) is ALONE.joined(ones, 2) is ones
    assert ALONE.most(3) == 3
    assert ALONE.gathered(iter("ab")) == ["a", "b"]
    with pytest.raises(ZeroDivisionError), ALONE.together():
        _ = 1 / 0
    with join("cpu") as (joined, device):
        assert (joined, device) == (ALONE, torch.device("cpu"))


def test_a_process_without_its_launcher_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RecipeError, match="cannot join the others") as error, join("cpu"):
        pass
    assert "torchrun" in error.value.hint


def test_every_process_has_a_cuda_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(ranks, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for index in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(index))
        assert ranks._own_device("cuda") == torch.device("cuda", index)
    assert [device.index for device in chosen] == [0, 1]
    assert ranks._own_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(RecipeError, match="3 processes on this machine need as many CUDA devices, and torch sees 2"):
        ranks._own_device("cuda")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}, "accelerate launch was asked for several"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun starts 2"),
        ({"PMI_SIZE": "3"}, "mpirun starts 3"),
    ],
)
def test_no_process_trains_alone_where_several_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RecipeError, match=message) as error, join("cpu"):
        pass
    assert "torchrun" in error.value.hint


@pytest.mark.parametrize(
    "environment", [{"MASTER_ADDR": "node-1"}, {"ACCELERATE_MIXED_PRECISION": "no"}, {"OMPI_COMM_WORLD_SIZE": "1"}]
)
def test_one_process_that_was_meant_to_be_alone_is(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with join("cpu") as (joined, _):
        assert joined == ALONE
