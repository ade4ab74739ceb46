"""Chairs, tables, cars, planes and boats made of convex solids: +y up, +z front."""

from collections.abc import Callable, Sequence

import numpy as np
import trimesh

from ln3d.data.readers.scene import Part

Points = Sequence[Sequence[float]]
Colour = tuple[float, float, float]


DARK: Colour = (0.10, 0.10, 0.11)
GLASS: Colour = (0.45, 0.65, 0.80)


def solid(points: Points, colour: Colour) -> Part:
    """Return the convex hull of some points in one colour."""
    hull = trimesh.convex.convex_hull(np.asarray(points, dtype=np.float64))
    return Part(
        vertices=np.asarray(hull.vertices, dtype=np.float32),
        faces=np.asarray(hull.faces, dtype=np.int64),
        uv=None,
        colours=None,
        base_colour=np.array([*colour, 1.0], dtype=np.float32),
        texture=None,
    )


def box(low: Sequence[float], high: Sequence[float], colour: Colour) -> Part:
    """Return an axis-aligned box between two corners."""
    corners = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    return solid(corners.tolist(), colour)


def cylinder(centre: Sequence[float], radius: float, half: float, axis: int, colour: Colour) -> Part:
    """Return a 16-sided cylinder along a coordinate axis (0 x, 1 y, 2 z)."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    points = np.zeros((32, 3))
    points[:, (axis + 1) % 3] = np.tile(radius * np.cos(angle), 2)
    points[:, (axis + 2) % 3] = np.tile(radius * np.sin(angle), 2)
    points[:, axis] = np.repeat([-half, half], 16)
    return solid((points + np.asarray(centre)).tolist(), colour)


def mirrored(points: Points) -> list[list[float]]:
    """Return points together with their mirror images across x = 0."""
    return [list(p) for p in points] + [[-p[0], p[1], p[2]] for p in points]


def chair(style: str, body: Colour, trim: Colour) -> list[Part]:
    """Return a chair that faces +z: `plain`, `high-backed`, or an `armchair`."""
    top = {"plain": 0.95, "high-backed": 1.35, "armchair": 0.85}[style]
    leg = 0.2 if style == "armchair" else 0.45
    parts = [box((-0.4, leg, -0.4), (0.4, 0.52, 0.4), body), box((-0.4, 0.5, -0.44), (0.4, top, -0.34), body)]
    for x in (-0.37, 0.31):
        for z in (-0.4, 0.32):
            parts.append(box((x, 0, z), (x + 0.06, leg, z + 0.06), trim))
    if style == "armchair":
        parts += [box((x, 0.2, -0.4), (x + 0.14, 0.75, 0.4), trim) for x in (-0.52, 0.38)]
    return parts


def table(style: str, body: Colour, trim: Colour) -> list[Part]:
    """Return a table: `rectangular` on four legs, `round` on one, or `low` with a shelf."""
    if style == "round":
        return [
            cylinder((0, 0.74, 0), 0.6, 0.03, 1, body),
            cylinder((0, 0.36, 0), 0.06, 0.36, 1, trim),
            cylinder((0, 0.02, 0), 0.35, 0.02, 1, trim),
        ]
    height = 0.4 if style == "low" else 0.75
    parts = [box((-0.8, height - 0.06, -0.45), (0.8, height, 0.45), body)]
    for x in (-0.76, 0.68):
        for z in (-0.41, 0.33):
            parts.append(box((x, 0, z), (x + 0.08, height - 0.06, z + 0.08), trim))
    if style == "low":
        parts.append(box((-0.7, 0.12, -0.38), (0.7, 0.16, 0.38), trim))
    return parts


def car(style: str, body: Colour, trim: Colour) -> list[Part]:
    """Return a car with its nose to +z: a `saloon`, a `van` or a `pickup`."""
    cabin = {  # z of: rear foot, rear of the roof, front of the roof, front foot; height of the roof
        "saloon": (-0.75, -0.5, 0.15, 0.5, 1.05),
        "van": (-1.0, -0.98, 0.35, 0.75, 1.3),
        "pickup": (-0.15, -0.1, 0.3, 0.6, 1.1),
    }[style]
    low = mirrored([(0.5, 0.2, -1.05), (0.5, 0.2, 1.05), (0.5, 0.65, -1.03), (0.5, 0.68, 0.6), (0.46, 0.5, 1.08)])
    rear, rear_top, front_top, front, roof = cabin
    glass = mirrored(
        [(0.47, 0.6, rear), (0.4, roof - 0.06, rear_top), (0.4, roof - 0.06, front_top), (0.47, 0.6, front)]
    )
    lid = mirrored(
        [(0.41, roof - 0.08, rear_top), (0.41, roof - 0.08, front_top), (0.38, roof, rear_top), (0.38, roof, front_top)]
    )
    parts = [solid(low, body), solid(glass, GLASS), solid(lid, body)]
    for x in (-0.48, 0.48):
        for z in (-0.65, 0.65):
            parts.append(cylinder((x, 0.22, z), 0.22, 0.08, 0, DARK))
            parts.append(cylinder((x, 0.22, z), 0.11, 0.09, 0, trim))
    return parts


def plane(style: str, body: Colour, trim: Colour) -> list[Part]:
    """Return an aeroplane with its nose to +z: an `airliner`, a `jet` with swept wings, or a `biplane`."""
    sweep, span = {"airliner": (0.35, 1.2), "jet": (0.7, 0.75), "biplane": (0.0, 0.95)}[style]
    hull = mirrored([(0.19, 0, 0.7), (0.19, 0, -0.4), (0.04, 0.12, -1.1), (0.03, -0.04, 1.05)])
    hull += [[0, 0.21, 0.6], [0, 0.2, -0.5], [0, -0.18, 0.65], [0, -0.17, -0.4]]
    parts = [solid(hull, body)]
    for level in (-0.05, 0.3) if style == "biplane" else (-0.05,):
        for side in (-1, 1):
            wing = [(0.0, 0.25), (0.0, -0.2), (side * span, -0.05 - sweep), (side * span, -0.2 - sweep)]
            parts.append(solid([(x, y, z) for x, z in wing for y in (level, level + 0.04)], trim))
    for side in (-1, 1):
        tail = [(0.0, -0.8), (0.0, -1.05), (side * 0.4, -1.0 - sweep / 4), (side * 0.4, -1.1 - sweep / 4)]
        parts.append(solid([(x, y, z) for x, z in tail for y in (0.07, 0.1)], trim))
    fin = [(0.12, -0.7), (0.12, -1.1), (0.58, -1.0), (0.58, -1.2)]
    parts.append(solid([(x, y, z) for y, z in fin for x in (-0.02, 0.02)], trim))
    if style == "airliner":
        parts += [cylinder((x, -0.16, 0.05), 0.12, 0.2, 2, DARK) for x in (-0.45, 0.45)]
    if style == "biplane":
        parts += [box((x - 0.02, -0.05, -0.02), (x + 0.02, 0.32, 0.02), DARK) for x in (-0.6, 0.6)]
        parts.append(box((-0.35, -0.03, 1.06), (0.35, 0.03, 1.1), DARK))
    return parts


def boat(style: str, body: Colour, trim: Colour) -> list[Part]:
    """Return a boat with its bow to +z: a `rowing boat`, a `sailing boat` or a `motor boat`."""
    half = {"rowing boat": 0.32, "sailing boat": 0.36, "motor boat": 0.4}[style]
    hull = mirrored([(half, 0.3, -0.9), (half, 0.3, 0.2), (half * 0.6, 0, -0.85), (half * 0.5, 0, 0.3), (0, 0.42, 1.1)])
    deck = mirrored([(half * 0.85, 0.34, -0.82), (half * 0.85, 0.34, 0.15), (0, 0.4, 0.9), (half * 0.85, 0.28, 0.0)])
    parts = [solid(hull, body), solid(deck, trim)]
    if style == "rowing boat":
        parts += [box((-half, 0.36, z), (half, 0.41, z + 0.14), DARK) for z in (-0.6, -0.1)]
    elif style == "sailing boat":
        parts.append(cylinder((0, 1.0, 0.15), 0.03, 0.7, 1, DARK))
        parts.append(solid([(x, y, z) for y, z in ((0.5, 0.1), (0.5, -0.8), (1.65, 0.1)) for x in (-0.01, 0.01)], trim))
        parts.append(
            solid([(x, y, z) for y, z in ((0.5, 0.22), (0.5, 0.95), (1.4, 0.22)) for x in (-0.01, 0.01)], body)
        )
    else:
        parts.append(
            solid(mirrored([(0.26, 0.3, -0.5), (0.26, 0.3, 0.35), (0.2, 0.65, -0.45), (0.2, 0.65, 0.1)]), GLASS)
        )
        parts.append(box((-0.24, 0.65, -0.5), (0.24, 0.7, 0.12), body))
    return parts


MAKERS: dict[str, tuple[Callable[[str, Colour, Colour], list[Part]], tuple[str, ...]]] = {
    "chair": (chair, ("plain", "high-backed", "armchair")),
    "table": (table, ("rectangular", "round", "low")),
    "car": (car, ("saloon", "van", "pickup")),
    "plane": (plane, ("airliner", "jet", "biplane")),
    "boat": (boat, ("rowing boat", "sailing boat", "motor boat")),
}
