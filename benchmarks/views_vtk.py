"""The peer of `views.py` in VTK: textured actors and lights, the z-buffer, and a second pass of normals as colours.

Those have 8 bits and are not turned to the camera, which spares it the work.
"""

import functools
import os

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  what draws
from numpy.typing import NDArray
from views_materials import Material, depth_range, empty_views, materials_of
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkFloatArray, vtkPoints, vtkUnsignedCharArray, vtkVersion
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLight,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTexture,
)

from ln3d.data.readers.scene import Scene
from ln3d.data.views import Views, pixel_directions
from ln3d.raycast.lighting import LAMPS

os.environ.setdefault("VTK_SMP_MAX_THREADS", "1")


@functools.cache
def window() -> vtkRenderWindow:
    """Return the window of this process, which no screen shows."""
    shown = vtkRenderWindow()
    shown.SetOffScreenRendering(True)
    shown.SetMultiSamples(0)
    shown.SetAlphaBitPlanes(True)
    return shown


def version() -> str:
    """Return what draws."""
    window().Render()
    report = (line.partition(":") for line in window().ReportCapabilities().splitlines())
    driver = next(value.strip() for name, _, value in report if name == "OpenGL renderer string")
    return f"vtk {vtkVersion.GetVTKVersion()}, {window().GetClassName()}, {driver}"


def draw(scene: Scene, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], resolution: int) -> Views:
    """Draw `scene` with all cameras, one sample per pixel."""
    shown, count = window(), len(camera_to_world)
    shown.SetSize(resolution, resolution)
    materials = materials_of(scene)
    painted, normals = lit_renderer(), vtkRenderer()
    for material in materials:
        painted.AddActor(painted_actor(material))
        normals.AddActor(normal_actor(material))
    normals.SetActiveCamera(painted.GetActiveCamera())
    views = empty_views(count, resolution)
    for each in (painted, normals):
        shown.AddRenderer(each)
    for view in range(count):
        pose, matrix = camera_to_world[view], intrinsics[view]
        aim(painted, pose, matrix)
        show(shown, painted, normals)
        views.colour[view] = pixels(shown, resolution)
        views.depth[view] = distances(shown, pose, matrix, resolution)
        show(shown, normals, painted)
        views.normal[view] = pixels(shown, resolution)[..., :3] * np.float32(2 / 255) - 1
        views.normal[view][views.depth[view] == 0] = 0
    for each in (painted, normals):
        shown.RemoveRenderer(each)
    return views


def show(shown: vtkRenderWindow, wanted: vtkRenderer, other: vtkRenderer) -> None:
    """Draw what one of two renderers has."""
    wanted.DrawOn()
    other.DrawOff()
    shown.Render()


def lit_renderer() -> vtkRenderer:
    """Return a renderer with lamps where ours are; the light is VTK's, Lambert's law."""
    made = vtkRenderer()
    made.SetAutomaticLightCreation(False)
    for direction, share in LAMPS:
        lamp = vtkLight()
        lamp.SetLightTypeToSceneLight()
        lamp.SetPosition(direction)
        lamp.SetFocalPoint(0, 0, 0)
        lamp.SetIntensity(share)
        made.AddLight(lamp)
    return made


def polygons(material: Material) -> vtkPolyData:
    """Return the triangles of a material."""
    points, cells, data = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(material.vertices))
    starts = np.arange(0, 3 * len(material.faces) + 1, 3)
    cells.SetData(
        numpy_to_vtkIdTypeArray(starts, deep=True),
        numpy_to_vtkIdTypeArray(material.faces.astype(np.int64).reshape(-1), deep=True),
    )
    data.SetPoints(points)
    data.SetPolys(cells)
    return data


def coloured(data: vtkPolyData, by_cell: bool) -> vtkActor:
    """Return an actor whose colours are the scalars of `data`."""
    mapper, actor = vtkPolyDataMapper(), vtkActor()
    mapper.SetInputData(data)
    mapper.SetColorModeToDirectScalars()
    if by_cell:
        mapper.SetScalarModeToUseCellData()
    actor.SetMapper(mapper)
    return actor


def painted_actor(material: Material) -> vtkActor:
    """Return an actor with the texture and the colours of a material."""
    data = polygons(material)
    data.GetPointData().SetTCoords(numpy_to_vtk(material.uv))
    data.GetPointData().SetScalars(numpy_to_vtk(np.rint(material.paint[:, :3] * 255).astype(np.uint8), deep=True))
    actor = coloured(data, by_cell=False)
    actor.GetProperty().SetInterpolationToFlat()
    actor.GetProperty().SetAmbient(0.358)
    if material.texture is not None:
        actor.SetTexture(texture_of(material.texture))
    return actor


def texture_of(pixels: NDArray[np.uint8]) -> vtkTexture:
    """Return a texture with mipmaps that repeats."""
    height, width = pixels.shape[:2]
    image, texture = vtkImageData(), vtkTexture()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(pixels[..., :3]).reshape(-1, 3), deep=True))
    texture.SetInputData(image)
    texture.InterpolateOn()
    texture.MipmapOn()
    texture.RepeatOn()
    return texture


def normal_actor(material: Material) -> vtkActor:
    """Return an actor whose colours are the normals of the faces, 8 bits each."""
    corners = material.vertices[material.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    data = polygons(material)
    data.GetCellData().SetScalars(numpy_to_vtk(np.rint((normal + 1) * 127.5).astype(np.uint8), deep=True))
    actor = coloured(data, by_cell=True)
    actor.GetProperty().LightingOff()
    return actor


def aim(painted: vtkRenderer, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32]) -> None:
    """Set the camera, whose principal point must be the middle."""
    camera = painted.GetActiveCamera()
    pose = camera_to_world.astype(np.float64)
    camera.SetPosition(pose[:3, 3])
    camera.SetFocalPoint(pose[:3, 3] + pose[:3, 2])
    camera.SetViewUp(-pose[:3, 1])
    camera.SetViewAngle(float(np.degrees(2 * np.arctan(0.5 / intrinsics[1, 1]))))
    camera.SetClippingRange(depth_range(camera_to_world))


def pixels(shown: vtkRenderWindow, resolution: int) -> NDArray[np.uint8]:
    """Return the RGBA bytes (h, w, 4) of what was drawn, first row at the top."""
    seen = vtkUnsignedCharArray()
    shown.GetRGBACharPixelData(0, 0, resolution - 1, resolution - 1, 0, seen)
    return vtk_to_numpy(seen).reshape(resolution, resolution, 4)[::-1]


def distances(
    shown: vtkRenderWindow, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], resolution: int
) -> NDArray[np.float32]:
    """Return the distances along the rays (h, w) from the z-buffer, 0 where nothing was drawn."""
    seen = vtkFloatArray()
    shown.GetZbufferData(0, 0, resolution - 1, resolution - 1, seen)
    buffer = vtk_to_numpy(seen).reshape(resolution, resolution)[::-1]
    near, far = depth_range(camera_to_world)
    depth = np.float32(near * far) / (np.float32(far) - buffer * np.float32(far - near))
    return np.where(buffer < 1, depth * lengths(float(intrinsics[0, 0]), resolution), np.float32(0))


@functools.cache
def lengths(focal: float, resolution: int) -> NDArray[np.float32]:
    """Return how long the rays (h, w) are at depth 1."""
    matrix = np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]], np.float32)
    middle = np.arange(resolution) + 0.5
    rays = pixel_directions(np.eye(4, dtype=np.float32), matrix, middle, middle[:, None], resolution)
    return 1 / rays[..., 2]
