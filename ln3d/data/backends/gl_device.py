"""The OpenGL device of a process: found through EGL, without a screen."""

import functools
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ln3d.data.backends.gl_shaders import FRAGMENT, VERTEX
from ln3d.errors import RecipeError

if TYPE_CHECKING:
    import moderngl

DEVICE = "LN3D_GL_DEVICE"
"""Environment variable with the number of the EGL device, from 0, on a machine with several."""
_LIBRARY = "libEGL.so.1"
_INSTALL = "Install a driver: apt-get install libegl1 libgl1-mesa-dri (a container needs NVIDIA's graphics capability)."


@dataclass(frozen=True)
class Device:
    """A context, the program that draws, and the frame to leave in use; `most` is the largest side of a texture."""

    context: "moderngl.Context"
    program: "moderngl.Program"
    rest: "moderngl.Framebuffer"
    most: int


@functools.cache
def device() -> Device:
    """Return the device of this process; it is opened once. Raises RecipeError as `check`."""
    return _opened()


def check() -> str:
    """Open the device and close it again; return the version of moderngl.

    Raises RecipeError where the extra, the library or the device is missing.
    """
    _opened().context.release()
    return version("moderngl")


def _opened() -> Device:
    try:
        import moderngl
    except ImportError as error:
        raise RecipeError(
            "dataset.renderer: gl needs the package moderngl", "Install it: pip install 'ln3d[gl]'"
        ) from error
    number = os.environ.get(DEVICE, "0")
    if not number.isdecimal():
        raise RecipeError(f"{DEVICE}={number} is not the number of a device", "Count them from 0, or unset it.")
    # Its own choice of libraries would be libGL as well, which nothing here needs, and takes other programs to find.
    options: dict[str, Any] = {"backend": "egl", "libegl": _LIBRARY, "libgl": _LIBRARY, "device_index": int(number)}
    try:
        context = moderngl.create_context(require=330, standalone=True, **options)
    except Exception as error:  # that is all it tells its callers
        hint = f"Choose another {DEVICE}." if "device index" in str(error) else _INSTALL
        raise RecipeError(f"dataset.renderer: gl finds no OpenGL 3.3 device by EGL: {error}", hint) from error
    context.enable_only(context.DEPTH_TEST)
    program = context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
    return Device(context, program, context.simple_framebuffer((1, 1)), int(context.info["GL_MAX_TEXTURE_SIZE"]))
