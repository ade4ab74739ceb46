"""COV, MMD and 1-NNA of many clouds against many: `NearestSearch` against a scipy loop in two processes.

    python benchmarks/chamfer.py [--clouds 200] [--points 4096] [--shards WORKSPACE] [--alone]

The peer computes every pair of the three matrices (the two square ones by their upper half) with all trees built once
in each process. With `--shards` the clouds are the outer surfaces of objects that are spread evenly over the catalogue
of a workspace's shards, one of every shape, as `eval cov` takes them; otherwise random furniture made of boxes. Both
sides get every second cloud. `--alone` leaves out the peer, for sizes that it takes hours for. The last line is JSON.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from ln3d.artifacts.workspace import Workspace
from ln3d.data.shards import ShardSet
from ln3d.geometry.chamfer import CloudSet, cloud_set
from ln3d.geometry.chamfer_minima import NearestSearch
from ln3d.geometry.clouds import normalised_cloud, thinned, unproject

_WORKERS = 2

_clouds: list[np.ndarray] = []
_trees: list[cKDTree] = []


def furniture(count: int, points: int, seed: int = 0) -> list[np.ndarray]:
    """Return clouds on the surfaces of chairs of random proportions: a seat, a back and four legs."""
    rng = np.random.default_rng(seed)
    clouds = []
    for _ in range(count):
        w, h, d = rng.uniform(0.3, 1, 3)
        centres = np.array(
            [[0, 0, 0], [0, h / 2, -d / 2], *[[x * w, -h / 2, z * d] for x in (-0.5, 0.5) for z in (-0.5, 0.5)]]
        )
        sizes = np.array([[w, 0.05, d], [w, h, 0.05], *[[0.06, h, 0.06]] * 4])
        box = rng.choice(6, points, p=sizes.max(1) / sizes.max(1).sum())
        local = rng.uniform(-0.5, 0.5, (points, 3))
        local[np.arange(points), rng.integers(0, 3, points)] = rng.choice([-0.5, 0.5], points)
        clouds.append(normalised_cloud(centres[box] + local * sizes[box]))
    return clouds


def real(workspace: Path, count: int, points: int) -> list[np.ndarray]:
    """Return clouds of the outer surfaces of `count` shapes of a workspace's shards."""
    shards = ShardSet(Workspace(workspace).open("shards"))
    shapes = list({record.shape_id: record for record in reversed(shards.objects)}.values())[::-1]
    if len(shapes) < count:
        raise SystemExit(f"{workspace} has {len(shapes)} shapes, {count} are needed: lower --clouds")
    chosen = [shapes[number * len(shapes) // count].index for number in range(count)]
    clouds: list[Any] = [None] * count
    with get_context("spawn").Pool(_WORKERS) as pool:
        parts = pool.starmap(surfaces, [(workspace, chosen[k::_WORKERS], points) for k in range(_WORKERS)])
    for k, part in enumerate(parts):
        clouds[k::_WORKERS] = part
    return clouds


def surfaces(workspace: Path, objects: list[int], points: int) -> list[np.ndarray]:
    """Return the normalised outer surfaces of some objects of a workspace's shards: their depth maps, thinned."""
    shards, clouds = ShardSet(Workspace(workspace).open("shards")), []
    for i in objects:
        depth = np.stack([shards.depth(i, view) for view in range(shards.views)])
        seen = unproject(depth, shards.camera_to_world(i), shards.intrinsics(i))
        clouds.append(normalised_cloud(thinned(seen, points, seed=i)).astype(np.float32))
    return clouds


def _start(clouds: list[np.ndarray]) -> None:
    _clouds[:], _trees[:] = clouds, [cKDTree(cloud) for cloud in clouds]


def _pair(pair: tuple[int, int]) -> float:
    i, j = pair
    there, back = _trees[j].query(_clouds[i])[0], _trees[i].query(_clouds[j])[0]
    return float((there**2).mean() + (back**2).mean())


def by_scipy(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the matrices ours-theirs, ours-ours and theirs-theirs, every pair computed; infinite diagonals."""
    g, n = len(ours), len(ours) + len(theirs)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    with get_context("spawn").Pool(_WORKERS, _start, ([*ours, *theirs],)) as pool:
        values = pool.map(_pair, pairs, chunksize=64)
    whole = np.full((n, n), np.inf)
    for (i, j), value in zip(pairs, values, strict=True):
        whole[i, j] = whole[j, i] = value
    return [whole[:g, g:], whole[:g, :g], whole[g:, g:]]


def by_bounds(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[np.ndarray]:
    """Return the same matrices with infinity where a pair is no minimum."""
    a, b = cloud_set(ours), cloud_set(theirs)
    return [searched(x, y) for x, y in ((a, b), (a, a), (b, b))]


def searched(a: CloudSet, b: CloudSet) -> np.ndarray:
    """Return the distances that were worked out in search of the minima of rows and columns, the others infinite."""
    search = NearestSearch.between(a, b, workers=_WORKERS)
    search.nearest(range(len(a)), workers=_WORKERS)
    if a is not b:
        search.swapped().nearest(range(len(b)), workers=_WORKERS)
    return search.distances


def timed(work: Callable[..., Any], *given: Any) -> tuple[Any, float, float]:
    """Return what `work` returns, the seconds it took, and those of the processor, in this process and its children."""
    wall, used = time.perf_counter(), _processor_seconds()
    result = work(*given)
    return result, time.perf_counter() - wall, _processor_seconds() - used


def _processor_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def compare(mine: list[np.ndarray], peers: list[np.ndarray]) -> None:
    """Raise AssertionError unless the minima and their places are the same."""
    for ours, theirs in zip(mine, peers, strict=True):
        for axis in (0, 1):
            np.testing.assert_array_equal(ours.argmin(axis), theirs.argmin(axis))
            np.testing.assert_allclose(ours.min(axis), theirs.min(axis), rtol=1e-12)


def main() -> None:
    """Time both, compare all minima, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clouds", type=int, default=200, help="clouds on each side")
    parser.add_argument("--points", type=int, default=4096)
    parser.add_argument("--shards", type=Path, help="take the clouds from the shards of this workspace")
    parser.add_argument("--alone", action="store_true", help="leave out the peer")
    options = parser.parse_args()
    total = 2 * options.clouds
    clouds = real(options.shards, total, options.points) if options.shards else furniture(total, options.points)
    ours, theirs = clouds[::2], clouds[1::2]
    fast, wall, used = timed(by_bounds, ours, theirs)
    seconds, processor = {"ln3d": wall}, {"ln3d": used}
    if not options.alone:
        slow, seconds["scipy"], processor["scipy"] = timed(by_scipy, ours, theirs)
        compare(fast, slow)
    result = {
        "benchmark": "chamfer",
        "clouds": [len(ours), len(theirs)],
        "points": options.points,
        "source": "shards" if options.shards else "furniture",
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "processor_seconds": {name: round(value, 2) for name, value in processor.items()},
        "pairs_finished": round(float(np.mean([np.isfinite(m).mean() for m in fast])), 4),
        "ratios": {name: round(value / wall, 2) for name, value in seconds.items() if name != "ln3d"},
        "processor_ratios": {name: round(value / used, 2) for name, value in processor.items() if name != "ln3d"},
    }
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
