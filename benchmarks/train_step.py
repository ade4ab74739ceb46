"""Time a training step of stage 1 beside the plain version of the same step, and find out what each trick buys.

    python benchmarks/train_step.py [--workspace DIR] [--steps 12] [--rounds 1] [--curve 300] [--threads 2]

Sizes, losses and schedule are those of recipes/everyday.yaml; the objects are the shards of a workspace, or, without
one, the smoke recipe's meshes drawn as the everyday recipe draws. The plain step has the same batches, rays and
networks, but computes in fp32, leaves the C allocator as it is, and renders by `plain_render` of renderer.py: 48 + 24
samples on every ray, gradients through all of them, nothing guided, nothing skipped. Every other row of the table has
one trick turned off. The allocator's settings last as long as the process, so every training runs in a process of its
own, through the project's own loop; a figure is the median of the steps after the first two, the best of `--rounds`.

`--curve N` trains ours and the plain step for N steps each, and judges both alike on the way: by the PSNR and the
colour loss of views that are never supervised, drawn with the samples of evaluation from the averaged weights.

The last line is one JSON object; its `ratios` are seconds of the variant / ours (above 1: ours is faster), and, with
`--curve`, loss of the plain step / ours at the end (at least 1: ours learns no worse).
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from renderer import CONFIG, SCALE, SHIFT, plain_render
from torch import Tensor

from ln3d.artifacts.workspace import Workspace
from ln3d.config.load import load_recipe
from ln3d.config.recipe import Recipe
from ln3d.data.shards import ShardSet
from ln3d.data.subsets import spread
from ln3d.geometry.volume import expected_depth
from ln3d.losses.reconstruction import colour_loss, psnr_of
from ln3d.rendering.volume import Rendered, render_images
from ln3d.runtime import available_cores
from ln3d.stages import render_dataset
from ln3d.talk import Talk
from ln3d.training import loop
from ln3d.training.parts import WHOLE, Part
from ln3d.training.reconstruction import encode_object, evaluation_views
from ln3d.training.vae_rendering import frozen_radiance
from ln3d.training.vae_step import VaeTask

RECIPES = Path(__file__).parents[1] / "recipes"
WARM_UP, PROFILED = 2, 3  # steps
LOOKS = 6  # along a curve
JUDGED, SIDE = 12, 64  # objects of each split, and pixels, that a curve is judged by
NEVER = 10**9


@dataclass(frozen=True)
class Variant:
    """A way to take the step: changes of the recipe, and what no recipe can say."""

    changes: tuple[str, ...] = ()
    tuned: bool = True
    plain: bool = False


VARIANTS = {
    "ours": Variant(),
    "default allocator": Variant(tuned=False),
    "fp32": Variant(("vae.training.precision=fp32",)),
    "unguided, search without gradient": Variant(("vae.renderer.guided_fine=0", "vae.renderer.search=true")),
    "unguided, all samples with gradient": Variant(("vae.renderer.guided_fine=0",)),
    "plain renderer": Variant(plain=True),
    "no loader process": Variant(("vae.training.workers=0",)),
    "plain": Variant(("vae.training.precision=fp32",), tuned=False, plain=True),
}
KINDS = {  # operators by name; what an operator calls is not counted as its own
    "matrix products": r"aten::(_?addmm\w*|mm|bmm|baddbmm|matmul|\w*linear\w*)",
    "convolutions": r"aten::\w*conv\w*",
    "attention": r"aten::\w*scaled_dot_product\w*",
    "plane sampling": r"aten::\w*(grid_sampler|embedding_bag)\w*",
}
PRODUCTS = ("matrix products", "convolutions", "attention")
LISTED = 12  # other operators


class Watched(VaeTask):
    """Stage 1 that notes when its steps begin, can be profiled, and is judged by views that are never supervised."""

    judges, profiler = False, None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.began: list[tuple[float, float]] = []

    def loss(self, batch: dict[str, Tensor], step: int, part: Part = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
        if self.profiler is not None and step == WARM_UP:
            self.profiler.start()
        self.began.append((time.perf_counter(), time.process_time()))
        if self.profiler is not None and step == WARM_UP + PROFILED:
            self.profiler.stop()
        return super().loss(batch, step, part)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for split, objects in {"train": self.train, "held_out": self.validation}.items():
            if not (self.judges and objects):
                continue
            shown = [self._view(index) for index in spread(objects, JUDGED)]
            errors = [(drawn - truth).square().mean() for drawn, truth in shown]
            weights = (self.config.losses.l1, self.config.losses.l2, self.config.losses.chroma)
            figures[f"psnr_{split}"] = sum(psnr_of(error) for error in errors) / len(errors)
            figures[f"loss_{split}"] = float(torch.stack([colour_loss(*pair, *weights) for pair in shown]).mean())
        return figures

    def _view(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = evaluation_views(self.config, self.shards)
        pictures, side = self.batch.pictures, min(SIDE, self.shards.resolution)
        planes = self.networks.decode(encode_object(self.networks, pictures, index, inputs).mean)
        field, cameras = frozen_radiance(self.networks, planes), pictures.cameras(index, targets[:1])
        drawn = render_images(field, *cameras, side, self.config.renderer).colour
        return drawn, torch.from_numpy(pictures.stack(index, targets[:1], side)[0])


class Plain(Watched):
    """The same, rendered from the definition."""

    def look(
        self, planes: Tensor, origins: Tensor, directions: Tensor, jitter: torch.Generator, hint: Tensor | None = None
    ) -> Rendered:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(jitter.initial_seed())
            colour, alpha, depth = plain_render(planes, self.networks.head, origins, directions)
        return Rendered(colour, alpha, expected_depth(depth, alpha))  # as the depth loss has it


def opened(path: Path, changes: Sequence[str] = ()) -> Recipe:
    recipe = load_recipe(path, changes)
    field, renderer = recipe.vae.field, recipe.vae.renderer
    settings = field.density_scale, field.density_shift, renderer.coarse, renderer.fine
    if settings != (SCALE, SHIFT, CONFIG.coarse, CONFIG.fine):
        sys.exit("error: the plain renderer of renderer.py has other settings than the recipe")
    return recipe


def drawn_smoke_meshes(recipe: Recipe, folder: Path) -> Path:
    """Draw the smoke recipe's meshes as `recipe` draws; return the workspace."""
    smoke = load_recipe(RECIPES / "smoke.yaml")
    look = {name: getattr(recipe.dataset, name) for name in ("cameras", "resolution", "supersampling")}
    dataset = smoke.dataset.model_copy(update=look)
    render_dataset.run(smoke.model_copy(update={"dataset": dataset}), Workspace(folder), Talk(0))
    return folder


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """Train in this process; return what was measured."""
    variant, steps = VARIANTS[options.child], options.steps
    torch.set_num_threads(options.threads)
    if not variant.tuned:
        loop.tune_allocator = lambda: False  # type: ignore[attr-defined]
    shards = ShardSet(Workspace(options.workspace).open("shards"))
    looks = max(1, steps // LOOKS) if options.curve else NEVER
    often = [f"vae.training.steps={steps}", "vae.training.log_every=1", f"vae.training.validate_every={looks}"]
    recipe = opened(options.recipe, [*variant.changes, *often, f"vae.training.checkpoint_every={NEVER}"])
    train, held_out = (
        [i for i, record in enumerate(shards.objects) if (record.split == "train") == own] for own in (True, False)
    )
    task = (Plain if variant.plain else Watched)(shards, train, held_out, recipe.vae, recipe.seed)
    task.judges = bool(options.curve)
    if options.profile:
        task.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    with tempfile.TemporaryDirectory() as folder:
        where = {"fingerprint": "", "device": torch.device("cpu"), "talk": Talk(0), "title": "train_step"}
        outcome = loop.train(task, recipe.vae.training, Path(folder) / "vae", **where)
        lines = [json.loads(line) for line in outcome.metrics.read_text().splitlines()]
    return _times(task.began, lines) | {
        "curve": [line for line in lines if any(name.startswith("validation/") for name in line)],
        "profile": _shares(task.profiler, task.began[-1][0] - task.began[WARM_UP][0]) if options.profile else {},
    }


def _times(began: Sequence[tuple[float, float]], lines: Sequence[dict[str, float]]) -> dict[str, float]:
    wall, processor = ([b - a for a, b in pairwise(times)] for times in zip(*began, strict=True))
    clock = [(line["seconds"], line["loader_seconds"]) for line in lines if "seconds" in line]
    (start, waited_before), (end, waited) = clock[WARM_UP - 1], clock[-1]
    return {
        "seconds": median(wall[WARM_UP:]),
        "cpu_seconds": median(processor[WARM_UP:]),
        "loader_wait": (waited - waited_before) / (end - start),
    }


def _shares(profiler: torch.profiler.profile, seconds: float) -> dict[str, float]:
    """Return the shares of `seconds` by kind of operator, and of the largest others by name."""
    own: Counter[str] = Counter()
    for event in profiler.key_averages():
        kind = next((kind for kind, name in KINDS.items() if re.fullmatch(name, event.key)), event.key)
        own[kind] += event.self_cpu_time_total / 1e6 / seconds
    names = [*KINDS, *[name for name, _ in own.most_common() if name not in KINDS][:LISTED]]
    return {name: own[name] for name in names} | {"between operators": 1 - sum(own.values())}


def in_own_process(name: str, options: argparse.Namespace, steps: int, *flags: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", name, "--workspace", str(options.workspace)]
    command += ["--recipe", str(options.recipe), "--steps", str(steps), "--threads", str(options.threads), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {name} failed")
    return json.loads(done.stdout.splitlines()[-1])


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Time every variant, profile ours, compare the curves; print tables, return the report without the machine."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(options.rounds):
        for name in options.only or VARIANTS:
            found = in_own_process(name, options, WARM_UP + options.steps + 1)
            if name not in best or found["seconds"] < best[name]["seconds"]:
                best[name] = found
            row = f"{found['seconds']:8.3f} s a step, {found['cpu_seconds']:8.3f} s of processors"
            print(f"{name:36s} {row}, {found['loader_wait']:6.1%} waiting for the loader", flush=True)
    profile = in_own_process("ours", options, WARM_UP + PROFILED + 1, "--profile")["profile"]
    for kind, share in profile.items():
        print(f"{kind:60s} {share:6.1%}")
    ours = best.get("ours")
    report = {
        "seconds": {name: round(found["seconds"], 4) for name, found in best.items()},
        "cpu_seconds": {name: round(found["cpu_seconds"], 4) for name, found in best.items()},
        "ratios": {n: round(f["seconds"] / ours["seconds"], 2) for n, f in best.items() if n != "ours"} if ours else {},
        "loader_wait": round(ours["loader_wait"], 4) if ours else None,
        "matrix_products": round(sum(profile[kind] for kind in PRODUCTS), 3),
        "profile": {name: round(share, 3) for name, share in profile.items()},
    }
    if options.curve:
        both = ("ours", "plain")
        curves = {n: in_own_process(n, options, options.curve, "--curve", "1")["curve"] for n in both}
        report["curve"] = _compared(curves)
        report["ratios"]["loss"] = report["curve"].pop("ratio")
    return report


def _compared(curves: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Print both curves; return them with the ratio of the losses of held-out objects at the end."""
    curves = {
        which: {name.removeprefix("validation/"): [line[name] for line in lines] for name in lines[0]}
        for which, lines in curves.items()
    }
    steps = curves["ours"].pop("step")
    del curves["plain"]["step"]
    for look, step in enumerate(steps):
        pairs = [f"{n} {curves['ours'][n][look]:.4f} / {curves['plain'][n][look]:.4f}" for n in curves["ours"]]
        print(f"step {step:4d}, ours / plain: {', '.join(pairs)}")
    judge = "loss_held_out" if "loss_held_out" in curves["ours"] else "loss_train"
    return {"steps": steps, **curves, "ratio": round(curves["plain"][judge][-1] / curves["ours"][judge][-1], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, help="where shards of 24 views are; default: smoke meshes")
    parser.add_argument("--recipe", type=Path, default=RECIPES / "everyday.yaml", help="default: recipes/everyday.yaml")
    parser.add_argument("--steps", type=int, default=12, help="timed steps of every variant, after two of warm-up")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of all variants; the best counts")
    parser.add_argument("--curve", type=int, default=0, metavar="STEPS", help="compare the curves of that many steps")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), metavar="VARIANT", help="time these alone")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(trained(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.workspace = options.workspace or drawn_smoke_meshes(opened(options.recipe), Path(folder))
        report = measured(options)
    machine = f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}"
    peer = "the same step with the plain renderer, fp32, the allocator as it is, all samples differentiable"
    protocol = f"{options.recipe.name}; median of {options.steps} steps, best of {options.rounds}"
    print(json.dumps({"benchmark": "train_step", "machine": machine, "peer": peer, "protocol": protocol, **report}))


if __name__ == "__main__":
    main()
