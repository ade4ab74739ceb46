"""Whether the views of shards and their cameras belong together, as figures and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ln3d.data.members import ObjectRecord
from ln3d.data.shards import ShardSet
from ln3d.data.subsets import selected, thinned
from ln3d.geometry.agreement import cloud_thickness, depth_disagreement, sampled_surface
from ln3d.geometry.cameras import directions, intrinsics, look_at
from ln3d.geometry.projection import box_edges, hidden, project, splat, world_axes
from ln3d.geometry.vectors import unit
from ln3d.report.sheets import contact_sheet
from ln3d.report.wires import Wire, wired
from ln3d.talk import Talk

_CHECKED, _SHOWN, _NAMED = 48, 9, 8
_SUSPECT = 0.4  # of a pixel's side; see docs/data.md for what true and wrong cameras have
_VIEWS, _PANEL, _MARGIN = 3, 272, 0.3
_CLOUD_DISTANCE, _CLOUD_FILL, _CLOUD_POINTS = 5.0, 0.47, 1500
_AXIS_COLOURS = ((206, 52, 47), (38, 143, 66), (45, 92, 205))
_BOX_COLOUR = (128, 135, 146)
_AGREES, _DOUBTFUL, _WRONG = (0.72, 0.75, 0.79), (0.96, 0.68, 0.16), (0.80, 0.10, 0.12)
_UNKNOWN = 0.9  # of what no other view should see: nearly white
_PIECES = 48

Clouds = dict[int, NDArray[np.float64]]
"""Number of an object -> thickness of its cloud, view by view."""


def chosen_objects(shards: ShardSet, only: Sequence[str]) -> list[ObjectRecord]:
    """Return the objects to check: those of `only`, else some of every category. Raises RecipeError: no such object."""
    return selected(shards.objects, only) if only else _some(shards.objects, _CHECKED)


def measure(shards: ShardSet, objects: Sequence[ObjectRecord], talk: Talk) -> Clouds:
    """Return how thick the clouds of the objects' depth maps are (see `ln3d.geometry.agreement.cloud_thickness`).

    All NaN for an object that came as pictures without depth or normals.
    """
    clouds = {}
    with talk.progress("check cameras", len(objects)) as progress:
        for record in objects:
            clouds[record.index] = np.full(shards.views, np.nan)
            if _is_solid(record):
                clouds[record.index] = cloud_thickness(*_geometry(shards, record.index))
            progress.advance()
    return clouds


def figures(shards: ShardSet, clouds: Clouds) -> dict[str, Any]:
    """Return the figures of `measure` as plain data, in world units.

    `cloud_thickness` is the median over all views of the objects; `worst` the thickest view; `suspects` the views that
    are thicker than two fifths of a pixel, or that no other view confirms.
    """
    pixel = pixel_size(shards, next(iter(clouds))) if clouds else 0.0
    values = [
        (np.inf if np.isnan(value) else float(value), index, view)
        for index, cloud in clouds.items()
        if _is_solid(shards.objects[index])
        for view, value in enumerate(cloud)
    ]
    known = [value for value, _, _ in values if np.isfinite(value)]
    thickest = sorted(values, key=lambda item: (-item[0], item[1], item[2]))
    suspects = [_named(shards, *item) for item in thickest if item[0] > _SUSPECT * pixel]
    solid = sum(_is_solid(shards.objects[index]) for index in clouds)
    return {
        "objects_checked": solid,
        "objects_without_depth": len(clouds) - solid or None,
        "cloud_thickness": float(np.median(known)) if known else None,
        "pixel": pixel,
        "worst": _named(shards, *thickest[0]) if thickest else None,
        "suspect_views": len(suspects),
        "suspects": suspects[:_NAMED],
    }


def write_sheet(shards: ShardSet, clouds: Clouds, path: Path, *, every: bool = False) -> None:
    """Write a PNG: views of objects with the scene box and the world's axes, and all depth maps as one cloud.

    The clouds are seen from where no camera stands: once in the colours of the views, once grey where other views
    agree and red where they do not. The object with the thickest view comes first; `every` shows all of them.
    """

    def badness(index: int) -> float:
        return _thickest(clouds[index])[0] if _is_solid(shards.objects[index]) else 0.0

    worst_first = sorted(clouds, key=lambda index: -badness(index))
    records = [shards.objects[index] for index in sorted(clouds)]
    shown = [record.index for record in (records if every else _some(records, _SHOWN))]
    shown = [worst_first[0], *(index for index in shown if index != worst_first[0])][: max(len(shown), 1)]
    rows, labels = [], []
    for index in shown:
        thickness, view = _thickest(clouds[index])
        record = shards.objects[index]
        told = f"cloud {_length(_middle(clouds[index]))}, thickest in view {view}: {_length(thickness)}"
        told = told if _is_solid(record) else "pictures without depth"
        labels.append(f"{record.source_id}: {(record.captions or (record.name,))[0]}   ·   {told}")
        rows.append(_row(shards, index, view))
    spread = _spread(shards.views)
    columns = [
        *(f"view {view}" for view in spread),
        "thickest view",
        "all depth maps, seen anew",
        "grey where views agree",
    ]
    title = f"{shards.artifact.manifest.name}: cameras, scene box and depth of {len(shown)} of {len(shards)} objects"
    contact_sheet(rows, labels, path, title=title, columns=columns)


@dataclass(frozen=True)
class _Sorted:
    """An object under its collection and category, so that every collection has its share."""

    record: ObjectRecord
    category: str


def _some(records: Sequence[ObjectRecord], count: int) -> list[ObjectRecord]:
    grouped = [_Sorted(record, f"{record.source_id.split('/')[0]}/{record.category}") for record in records]
    return [item.record for item in thinned(grouped, count)]


def pixel_size(shards: ShardSet, index: int) -> float:
    """Return the side of a pixel at the origin, in world units: the mean over the cameras of an object."""
    poses, k = shards.camera_to_world(index), shards.intrinsics(index)
    distance = np.linalg.norm(poses[:, :3, 3], axis=1)
    return float((distance / k[:, 0, 0]).mean() / shards.resolution)


def _geometry(shards: ShardSet, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    views, size, record = range(shards.views), shards.resolution, shards.objects[index]
    depth, normal = np.zeros((len(views), size, size), np.float32), np.zeros((len(views), size, size, 3), np.float32)
    if _is_solid(record):
        depth = np.stack([shards.depth(index, view) for view in views])
        normal = np.stack([shards.normal(index, view) for view in views])
    return depth, normal, shards.camera_to_world(index), shards.intrinsics(index)


def _is_solid(record: ObjectRecord) -> bool:
    """Return whether the views of an object have depth and normals."""
    return not {"depth", "normal"} & set(record.lacks)


def _named(shards: ShardSet, thickness: float, index: int, view: int) -> dict[str, Any]:
    value = thickness if np.isfinite(thickness) else None
    return {"object": shards.objects[index].source_id, "view": view, "thickness": value}


def _thickest(cloud: NDArray[np.float64]) -> tuple[float, int]:
    view = int(np.argmax(np.where(np.isnan(cloud), np.inf, cloud)))
    return (np.inf if np.isnan(cloud[view]) else float(cloud[view])), view


def _middle(cloud: NDArray[np.float64]) -> float:
    known = cloud[np.isfinite(cloud)]
    return float(np.median(known)) if len(known) else np.inf


def _length(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "not confirmed by any view"


def _spread(views: int) -> list[int]:
    return [place * views // _VIEWS for place in range(min(_VIEWS, views))]


def _row(shards: ShardSet, index: int, thickest: int) -> list[NDArray[np.uint8]]:
    """Return the pictures of one object."""
    depth, normal, poses, k = _geometry(shards, index)
    colour = np.stack([shards.colour(index, view) for view in range(shards.views)]).astype(np.float64) / 255
    on_white = colour[..., :3] * colour[..., 3:] + 1 - colour[..., 3:]
    pictures = [
        wired(on_white[view], _wires(depth[view], poses[view], k[view]), _PANEL, _MARGIN)
        for view in [*_spread(shards.views), thickest]
    ]
    points, values, source = sampled_surface(depth, np.concatenate([normal, on_white], -1), poses, k, _CLOUD_POINTS)
    normals, own = values[:, :3], values[:, 3:]
    wrong = depth_disagreement(points, normals, source, depth, poses, k)
    eye = look_at(fresh_direction(poses) * _CLOUD_DISTANCE)
    close = _box_filling(eye)
    for colours in (own, _heat(wrong / pixel_size(shards, index))):
        picture, behind = splat(points, colours, eye, close, _PANEL)
        pictures.append(wired(picture, _wires(behind, eye, close), _PANEL))
    return pictures


def _box_filling(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intrinsics with which the scene box just fits into the picture of a camera that looks at its middle."""
    wide = intrinsics(90.0)
    position, _ = project(box_edges().reshape(-1, 3), pose[None], wide[None])
    wide[[0, 1], [0, 1]] *= _CLOUD_FILL / np.abs(position - 0.5).max()
    return wide


def fresh_direction(camera_to_world: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a unit vector, aside in front and above, that is far from all directions in which cameras stand."""
    stands = unit(camera_to_world[:, :3, 3].astype(np.float64))
    azimuth, elevation = (a.ravel() for a in np.meshgrid([*range(-60, -20, 5), *range(25, 65, 5)], range(15, 40, 5)))
    candidates = directions(azimuth.astype(np.float64), elevation.astype(np.float64))
    return np.asarray(candidates[np.argmin((candidates @ stands.T).max(axis=1))])


def _wires(depth: NDArray[Any], pose: NDArray[Any], k: NDArray[Any]) -> list[Wire]:
    """Return the scene box and the axes as a camera sees them, hidden where its depth map is nearer."""
    along = np.linspace(0, 1, _PIECES)[:, None]
    wires = []
    for number, (start, stop) in enumerate([*box_edges(), *world_axes()]):
        points = start + (stop - start) * along
        position, ahead = project(points, pose[None], k[None])
        if ahead.min() <= 0.05:  # a camera inside the box: a line through its eye is no line in the picture
            continue
        axis = number - 12
        ink = (_BOX_COLOUR, 1.0, "") if axis < 0 else (_AXIS_COLOURS[axis], 2.2, "xyz"[axis])
        wires.append(Wire(position[0], hidden(points, depth, pose, k), *ink))
    return wires


def _heat(doubt: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return colours (n, 3) for disagreements in pixels: grey, then amber, red from two."""
    levels = [_SUSPECT, 1.0, 2.0]
    ramp = np.array([_AGREES, _DOUBTFUL, _WRONG])
    colours = np.stack([np.interp(np.nan_to_num(doubt), levels, ramp[:, c]) for c in range(3)], axis=-1)
    colours[np.isnan(doubt)] = _UNKNOWN
    return colours
