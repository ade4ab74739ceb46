"""The peer of `views.py` in Blender's Cycles: 32 paths a pixel on the processor, with passes of depth and normal."""

import os
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import OpenEXR
from mathutils import Matrix, Vector
from numpy.typing import NDArray
from views_materials import Material, empty_views, materials_of

from ln3d.data.readers.scene import Scene
from ln3d.data.views import Views
from ln3d.geometry.srgb import srgb_from_linear
from ln3d.raycast.lighting import LAMPS

if bpy.app.version >= (5,):
    raise ImportError("Blender 4 is needed (pip install 'bpy<5'): 5 wrote no depth and no normals here")

SAMPLES, BOUNCES = 32, 1
_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_FOLDER = tempfile.TemporaryDirectory(prefix="views-cycles-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)


def version() -> str:
    """Return what draws."""
    return f"bpy {bpy.app.version_string}, Cycles on the processor, {SAMPLES} samples"


def draw(scene: Scene, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], resolution: int) -> Views:
    """Draw `scene` with all cameras; the principal point must be the middle. Depth is along the optical axis."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    stage, count = bpy.context.scene, len(camera_to_world)
    set_up(stage, resolution)
    for material in materials_of(scene):
        add(stage, material)
    add_lamps(stage)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_width = 36.0
    stage.collection.objects.link(camera)
    stage.camera = camera
    views = empty_views(count, resolution)
    for view in range(count):
        camera.matrix_world = Matrix((camera_to_world[view].astype(np.float64) @ _TO_OPENGL).tolist())
        camera.data.lens = float(intrinsics[view, 0, 0]) * 36.0
        bpy.ops.render.render(write_still=True)
        views.colour[view], views.depth[view], views.normal[view] = read(Path(stage.render.filepath))
    return views


def set_up(stage: Any, resolution: int) -> None:
    """Choose Cycles with one thread and a fixed number of paths, and what is written."""
    render, cycles, layer = stage.render, stage.cycles, stage.view_layers[0]
    render.engine, cycles.device = "CYCLES", "CPU"
    render.threads_mode, render.threads = "FIXED", 1
    render.resolution_x = render.resolution_y = resolution
    render.film_transparent = render.use_persistent_data = True
    render.use_compositing = render.use_sequencer = False
    cycles.samples, cycles.use_adaptive_sampling, cycles.use_denoising = SAMPLES, False, False
    cycles.max_bounces = cycles.diffuse_bounces = BOUNCES
    cycles.pixel_filter_type = "BOX"
    layer.use_pass_z = layer.use_pass_normal = True
    picture = render.image_settings
    picture.file_format, picture.color_depth, picture.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
    render.filepath, render.use_file_extension = str(Path(_FOLDER.name) / "view.exr"), False


def add(stage: Any, described: Material) -> None:
    """Add the triangles of a material: its texture times its colours, dull."""
    mesh = bpy.data.meshes.new("material")
    mesh.from_pydata(described.vertices, [], described.faces)
    mesh.attributes.new("paint", "FLOAT_COLOR", "POINT").data.foreach_set("color", described.paint.reshape(-1))
    mesh.uv_layers.new(name="uv").data.foreach_set("uv", described.uv[described.faces.reshape(-1)].reshape(-1))
    material = bpy.data.materials.new("material")
    material.use_nodes = True
    nodes, link = material.node_tree.nodes, material.node_tree.links.new
    nodes.clear()
    paint, surface = nodes.new("ShaderNodeAttribute"), nodes.new("ShaderNodeBsdfDiffuse")
    paint.attribute_name = "paint"
    colour = paint.outputs["Color"]
    if described.texture is not None:
        texel, product = nodes.new("ShaderNodeTexImage"), nodes.new("ShaderNodeVectorMath")
        texel.image, product.operation = image_of(described.texture), "MULTIPLY"
        link(colour, product.inputs[0])
        link(texel.outputs["Color"], product.inputs[1])
        colour = product.outputs[0]
    link(colour, surface.inputs["Color"])
    link(surface.outputs[0], nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    mesh.materials.append(material)
    mesh.update()
    stage.collection.objects.link(bpy.data.objects.new("material", mesh))


def image_of(texture: NDArray[np.uint8]) -> Any:
    """Return a texture as an image of Blender's, sRGB."""
    height, width = texture.shape[:2]
    image = bpy.data.images.new("texture", width, height, alpha=True)
    image.alpha_mode = "NONE"
    image.pixels.foreach_set((texture.astype(np.float32) / 255).reshape(-1))
    image.pack()
    return image


def add_lamps(stage: Any) -> None:
    """Add a sun for every lamp of ours, and the light of the sky."""
    stage.world = bpy.data.worlds.new("sky")
    stage.world.use_nodes = True
    tree = stage.world.node_tree
    tree.nodes.clear()
    sky, output = tree.nodes.new("ShaderNodeBackground"), tree.nodes.new("ShaderNodeOutputWorld")
    sky.inputs["Color"].default_value, sky.inputs["Strength"].default_value = (1, 1, 1, 1), 0.14
    tree.links.new(sky.outputs["Background"], output.inputs["Surface"])
    for direction, share in LAMPS:
        light = bpy.data.lights.new("lamp", "SUN")
        light.energy = np.pi * 1.25 * share
        lamp = bpy.data.objects.new("lamp", light)
        lamp.matrix_world = Vector(direction).to_track_quat("Z", "Y").to_matrix().to_4x4()
        stage.collection.objects.link(lamp)


def read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return colour and coverage, depth and normal of the picture that Blender has just written."""
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = {name.partition(".")[2]: channel.pixels for name, channel in file.channels().items()}
    colour = np.stack([found[f"Combined.{name}"] for name in "RGBA"], axis=-1)
    colour[..., :3] /= np.maximum(colour[..., 3:], 1e-6)
    colour[..., :3] = srgb_from_linear(colour[..., :3].clip(0, 1))
    depth = found["Depth.Z"]
    normal = np.stack([found[f"Normal.{name}"] for name in "XYZ"], axis=-1)
    return np.rint(colour.clip(0, 1) * 255).astype(np.uint8), np.where(depth < 1e9, depth, np.float32(0)), normal
