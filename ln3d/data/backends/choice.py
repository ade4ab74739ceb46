"""Which renderer draws: `dataset.renderer` of a recipe, as a function. What a renderer needs is imported with it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ln3d.config.render import Renderer
from ln3d.data.readers.scene import Scene
from ln3d.data.views import Views


class Draw(Protocol):
    """A function like `ln3d.data.views.draw`, whose pictures any other may stand in for."""

    def __call__(
        self,
        scene: Scene,
        camera_to_world: NDArray[np.float32],
        intrinsics: NDArray[np.float32],
        resolution: int,
        supersampling: int = 2,
        lighting: str = "rig",
    ) -> Views:
        """Return what cameras (v, 4, 4) with intrinsics (v, 3, 3) see of `scene`, see docs/conventions.md."""


def painter(name: Renderer) -> Draw:
    """Return the renderer of this name. That it can work on this machine is for `check_renderer` to say."""
    if name == "gl":
        from ln3d.data.backends import gl

        return gl.draw
    if name == "blender":
        from ln3d.data.backends import blender

        return blender.draw
    from ln3d.data import views

    return views.draw


def check_renderer(name: Renderer) -> dict[str, str]:
    """Return the versions, by name, of what this renderer draws with besides the packages that ln3d always needs.

    Raises RecipeError, with the remedy, where it cannot work on this machine.
    """
    if name == "gl":
        from ln3d.data.backends import gl

        return {"moderngl": gl.check()}
    if name == "blender":
        from ln3d.data.backends import blender

        return {"Blender": blender.check()}
    return {}
