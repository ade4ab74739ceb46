"""OpenEXR pictures, by the `OpenEXR` package (extra `exr`)."""

import importlib.util
import tempfile
from typing import Any

import numpy as np
from jaxtyping import Float32

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_pixels
from ln3d.errors import MeshError, RecipeError


def check_reader() -> None:
    """Raise RecipeError where the package that reads EXR is missing."""
    if importlib.util.find_spec("OpenEXR") is None:
        raise RecipeError("EXR pictures need the package OpenEXR", "Install it: pip install 'ln3d[exr]'")


def read_rgba(data: bytes, limits: LimitsConfig, label: str) -> Float32[np.ndarray, "h w 4"]:
    """Return the channels R, G, B, A of an EXR file; MeshError where it is damaged, lacks one or is too large."""
    import OpenEXR

    with tempfile.NamedTemporaryFile(suffix=".exr") as file:  # the package reads from a path alone
        file.write(data)
        file.flush()
        try:
            header = OpenEXR.File(file.name, header_only=True).header()
            check_pixels(_size(header), limits.texture_pixels, label)
            channels = OpenEXR.File(file.name, separate_channels=True).channels()
            planes = [np.asarray(channels[name].pixels, dtype=np.float32) for name in "RGBA"]
        except KeyError as error:
            raise MeshError(f"{label}: no channel {error}", "Expected R, G, B (normal) and A (depth).") from None
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise MeshError(f"{label}: a damaged EXR file ({error})", "Fetch it again.") from None
    return np.stack(planes, axis=-1)


def _size(header: dict[str, Any]) -> tuple[int, int]:
    """Return (width, height) of the data window, from its lowest and highest pixel."""
    low, high = header["dataWindow"]
    return int(high[0] - low[0] + 1), int(high[1] - low[1] + 1)
