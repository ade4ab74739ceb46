"""Draw a scene by OpenGL, on a GPU where there is one: the samples of `ln3d.data.views`, rasterised."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ln3d.data.backends.gl_device import Device, check, device
from ln3d.data.readers.scene import Scene
from ln3d.data.views import Views, average, sample_spacing
from ln3d.errors import MeshError
from ln3d.raycast.lighting import brightness
from ln3d.raycast.painted import PaintedTriangles

if TYPE_CHECKING:
    import moderngl

__all__ = ["check", "draw"]

_LARGEST_SIDE = 2048  # in samples, of what is drawn at once
_NEAREST = 1e-3  # what is closer to the camera is not drawn


class _Releasable(Protocol):
    def release(self) -> None: ...


_Thing = TypeVar("_Thing", bound=_Releasable)


def draw(
    scene: Scene,
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    resolution: int,
    supersampling: int = 2,
    lighting: str = "rig",
) -> Views:
    """Draw `scene` with cameras `camera_to_world` (v, 4, 4) and `intrinsics` (v, 3, 3), as `ln3d.data.views.draw` does.

    Textures have the same sizes and filter, surfaces the same light, and samples the same places, so pictures differ
    at outlines only and where faces lie on top of each other. A ray passes any number of holes. The same device and
    driver give the same bytes. Raises RecipeError where there is no device, MeshError where its memory does not do.
    """
    count = len(camera_to_world)
    views = Views(
        np.zeros((count, resolution, resolution, 4), np.uint8),
        np.zeros((count, resolution, resolution), np.float32),
        np.zeros((count, resolution, resolution, 3), np.float32),
    )
    gpu = device()
    triangles = _fitting(scene, sample_spacing(camera_to_world, intrinsics, resolution * supersampling), gpu.most**2)
    if not len(triangles.faces):
        return views
    side = min(resolution, max(1, _LARGEST_SIDE // supersampling))
    with gpu.context, ExitStack() as owned:
        model = _Model(gpu, triangles, lighting, owned)
        fine, centres = _Canvas(gpu, side * supersampling, owned), _Canvas(gpu, side, owned)
        owned.callback(gpu.rest.use)  # the first to be done: a frame must not be released while it is in use
        for view in range(count):
            for window in _windows(camera_to_world[view], intrinsics[view], triangles.bounds, resolution, side):
                place = (view, *window.pixels)
                views.colour[place] = window.cut(_averaged(fine.drawn(model, window, False), supersampling))
                surface = window.cut(centres.drawn(model, window, True))
                views.normal[place], views.depth[place] = surface[..., :3], surface[..., 3]
        if gpu.context.error != "GL_NO_ERROR":
            raise MeshError("the OpenGL device failed, probably for lack of memory", "Draw it with renderer: embree.")
    return views


def _fitting(scene: Scene, spacing: float, most: int) -> PaintedTriangles:
    """Return the triangles with textures of at most `most` texels together: coarser ones, where they are too large."""
    while True:
        triangles = PaintedTriangles(scene.parts, spacing)
        if not (triangles.level >= 0).any() or len(triangles.atlas.table()[0]) <= most:
            return triangles
        spacing *= 2


class _Window:
    """A square of pixels of one view, and how the world is projected into it.

    `left`, `top` and `side` are in pixels; the square may reach beyond the picture, to the right and below.
    """

    def __init__(
        self,
        camera_to_world: NDArray[np.float32],
        intrinsics: NDArray[np.float32],
        depths: tuple[float, float],
        resolution: int,
        corner: tuple[int, int],
        side: int,
    ) -> None:
        top, left = corner
        self.side = side
        self.pixels = slice(top, min(top + side, resolution)), slice(left, min(left + side, resolution))
        self.axes = camera_to_world[:3, :3].astype(np.float64)
        fx, fy, cx, cy = (float(intrinsics[place]) * resolution for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
        near, far = depths
        to_camera = np.eye(4)
        to_camera[:3, :3] = self.axes.T
        to_camera[:3, 3] = -self.axes.T @ camera_to_world[:3, 3]
        # Down in the picture is up for OpenGL, whose rows therefore come in the order of ours.
        to_image = np.array(
            [
                [2 * fx / side, 0, 2 * (cx - left) / side - 1, 0],
                [0, 2 * fy / side, 2 * (cy - top) / side - 1, 0],
                [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)],
                [0, 0, 1, 0],
            ]
        )
        self.to_clip = to_image @ to_camera
        self.lens = np.array([1 / fx, 1 / fy, (left - cx) / fx, (top - cy) / fy])

    def cut(self, picture: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the part of a picture of the window that is inside the whole picture."""
        rows, columns = self.pixels
        return picture[: rows.stop - rows.start, : columns.stop - columns.start]


def _windows(
    camera_to_world: NDArray[np.float32],
    intrinsics: NDArray[np.float32],
    bounds: NDArray[np.float32],
    resolution: int,
    side: int,
) -> Iterator[_Window]:
    """Yield the windows that together cover a view; none where all of the object is behind the camera."""
    corners = np.array([bounds[list(which), range(3)] for which in np.ndindex(2, 2, 2)], np.float64)
    depth = (corners - camera_to_world[:3, 3]) @ camera_to_world[:3, 2].astype(np.float64)
    near, far = max(_NEAREST, float(depth.min()) - _NEAREST), float(depth.max()) + _NEAREST
    if far <= near:
        return
    for top in range(0, resolution, side):
        for left in range(0, resolution, side):
            yield _Window(camera_to_world, intrinsics, (near, far), resolution, (top, left), side)


class _Model:
    """An object on the device: its corners, and the tables of its faces and texels."""

    def __init__(self, gpu: Device, triangles: PaintedTriangles, lighting: str, owned: ExitStack) -> None:
        corners = _kept(owned, gpu.context.buffer(_corners(triangles).tobytes()))
        texels, levels = triangles.atlas.table() if (triangles.level >= 0).any() else _no_texture()
        self._texels, columns = _table(gpu, texels, "f1", owned)
        self._faces, _ = _table(gpu, _face_table(triangles, levels, columns, lighting), "f4", owned)
        layout = (corners, "3f 2f 4f", "position", "uv", "paint")
        self._drawing = _kept(owned, gpu.context.vertex_array(gpu.program, [layout]))
        self._program = gpu.program

    def render(self, lens: NDArray[np.float64], window: _Window, geometry: bool) -> None:
        """Draw what is in the window into the canvas in use."""
        self._faces.use(0)
        self._texels.use(1)
        for name, value in (("faces", 0), ("texels", 1), ("geometry", geometry)):
            self._program[name].value = value  # type: ignore[union-attr]
        for name, numbers in (("to_clip", window.to_clip.T), ("axes", window.axes.T), ("lens", lens)):
            self._program[name].write(numbers.astype(np.float32).tobytes())  # type: ignore[union-attr]
        self._drawing.render()


class _Canvas:
    """A square picture on the device, `side` samples wide, and the memory that it is read into."""

    def __init__(self, gpu: Device, side: int, owned: ExitStack) -> None:
        colour = _kept(owned, gpu.context.renderbuffer((side, side), 4, dtype="f4"))
        depth = _kept(owned, gpu.context.depth_renderbuffer((side, side)))
        self._frame = _kept(owned, gpu.context.framebuffer([colour], depth))
        self._side = side
        self._seen = np.zeros((side, side, 4), np.float32)

    def drawn(self, model: _Model, window: _Window, geometry: bool) -> NDArray[np.float32]:
        """Return what the fragment shader saw (side, side, 4), 0 where nothing is; the next drawing overwrites it."""
        self._frame.use()
        self._frame.clear(0.0, 0.0, 0.0, 0.0)
        samples = self._side // window.side
        model.render(window.lens / [samples, samples, 1, 1], window, geometry)
        self._frame.read_into(self._seen, components=4, dtype="f4")
        return self._seen


def _kept(owned: ExitStack, thing: _Thing) -> _Thing:
    """Return `thing`, which is released with all else that is `owned`."""
    owned.callback(thing.release)
    return thing


def _averaged(seen: NDArray[np.float32], supersampling: int) -> NDArray[np.uint8]:
    """Return the RGBA bytes of the pixels from their samples."""
    side = len(seen) // supersampling
    samples = seen.reshape(side, supersampling, side, supersampling, 4).transpose(1, 3, 0, 2, 4)
    samples = samples.reshape(supersampling**2, side, side, 4)
    return average(samples[..., :3], samples[..., 3] > 0)


def _corners(triangles: PaintedTriangles) -> NDArray[np.float32]:
    """Return position, texture coordinates and paint of the corners of all faces (m, 3, 9)."""
    uv = triangles.uv[triangles.faces]
    uv = uv - np.floor(uv.min(axis=1, keepdims=True))  # textures repeat, and small numbers are interpolated better
    return np.concatenate([triangles.vertices[triangles.faces], uv, triangles.paint[triangles.faces]], axis=-1)


def _no_texture() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    return np.zeros((1, 4), np.uint8), np.zeros((1, 5))


def _face_table(
    triangles: PaintedTriangles, levels: NDArray[np.float64], columns: int, lighting: str
) -> NDArray[np.float32]:
    """Return what the shader has to know of every face (3 m, 4); `columns` is the width of the table of texels."""
    table = np.zeros((len(triangles.faces), 3, 4), np.float32)
    table[:, 0, :3] = triangles.normals
    lit = lighting == "rig"
    table[:, 0, 3] = brightness(triangles.normals) if lit else 1
    table[:, 1, 0] = brightness(-triangles.normals) if lit else 1
    table[:, 1, 1] = triangles.cutout
    textured = triangles.level >= 0
    level = levels[triangles.level[textured]]
    table[textured, 1, 2], table[textured, 1, 3] = np.divmod(level[:, 0], columns)
    table[textured, 2] = level[:, 1:]
    return table.reshape(-1, 4)


def _table(gpu: Device, entries: NDArray[np.generic], dtype: str, owned: ExitStack) -> tuple["moderngl.Texture", int]:
    """Return `entries` (n, 4) as a picture that is as good as square, and its width."""
    columns = max(1, int(np.ceil(np.sqrt(len(entries)))))
    rows = -(-len(entries) // columns)
    padded = np.zeros((rows * columns, 4), entries.dtype)
    padded[: len(entries)] = entries
    texture = gpu.context.texture((columns, rows), 4, padded.tobytes(), dtype=dtype)
    texture.filter = (gpu.context.NEAREST, gpu.context.NEAREST)
    return _kept(owned, texture), columns
