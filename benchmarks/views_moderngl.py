"""The peer of `views.py` in plain moderngl: vertex buffers, mipmaps, one shader with two targets, read back."""

import functools
from contextlib import ExitStack

import moderngl
import numpy as np
from numpy.typing import NDArray
from views_materials import Material, depth_range, empty_views, materials_of, projection

from ln3d.data.readers.scene import Scene
from ln3d.data.views import Views
from ln3d.raycast.lighting import LAMPS

VERTEX = """
#version 330
uniform mat4 to_clip;
in vec3 position;
in vec2 uv;
in vec4 paint;
out vec3 place;
out vec2 at;
out vec4 tint;
void main() {
    place = position;
    at = uv;
    tint = paint;
    gl_Position = to_clip * vec4(position, 1.0);
}
"""

FRAGMENT = """
#version 330
uniform sampler2D image;
uniform vec3 eye;
uniform vec3 lamps[3];
uniform float shares[3];
in vec3 place;
in vec2 at;
in vec4 tint;
layout(location = 0) out vec4 colour;
layout(location = 1) out vec4 surface;  // world normal, distance along the ray
void main() {
    vec3 ray = place - eye;
    vec3 normal = normalize(cross(dFdx(place), dFdy(place)));
    if (dot(normal, ray) > 0.0) normal = -normal;
    float light = 0.358;
    for (int k = 0; k < 3; k++) {
        float half_lambert = 0.5 + 0.5 * dot(normal, lamps[k]);
        light += shares[k] * half_lambert * half_lambert;
    }
    colour = vec4(texture(image, at).rgb * tint.rgb * light, 1.0);
    surface = vec4(normal, length(ray));
}
"""


@functools.cache
def device() -> tuple[moderngl.Context, moderngl.Program]:
    """Return the context and the program of this process."""
    context = moderngl.create_context(require=330, standalone=True, backend="egl", libegl="libEGL.so.1")
    context.enable_only(moderngl.DEPTH_TEST)
    program = context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
    directions = np.array([direction for direction, _ in LAMPS], np.float32)
    program["lamps"].write(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    program["shares"].write(np.array([share for _, share in LAMPS], np.float32))
    return context, program


def version() -> str:
    """Return what draws."""
    return f"moderngl {moderngl.__version__}, {device()[0].info['GL_RENDERER']}"


def draw(scene: Scene, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32], resolution: int) -> Views:
    """Draw `scene` with all cameras, one sample per pixel."""
    context, program = device()
    size = (resolution, resolution)
    count = len(camera_to_world)
    views = empty_views(count, resolution)
    surface = np.empty((*size, 4), np.float32)
    with ExitStack() as owned:
        colour, geometry = (kept(owned, context.renderbuffer(size, 4, dtype=kind)) for kind in ("f1", "f4"))
        frame = kept(owned, context.framebuffer([colour, geometry], kept(owned, context.depth_renderbuffer(size))))
        drawings = [upload(context, program, material, owned) for material in materials_of(scene)]
        frame.use()
        for view in range(count):
            frame.clear()
            aim(program, camera_to_world[view], intrinsics[view])
            for texture, drawing in drawings:
                texture.use(0)
                drawing.render()
            frame.read_into(views.colour[view], components=4, attachment=0)
            frame.read_into(surface, components=4, attachment=1, dtype="f4")
            views.normal[view], views.depth[view] = surface[..., :3], surface[..., 3]
    return views


def kept(owned: ExitStack, thing):
    """Return `thing`, which is released with all else that is `owned`."""
    owned.callback(thing.release)
    return thing


def upload(
    context: moderngl.Context, program: moderngl.Program, material: Material, owned: ExitStack
) -> tuple[moderngl.Texture, moderngl.VertexArray]:
    """Return a material's texture with its mipmaps, and its triangles, on the device."""
    pixels = np.full((1, 1, 4), 255, np.uint8) if material.texture is None else material.texture
    texture = kept(owned, context.texture(pixels.shape[1::-1], 4, pixels))
    texture.build_mipmaps()  # and filter between them
    corners = np.concatenate([material.vertices, material.uv, material.paint], axis=1)
    vertices, faces = (kept(owned, context.buffer(np.ascontiguousarray(data))) for data in (corners, material.faces))
    layout = [(vertices, "3f 2f 4f", "position", "uv", "paint")]
    return texture, kept(owned, context.vertex_array(program, layout, index_buffer=faces, index_element_size=4))


def aim(program: moderngl.Program, camera_to_world: NDArray[np.float32], intrinsics: NDArray[np.float32]) -> None:
    """Set the camera."""
    to_clip = projection(intrinsics, *depth_range(camera_to_world)) @ np.linalg.inv(camera_to_world.astype(np.float64))
    program["to_clip"].write(np.ascontiguousarray(to_clip.T, np.float32))
    program["eye"].write(np.ascontiguousarray(camera_to_world[:3, 3], np.float32))
