"""Time the dataset renderer beside moderngl, VTK and Blender's Cycles, all on one core.

    python benchmarks/views.py [--packages DIR] [--peers moderngl vtk cycles] [--repeats 5] [--picture FILE.png]

DIR, by default where `ln3d fetch sweethome3d flightgear` puts it, holds the packages of three textured meshes. A job is
what `ln3d render-dataset` does with a mesh that is already read: set it up (search tree, textures, buffers), draw 24
views of 256 x 256 with one sample per pixel, and have colour with coverage, distance and world normal of each as NumPy
arrays. `per_view_ms` is what every further view of a job takes in processor time, `set_up_ms` the rest of it.

Every contestant is a process of its own that stays, held on the same core and with no other thread; they take turns.
Pictures are compared first, which also compiles the peers' shaders: the masks of four views must have 0.97 in common
with ours. A peer that is not installed is left out with a note (pip install moderngl vtk 'bpy<5' OpenEXR).

The last line is one JSON object; its `ratios` are views per second, ours / theirs (above 1: ours is faster), the median
over the meshes. `processor_ratios` are the same of processor time, which other work on the machine hardly changes.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ln3d.cache import packages_folder
from ln3d.config.render import CameraConfig, CollectionConfig, DatasetConfig, LimitsConfig
from ln3d.data.collections.catalogue import list_objects, load_object
from ln3d.data.readers.scene import Scene, normalised
from ln3d.data.views import Views
from ln3d.geometry.cameras import camera_set

MESHES = {
    "flightgear/Cessna208Caravan/caravan": ("flightgear", "flightgear-data-ai"),
    "sweethome3d/BlendSwap-CC-0/095": ("sweethome3d", "sweethome3d-furniture"),
    "sweethome3d/Reallusion/025": ("sweethome3d", "sweethome3d-furniture"),
}
"""An aircraft, a couch and a girl: 19,459, 22,682 and 18,424 triangles; their collections and packages."""
PEERS = ("moderngl", "vtk", "cycles")
VIEWS, RESOLUTION, COMPARED = 24, 256, 4
ALIKE = 0.97
LONG_S = 15.0  # a job that takes longer is not repeated
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VTK_SMP_MAX_THREADS"), "1"),
    "LP_NUM_THREADS": "0",  # Mesa: no thread besides the one that asks
    "LIBGL_ALWAYS_SOFTWARE": "1",
}


class Job(NamedTuple):
    """What one job of a contestant took, wall-clock and processor time in seconds, and what it drew, if asked for."""

    wall: float
    processor: float
    views: Views | None = None


def version(name: str) -> str:
    """Return what draws for a contestant."""
    return "ln3d, Embree" if name == "ln3d" else import_module(f"views_{name}").version()


def work(name: str, scene: Scene, count: int, keep: bool = False) -> Job:
    """Do the job of `count` views in this process."""
    cameras = tuple(array[:count] for array in camera_set(CameraConfig(views=VIEWS)))
    draw = import_module("ln3d.data.views" if name == "ln3d" else f"views_{name}").draw
    extra = {"supersampling": 1} if name == "ln3d" else {}
    wall, processor = time.perf_counter(), time.process_time()
    views = draw(scene, *cameras, RESOLUTION, **extra)
    return Job(time.perf_counter() - wall, time.process_time() - processor, views if keep else None)


def quiet() -> None:
    """Let nothing that this process prints get between the figures: Blender tells of every sample."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Contestant:
    """A process that draws."""

    def __init__(self, name: str) -> None:
        """Start it. Raises ImportError or what else it fails with."""
        self.name = name
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=quiet)
        try:
            self.version: str = self._pool.submit(version, name).result()
        except BaseException:
            self.close()
            raise

    def work(self, scene: Scene, count: int, keep: bool = False) -> Job:
        """Do a job of `count` views and wait for it."""
        return self._pool.submit(work, self.name, scene, count, keep).result()

    def close(self) -> None:
        """End it."""
        self._pool.shutdown()


def contestants(peers: list[str]) -> list[Contestant]:
    """Return ours and those of the peers that are here; note the others."""
    found = [Contestant("ln3d")]
    for name in peers:
        try:
            found.append(Contestant(name))
        except Exception as error:  # not installed, no driver, or ended by a signal
            print(f"{name}: left out, {type(error).__name__}: {error}", file=sys.stderr)
    return found


def meshes(packages: Path) -> dict[str, Scene]:
    """Return the three objects, normalised."""
    scenes = {}
    for kind, package in dict.fromkeys(MESHES.values()):
        config = DatasetConfig(collections=(CollectionConfig(kind=kind, path=str(packages / package)),))
        for entry in list_objects(config):
            if entry.source_id in MESHES:
                scenes[entry.source_id] = normalised(load_object(entry, LimitsConfig()))
    return {name: scenes[name] for name in MESHES}


def common(ours: Views, theirs: Views) -> float:
    """Return the pixels that both cover over those that either does, of all views together."""
    a, b = (views.colour[..., 3] >= 128 for views in (ours, theirs))
    return float((a & b).sum() / (a | b).sum())


def compared(field: list[Contestant], scenes: dict[str, Scene], picture: Path | None) -> dict[str, float]:
    """Return the least common mask of every peer and ours; write all that they saw; exit where a mask is another."""
    least, panels = {}, []
    for scene in scenes.values():
        seen = {each.name: each.work(scene, COMPARED, keep=True).views for each in field}
        panels += [panel(views) for views in seen.values()]
        for name, views in list(seen.items())[1:]:
            least[name] = min(least.get(name, 1.0), common(seen["ln3d"], views))
    if picture:
        Image.fromarray(np.concatenate(panels, axis=1)).save(picture)
    if any(value < ALIKE for value in least.values()):
        sys.exit(f"pictures differ, common masks: {least}")
    return least


def panel(views: Views) -> NDArray[np.uint8]:
    """Return colour on white, distance and normal of the first view, one below the other."""
    colour, depth, normal = views.colour[0].astype(np.float32), views.depth[0], views.normal[0]
    alpha = colour[..., 3:] / 255
    near = np.where(depth > 0, (4.1 - depth) / 1.8 * 255, 0)
    parts = colour[..., :3] * alpha + 255 * (1 - alpha), np.repeat(near[..., None], 3, -1), (normal + 1) * 127.5
    return np.concatenate([part.clip(0, 255).astype(np.uint8) for part in parts])


def timed(field: list[Contestant], scene: Scene, repeats: int) -> dict[str, tuple[list[Job], list[Job]]]:
    """Return the jobs of all views and those of one view of every contestant, taking turns."""
    jobs: dict[str, tuple[list[Job], list[Job]]] = {each.name: ([], []) for each in field}
    for _ in range(repeats):
        for each in field:
            whole, single = jobs[each.name]
            if not whole or whole[0].wall < LONG_S:
                whole.append(each.work(scene, VIEWS))
                single.append(each.work(scene, 1))
    return jobs


def middle(jobs: list[Job], column: str) -> float:
    """Return the median of a column."""
    return statistics.median(getattr(job, column) for job in jobs)


def main() -> None:
    """Compare the pictures, measure, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=packages_folder())
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--picture", type=Path, help="write what everyone sees of the first view to this PNG")
    options = parser.parse_args()
    os.environ |= ONE_THREAD
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    scenes = meshes(options.packages)
    field = contestants(options.peers)
    alike = compared(field, scenes, options.picture)
    rows: dict[str, list[dict[str, float]]] = {each.name: [] for each in field}
    for mesh, scene in scenes.items():
        for name, (whole, single) in timed(field, scene, options.repeats).items():
            row = {"wall": middle(whole, "wall"), "processor": middle(whole, "processor")}
            row["per_view"] = (row["processor"] - middle(single, "processor")) / (VIEWS - 1)
            row["set_up"] = row["processor"] - VIEWS * row["per_view"]
            rows[name].append(row)
            rate, per_view, set_up = VIEWS / row["wall"], row["per_view"] * 1e3, row["set_up"] * 1e3
            print(f"{mesh:36s} {name:9s} {rate:7.1f} views/s; {per_view:7.1f} ms a view, {set_up:6.1f} ms set-up")

    def median_ratio(name: str, column: str) -> float:
        pairs = zip(rows[name], rows["ln3d"], strict=True)
        return round(statistics.median(theirs[column] / ours[column] for theirs, ours in pairs), 2)

    def milliseconds(column: str) -> dict[str, list[float]]:
        return {name: [round(row[column] * 1e3, 1) for row in found] for name, found in rows.items()}

    peers = [each.name for each in field[1:]]
    result = {
        "benchmark": "views",
        "contestants": {each.name: each.version for each in field},
        "protocol": f"{VIEWS} views of {RESOLUTION} x {RESOLUTION}, one core, median of {options.repeats} jobs",
        "triangles": {name: scene.face_count for name, scene in scenes.items()},
        "seconds": {name: [round(row["wall"], 4) for row in found] for name, found in rows.items()},
        "per_view_ms": milliseconds("per_view"),
        "set_up_ms": milliseconds("set_up"),
        "common_masks": {name: round(value, 4) for name, value in alike.items()},
        "ratios": {name: median_ratio(name, "wall") for name in peers},
        "processor_ratios": {name: median_ratio(name, "processor") for name in peers},
    }
    for each in field:
        each.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
