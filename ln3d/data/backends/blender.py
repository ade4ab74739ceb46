"""Draw a scene by Blender's path tracer, Cycles, with shadows and the light between surfaces.

Blender is under the GPL, large, and holds one scene in a process, so it works in a process of its own (see
`blender_process.py`), which goes on from object to object.
"""

import atexit
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ln3d.data.backends.blender_process import BlenderEnded, BlenderNotStarted, BlenderProcess
from ln3d.data.readers.general import linear_to_srgb
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import Views
from ln3d.data.views import draw as cast
from ln3d.geometry.srgb import linear_from_srgb
from ln3d.raycast.lighting import LAMPS

DEVICE = "LN3D_BLENDER_DEVICE"
"""Environment variable: CUDA, OPTIX, HIP, ONEAPI or METAL; without it Cycles uses the processor."""

_SAMPLES = 8  # paths per ray that the ray caster would cast: 32 a pixel with dataset.supersampling 2, its default
_BOUNCES = 1  # with more, a corner of white walls would be clipped
_LAMP, _AMBIENT = 1.254, 0.141
"""What the lamps' shares are multiplied by, and the light of the sky, in linear light. Least squares over all
directions against sRGB of `ln3d.raycast.lighting.brightness`: white convex objects differ from it by 0.036 rms, their
median by 0.005; the brightest side is 0.952."""
_MOST_KILLS = 3

_running: BlenderProcess | None = None


def check() -> str:
    """Return the version of Blender, which is started for that, once.

    Raises RecipeError, with the remedy, where it is missing or does not start.
    """
    version = _process().version
    stop()
    return version


def draw(
    scene: Scene,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int = 2,
    lighting: str = "rig",
) -> Views:
    """Draw `scene` as `ln3d.data.views.draw` does, with colour and coverage by Cycles.

    A pixel is the mean of 8 `supersampling`^2 paths. With `rig` the lamps are suns and cast shadows, the sky lights
    what they don't reach, light goes once from surface to surface, and the mean is taken in linear light; `albedo` is
    the plain surface colour. Depth and normal are the ray caster's, which are exact; the same scene gives the same
    bytes on the same machine.

    Raises:
        MeshError: Blender failed or ended over this object; the next one gets a new process.
        RecipeError: Blender is missing or does not start.
    """
    exact = cast(scene, camera_to_world, intrinsics, resolution, supersampling, "albedo")
    lit = lighting == "rig"
    materials, arrays = _described(scene.parts, lit)
    arrays |= {"camera_to_world": camera_to_world, "intrinsics": intrinsics}
    job = {
        "resolution": resolution,
        "samples": _SAMPLES * supersampling**2,
        "bounces": _BOUNCES if lit else 0,
        "lamps": [(direction, _LAMP * share) for direction, share in LAMPS] if lit else [],
        "ambient": _AMBIENT if lit else 0.0,
        "materials": materials,
        "device": os.environ.get(DEVICE, ""),
    }
    return Views(_as_bytes(_seen(job, arrays), encode=lit), exact.depth, exact.normal)


def stop() -> None:
    """End the process, if one runs."""
    global _running
    if _running is not None:
        _running.close()
    _running = None


def _process() -> BlenderProcess:
    global _running
    if _running is None:
        _running = BlenderProcess()
    return _running


atexit.register(stop)


def _seen(job: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return what Cycles sees, (v, h, w, 4), premultiplied; it is begun again where someone kills the process."""
    for kills in range(1, _MOST_KILLS + 1):
        try:
            return _process().draw(job, arrays)
        except BaseException as error:
            stop()
            killed = isinstance(error, (BlenderEnded, BlenderNotStarted)) and error.from_outside
            if not killed or kills == _MOST_KILLS:
                raise
    raise AssertionError("the last attempt returns or raises")


def _described(parts: Sequence[Part], lit: bool) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Return the materials and the arrays of one mesh of all parts; its colours are linear where there is light."""
    textures: dict[bytes, str] = {}
    materials: list[dict[str, Any]] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("vertices", "faces", "material", "paint", "uv")}
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for part in parts:
        a, b, c = part.faces.T
        faces = part.faces[(a != b) & (b != c) & (c != a)]  # Blender stumbles over the others, and no ray meets them
        material: dict[str, Any] = {"texture": None, "cutout": part.cutout}
        if part.texture is not None and part.uv is not None:
            digest = hashlib.sha256(repr(part.texture.shape).encode() + part.texture.tobytes()).digest()
            material["texture"] = textures.setdefault(digest, f"texture-{len(textures)}")
            arrays[material["texture"]] = part.texture
        if material not in materials:
            materials.append(material)
        columns["vertices"].append(part.vertices)
        columns["faces"].append((faces + start).astype(np.int32))
        columns["material"].append(np.full(len(faces), materials.index(material), np.int32))
        columns["paint"].append(_paint(part, lit))
        columns["uv"].append(np.zeros((len(part.vertices), 2), np.float32) if part.uv is None else part.uv)
        start += len(part.vertices)
    return materials, arrays | {name: np.concatenate(column) for name, column in columns.items()}


def _paint(part: Part, linear: bool) -> NDArray[np.float32]:
    """Return RGBA of every vertex (n, 4): the material's colour, times the vertex's own where it has one."""
    own = np.ones((len(part.vertices), 4), np.float32) if part.colours is None else part.colours
    paint = np.array(own * part.base_colour, np.float32)
    if linear:
        paint[:, :3] = linear_from_srgb(paint[:, :3])
    return paint


def _as_bytes(seen: NDArray[np.float32], encode: bool) -> NDArray[np.uint8]:
    """Return RGBA bytes, not premultiplied, from premultiplied values; `encode` those of linear light as sRGB."""
    alpha = seen[..., 3:].clip(0, 1)
    colour = seen[..., :3] / np.maximum(alpha, 1e-6)
    colour = linear_to_srgb(colour) if encode else colour.clip(0, 1)
    rgba = np.rint(np.concatenate([colour, alpha], axis=-1) * 255).astype(np.uint8)
    return np.where(rgba[..., 3:] > 0, rgba, np.uint8(0))
