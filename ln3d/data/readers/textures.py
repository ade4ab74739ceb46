"""Texture images as RGBA pixels."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_pixels
from ln3d.errors import MeshError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".gif", ".webp", ".rgb", ".rgba", ".dds")
# The formats decoded; anything else (PostScript, for one, starts a program) is refused.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TGA", "TIFF", "GIF", "WEBP", "SGI", "DDS", "PPM")


def check_image(data: bytes, limits: LimitsConfig, label: str) -> None:
    """Raise MeshError when the image's header is unreadable or declares too many pixels; nothing is decoded."""
    _opened(data, limits, label).close()


def decode(data: bytes, limits: LimitsConfig, label: str) -> UInt8[np.ndarray, "h w 4"]:
    """Return an image file's pixels, row 0 at the top.

    Raises:
        MeshError: the image is damaged, of an unknown kind, or has more pixels than `limits` allows.
    """
    image = _opened(data, limits, label)
    try:
        return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MeshError(f"{label}: a damaged texture ({error})", "Replace the image file.") from None
    finally:
        image.close()


def has_gradual_alpha(texture: UInt8[np.ndarray, "h w 4"]) -> bool:
    """Return whether alpha carries gloss or the like, not holes: over 2 % of it lies between clear and opaque."""
    alpha = texture[..., 3]
    return bool(((alpha > 12) & (alpha < 243)).mean() > 0.02)


def _opened(data: bytes, limits: LimitsConfig, label: str) -> Image.Image:
    previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own limit is checked two lines below
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise MeshError(f"{label}: a texture that is no image", "Replace the file by a PNG or JPEG.") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise MeshError(f"{label}: an unreadable texture ({error})", "Replace the image file.") from None
    finally:
        Image.MAX_IMAGE_PIXELS = previous
    check_pixels(image.size, limits.texture_pixels, label)
    return image
