"""What encoding saves: planes of an unseen object by one pass of the networks, or by optimising them, to the same PSNR.

    python benchmarks/amortised.py --workspace DIR [--model DIR] [--objects 8] [--cap 60] [--threads 2]

DIR has `shards`; the model is a workspace or model folder with a `vae`, by default the one that ships with the package.
Objects are of shapes that the model has never seen. Ours is to encode and decode the input views, as the stages do it.
The peer optimises planes of the same shape by Adam from the same input views, by the same renderer and losses, rays and
precision as the model's own training, and its clock runs only while it renders, differentiates and steps. Its head is
the model's own, frozen, or a fresh one that is trained beside the planes. Of several learning rates the one that gets
there first counts. Both are judged by the same renderer on views that neither has seen; the peer is done when its PSNR
there is ours, and between two looks its PSNR is taken to rise evenly.

The last line is one JSON object; its `ratios` are the medians over objects of the peer's seconds / ours. Where the peer
does not get there before `--cap` seconds, its ratio is that of the cap; `reached` counts the objects where it does.
"""

import argparse
import copy
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.config.load import recipe_from_dict
from ln3d.data.batches import input_views
from ln3d.data.shards import ObjectRecord, ShardSet
from ln3d.data.splits import assign_splits
from ln3d.generation.model import DEFAULT_MODEL, read_autoencoder
from ln3d.metrics.image import psnr
from ln3d.models.autoencoder import Autoencoder
from ln3d.rendering.volume import render_images
from ln3d.runtime import available_cores, tune_allocator
from ln3d.seeding import generator, numpy_generator
from ln3d.stages.reconstruction_scores import chosen_objects
from ln3d.training.precision import autocast
from ln3d.training.reconstruction import evaluation_views, views_of
from ln3d.training.vae_losses import loss_weights, render_terms, weighted_sum
from ln3d.training.vae_rendering import frozen_radiance, radiance
from ln3d.training.vae_step import VaeTask

CPU = torch.device("cpu")
SIDE = 64  # pixels of the compared views
START = 0.1  # deviation of the planes that are optimised
HEAD_RATE = 0.1  # of a fresh head, relative to the planes'
FIRST_LOOK, LOOKS_APART = 20, 1.25  # steps until the first look, and from one look to the next, relatively
PLAIN = np.eye(3, dtype=np.float32)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass
class Ours:
    """One pass of the networks: planes (1 3 c h w), and the seconds that they took."""

    planes: Tensor
    encode: float
    decode: float
    psnr: float

    @property
    def seconds(self) -> float:
        return self.encode + self.decode


@dataclass
class Attempt:
    """An optimisation of planes, until it was done or its time was over."""

    seconds: float
    steps: int
    psnr: float
    reached: bool
    rate: float


@dataclass
class Bench:
    """An unseen object, whose input views both contestants see, and whose other views judge both."""

    task: VaeTask
    record: ObjectRecord
    seed: int
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.networks, self.config = self.task.networks, self.task.config
        self.inputs, self.targets = evaluation_views(self.config, self.task.shards)
        pictures, self.side = self.task.batch.pictures, min(SIDE, self.task.shards.resolution)
        self.truth = torch.from_numpy(pictures.stack(self.record.index, self.targets, self.side)[0])
        self.cameras = pictures.cameras(self.record.index, self.targets)

    @torch.no_grad()
    def judged(self, task: VaeTask, planes: Tensor) -> float:
        field = frozen_radiance(task.networks, planes.detach().expand(len(self.targets), -1, -1, -1, -1))
        drawn = render_images(field, *self.cameras, self.side, self.config.renderer).colour
        return float(psnr(drawn, self.truth).mean())

    @torch.no_grad()
    def encoded(self, repeats: int) -> Ours:
        batch = input_views(self.task.batch.pictures, self.record.index, self.inputs, self.config, PLAIN)
        views = views_of({name: value[None] for name, value in batch.items()})
        times = []
        for _ in range(repeats + 1):  # the first is warm-up
            start = self.clock()
            latent = self.networks.encode(views).mean
            between = self.clock()
            planes = self.networks.decode(latent)
            times.append((between - start, self.clock() - between))
        encode, decode = (median(column) for column in zip(*times[1:], strict=True))
        return Ours(planes, encode, decode, self.judged(self.task, planes))

    def optimised(self, shape: torch.Size, target: float, cap: float, rate: float, fresh: bool) -> Attempt:
        """Optimise planes until their PSNR is `target`, or for `cap` seconds."""
        noise = torch.Generator().manual_seed(self.seed)
        planes = (START * torch.randn(shape, generator=noise)).requires_grad_()
        task = self._with_fresh_head() if fresh else self.task
        groups: list[dict[str, Any]] = [{"params": [planes], "lr": rate}]
        if fresh:
            groups.append({"params": list(task.networks.head.parameters()), "lr": HEAD_RATE * rate})
        optimiser = torch.optim.Adam(groups)
        seconds, step, look = 0.0, 0, FIRST_LOOK
        before, best = (0.0, 0.0), 0.0  # seconds and PSNR of the last look, the best PSNR so far
        while True:
            seconds += self._step(task, planes, optimiser, step)
            step += 1
            if step < look and seconds < cap:
                continue
            look, found = round(step * LOOKS_APART), self.judged(task, planes)
            best = max(best, found)
            if found >= target:
                between = (target - before[1]) / (found - before[1])
                return Attempt(before[0] + between * (seconds - before[0]), step, best, True, rate)
            if seconds >= cap:
                return Attempt(seconds, step, best, False, rate)
            before = seconds, found

    def _with_fresh_head(self) -> VaeTask:
        task = copy.copy(self.task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            task.networks = Autoencoder(self.config)
        return task

    def _step(self, task: VaeTask, planes: Tensor, optimiser: torch.optim.Optimizer, step: int) -> float:
        """Take a step; return the seconds without those of choosing its rays."""
        random = numpy_generator(self.seed, "amortised", self.record.index, step)
        rays = self.task.batch.rays(self.record.index, self.inputs, random, PLAIN)
        batch = {name: value[None] for name, value in rays.items()}
        jitter = generator(self.seed, "amortised", self.record.index, step)
        start = self.clock()
        optimiser.zero_grad(set_to_none=True)
        with autocast(torch.device("cpu"), self.config.training.precision):
            rendered = task.look(planes, batch["origins"], batch["directions"], jitter, batch["hint"])
            terms = render_terms(rendered, radiance(task.networks, planes), batch, self.config)
            loss = weighted_sum(terms, loss_weights(self.config.losses, step))
        loss.backward()
        optimiser.step()
        return self.clock() - start


def unseen(shards: ShardSet, vae: Artifact, count: int) -> list[ObjectRecord]:
    """Return at most `count` objects of shapes that the VAE was not trained on."""
    split = recipe_from_dict(vae.manifest.recipe).dataset.split
    trained_on = vae.manifest.inputs.get("shards")
    if trained_on is not None and trained_on.id == shards.artifact.id:
        objects = shards.objects
    else:  # other shards: held out by their own rule and by the model's as well
        rule = assign_splits(shards.objects, split)
        chosen = zip(shards.objects, rule, strict=True)
        objects = [r for r, its_split in chosen if its_split == "test" or r.source_id in split.held_out]
    return chosen_objects(objects, "test", None, count)


def compared(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one object; print and return its figures."""
    ours = bench.encoded(options.repeats)
    row: dict[str, Any] = {"object": bench.record.source_id, "psnr": round(ours.psnr, 2)}
    row |= {"encode_ms": round(1e3 * ours.encode, 1), "decode_ms": round(1e3 * ours.decode, 1)}
    line = f"{row['object'][:44]:44s} {1e3 * ours.seconds:7.1f} ms {ours.psnr:6.2f} dB"
    for head in options.heads:
        tries = [
            bench.optimised(ours.planes.shape, ours.psnr, options.cap, rate, head == "fresh") for rate in options.rates
        ]
        best = min(tries, key=lambda attempt: (not attempt.reached, attempt.seconds, -attempt.psnr))
        row[head] = {"seconds": round(best.seconds, 3), "steps": best.steps, "psnr": round(best.psnr, 2)}
        row[head] |= {"reached": best.reached, "rate": best.rate, "ratio": round(best.seconds / ours.seconds, 1)}
        sign = "" if best.reached else "not "
        line += f" | {head} {best.seconds:6.1f} s ({best.steps} steps), {sign}reached, {row[head]['ratio']:.0f} x"
    print(line, flush=True)
    return row


def report(rows: Sequence[dict[str, Any]], heads: Sequence[str]) -> dict[str, Any]:
    ratios = {head: sorted(row[head]["ratio"] for row in rows) for head in heads}
    return {
        "seconds": {
            "encode": round(median(row["encode_ms"] for row in rows) / 1e3, 4),
            "decode": round(median(row["decode_ms"] for row in rows) / 1e3, 4),
            **{f"optimised_{head}": median(row[head]["seconds"] for row in rows) for head in heads},
        },
        "psnr": round(sum(row["psnr"] for row in rows) / len(rows), 2),
        "ratios": {head: round(median(found), 1) for head, found in ratios.items()},
        "spread": {head: [found[0], found[-1]] for head, found in ratios.items()},
        "reached": {head: sum(row[head]["reached"] for row in rows) for head in heads},
        "objects": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="where shards with test objects are")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="workspace or folder with a vae")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--cap", type=float, default=60.0, help="seconds of one optimisation")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1], help="learning rates of the peer")
    parser.add_argument("--heads", nargs="+", choices=["frozen", "fresh"], default=["frozen", "fresh"])
    parser.add_argument("--repeats", type=int, default=5, help="of encode and decode; the median counts")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="processor: on a machine that is busy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(options.threads)
    vae, shards = Workspace(options.model).open("vae"), ShardSet(Workspace(options.workspace).open("shards"))
    recipe = recipe_from_dict(vae.manifest.recipe)
    if recipe.vae.supervision.kind != "rays":
        sys.exit("error: the model was trained on whole crops; this benchmark optimises by sparse rays")
    task = VaeTask(shards, range(len(shards.objects)), [], recipe.vae, options.seed)
    task.networks = read_autoencoder(vae, CPU)[0]
    objects = unseen(shards, vae, options.objects)
    if not objects:
        sys.exit("error: the shards have no object whose shape the model has not seen")
    rows = [compared(Bench(task, record, options.seed, CLOCKS[options.clock]), options) for record in objects]
    machine = f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}"
    peer = (
        f"planes optimised per object by Adam, fastest of the learning rates {options.rates}, at most {options.cap} s"
    )
    summary = {
        "benchmark": "amortised",
        "machine": machine,
        "clock": options.clock,
        "peer": peer,
        "vae": vae.id,
        "shards": shards.artifact.id,
    }
    print(json.dumps(summary | report(rows, options.heads)))


if __name__ == "__main__":
    main()
