"""What runs inside Blender: draw jobs until the standard input closes. A script; nothing imports it.

It needs `bpy` and NumPy, and nothing of this package. `blender_process.py` starts it with the number of its own process
and says with one line of JSON what is to be drawn (see there).
"""

import ctypes
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402

_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # Blender's cameras look along -z, with y up
_SENSOR = 36.0
_MOST_HOLES = 1024  # a ray through more of them would turn black
_SUN_ANGLE = 0.2  # radians: how soft the shadows are
_TOUCHING = 1e-3  # no light is lost over a way this short: many meshes have faces twice, for both sides, or decals


def main() -> None:
    """Answer every job with a line, until there is no one to ask."""
    _die_with(int(sys.argv[-1]))
    _allow(None, None)  # who starts us may have little left for the object at hand
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Blender prints what it does
    import bpy

    answers.write(json.dumps({"ln3d": "ready", "version": bpy.app.version_string}) + "\n")
    for line in sys.stdin:
        try:
            _draw(json.loads(line))
            answers.write(json.dumps({"ln3d": "done"}) + "\n")
        except Exception as error:
            answers.write(json.dumps({"ln3d": "failed", "reason": f"{type(error).__name__}: {error}"}) + "\n")


def _die_with(parent: int) -> None:
    """End when `parent` does, even in the middle of a picture (Linux; elsewhere before the next job)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit("the process that wanted pictures has ended")


def _allow(seconds: float | None, memory_bytes: int | None) -> None:
    """Let this job have so much processor time and so much more address space, where that is limited."""
    if sys.platform != "linux":
        return
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_CPU, None if seconds is None else math.ceil(used + seconds)),
        (resource.RLIMIT_AS, None if memory_bytes is None else size + memory_bytes),
    ):
        _, hard = resource.getrlimit(limit)
        wanted = hard if value is None else value
        resource.setrlimit(limit, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _draw(job: dict[str, Any]) -> None:
    """Draw the scene in the job's folder with all its cameras, and write `seen.npy` beside it.

    That is float32 (v, h, w, 4), premultiplied: light, or in a job without lamps the colours as they came.
    """
    import bpy

    folder = Path(job["folder"])
    _allow(job["seconds"], job["memory_bytes"])
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    _set_up(scene, job, folder)
    _add_mesh(scene, job, folder)
    _add_lamps(scene, job)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    poses, intrinsics = (np.load(folder / f"{name}.npy") for name in ("camera_to_world", "intrinsics"))
    size = job["resolution"]
    colour = np.empty((len(poses), size, size, 4), np.float32)
    for view in range(len(poses)):
        _aim(scene, camera, poses[view], intrinsics[view])
        bpy.ops.render.render(write_still=True)
        colour[view] = _read(Path(scene.render.filepath), size)
    np.save(folder / "seen.npy", colour)


def _set_up(scene: Any, job: dict[str, Any], folder: Path) -> None:
    """Choose Cycles, without anything that is random, that guesses or that changes colours."""
    import bpy

    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    render.resolution_x = render.resolution_y = job["resolution"]
    render.resolution_percentage = 100
    render.film_transparent = True
    render.use_persistent_data = True  # the next camera sees the same scene
    render.threads_mode, render.threads = "FIXED", 1  # the order of sums, and who else wants the cores
    render.use_compositing = render.use_sequencer = False
    render.dither_intensity = 0
    render.filepath, render.use_file_extension = str(folder / "view.exr"), False
    picture = render.image_settings
    picture.file_format, picture.color_mode = "OPEN_EXR", "RGBA"
    picture.color_depth, picture.exr_codec = "32", "NONE"
    scene.view_settings.view_transform = "Standard"  # the EXR holds what is before it
    cycles.samples, cycles.seed, cycles.use_animated_seed = job["samples"], 0, False
    cycles.use_adaptive_sampling = cycles.use_denoising = cycles.use_guiding = False
    cycles.pixel_filter_type = "BOX"
    cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0
    cycles.light_sampling_threshold = 0
    cycles.max_bounces = cycles.diffuse_bounces = job["bounces"]
    cycles.glossy_bounces = cycles.transmission_bounces = cycles.volume_bounces = 0
    cycles.transparent_max_bounces = _MOST_HOLES
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.device = "CPU"
    if job["device"]:
        preferences = bpy.context.preferences.addons["cycles"].preferences
        preferences.compute_device_type = job["device"]
        preferences.get_devices()
        for device in preferences.devices:
            device.use = device.type == job["device"]
        if not any(device.use for device in preferences.devices):
            raise RuntimeError(f"Blender sees no {job['device']} device")
        cycles.device = "GPU"


def _add_mesh(scene: Any, job: dict[str, Any], folder: Path) -> None:
    """Add all parts as one mesh; `paint` is the colour of its vertices, `material` the number of every face's."""
    import bpy

    names = ("vertices", "faces", "material", "paint", "uv")
    vertices, faces, material, paint, uv = (np.load(folder / f"{name}.npy") for name in names)
    mesh = bpy.data.meshes.new("object")
    mesh.from_pydata(vertices, [], faces)
    mesh.shade_flat()
    mesh.polygons.foreach_set("material_index", material)
    mesh.attributes.new("paint", "FLOAT_COLOR", "POINT").data.foreach_set("color", paint.reshape(-1))
    mesh.uv_layers.new(name="uv").data.foreach_set("uv", uv[faces.reshape(-1)].reshape(-1))
    for number, description in enumerate(job["materials"]):
        mesh.materials.append(_material(number, description, job, folder))
    mesh.update()
    scene.collection.objects.link(bpy.data.objects.new("object", mesh))


def _material(number: int, description: dict[str, Any], job: dict[str, Any], folder: Path) -> Any:
    """Return a material: paint times texture, dull where there are lamps and glowing where not, with holes or none."""
    import bpy

    material = bpy.data.materials.new(f"material {number}")
    if not material.use_nodes:
        material.use_nodes = True
    material.cycles.emission_sampling = "NONE"
    nodes, link = material.node_tree.nodes, material.node_tree.links.new
    nodes.clear()
    paint = nodes.new("ShaderNodeAttribute")
    paint.attribute_name = "paint"
    colour, alpha = paint.outputs["Color"], paint.outputs["Alpha"]
    if description["texture"] is not None:
        texel = nodes.new("ShaderNodeTexImage")
        texel.image = _image(description, bool(job["lamps"]), folder)
        product, share = nodes.new("ShaderNodeVectorMath"), nodes.new("ShaderNodeMath")
        product.operation = share.operation = "MULTIPLY"
        link(colour, product.inputs[0])
        link(_straight(texel, description, job, material.node_tree), product.inputs[1])
        link(alpha, share.inputs[0])
        link(texel.outputs["Alpha"], share.inputs[1])
        colour, alpha = product.outputs[0], share.outputs[0]
    surface = nodes.new("ShaderNodeBsdfDiffuse" if job["lamps"] else "ShaderNodeEmission")
    link(colour, surface.inputs["Color"])
    holes = [(alpha, 0.5)] if description["cutout"] else []
    if job["lamps"]:
        holes.append((nodes.new("ShaderNodeLightPath").outputs["Ray Length"], _TOUCHING))
    shader = surface.outputs[0]
    for value, least in holes:
        hole, mix = nodes.new("ShaderNodeMath"), nodes.new("ShaderNodeMixShader")
        hole.operation, hole.inputs[1].default_value = "LESS_THAN", least
        link(value, hole.inputs[0])
        link(hole.outputs[0], mix.inputs[0])
        link(shader, mix.inputs[1])
        link(nodes.new("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[2])
        shader = mix.outputs[0]
    link(shader, nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def _straight(texel: Any, description: dict[str, Any], job: dict[str, Any], tree: Any) -> Any:
    """Return the colour of a texture, not premultiplied, to which clear texels beside it add nothing.

    Blender sees to that itself for colours, but not for the plain numbers of a job without lamps.
    """
    if job["lamps"] or not description["cutout"]:
        return texel.outputs["Color"]
    ratio = tree.nodes.new("ShaderNodeVectorMath")
    ratio.operation = "DIVIDE"
    tree.links.new(texel.outputs["Color"], ratio.inputs[0])
    tree.links.new(texel.outputs["Alpha"], ratio.inputs[1])
    return ratio.outputs[0]


def _image(description: dict[str, Any], lit: bool, folder: Path) -> Any:
    """Return a texture as an image of Blender's, whose first row is at the bottom."""
    import bpy

    texels = np.load(folder / f"{description['texture']}.npy")[::-1].astype(np.float32) / 255
    height, width = texels.shape[:2]
    image = bpy.data.images.new(description["texture"], width, height, alpha=True)
    image.colorspace_settings.name = "sRGB" if lit else "Non-Color"
    image.alpha_mode = "NONE"
    if description["cutout"]:
        image.alpha_mode = "STRAIGHT" if lit else "CHANNEL_PACKED"
        texels[..., :3] *= 1 if lit else texels[..., 3:]
    image.pixels.foreach_set(texels.reshape(-1))
    image.pack()
    return image


def _add_lamps(scene: Any, job: dict[str, Any]) -> None:
    """Add a sun per lamp, whose strength is the light of a white surface that faces it, and the light of the sky."""
    import bpy
    from mathutils import Vector

    scene.world = bpy.data.worlds.new("sky")
    if not scene.world.use_nodes:
        scene.world.use_nodes = True
    tree = scene.world.node_tree
    tree.nodes.clear()
    sky, output = tree.nodes.new("ShaderNodeBackground"), tree.nodes.new("ShaderNodeOutputWorld")
    sky.inputs["Color"].default_value = (1, 1, 1, 1)
    sky.inputs["Strength"].default_value = job["ambient"]
    tree.links.new(sky.outputs["Background"], output.inputs["Surface"])
    for number, (direction, strength) in enumerate(job["lamps"]):
        light = bpy.data.lights.new(f"lamp {number}", "SUN")
        light.energy, light.angle = math.pi * strength, _SUN_ANGLE
        lamp = bpy.data.objects.new(f"lamp {number}", light)
        lamp.matrix_world = Vector(direction).to_track_quat("Z", "Y").to_matrix().to_4x4()
        scene.collection.objects.link(lamp)


def _aim(scene: Any, camera: Any, pose: Any, intrinsics: Any) -> None:
    """Set the camera from a pose with OpenCV's axes and intrinsics in image sides."""
    from mathutils import Matrix

    camera.matrix_world = Matrix((pose.astype(np.float64) @ _TO_OPENGL).tolist())
    (fx, _, cx), (_, fy, cy), _ = intrinsics.tolist()
    lens, render = camera.data, scene.render
    lens.sensor_fit, lens.sensor_width, lens.lens = "HORIZONTAL", _SENSOR, fx * _SENSOR
    lens.shift_x, lens.shift_y = 0.5 - cx, (cy - 0.5) * fx / fy
    lens.clip_start, lens.clip_end = 1e-3, 1e3
    render.pixel_aspect_x, render.pixel_aspect_y = max(1.0, fy / fx), max(1.0, fx / fy)


def _read(path: Path, size: int) -> Any:
    """Return the picture that Blender has just written, float32 (h, w, 4), premultiplied."""
    import bpy

    image = bpy.data.images.load(str(path))
    try:
        pixels = np.empty(size * size * 4, np.float32)
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    return pixels.reshape(size, size, 4)[::-1]


if __name__ == "__main__":
    main()
