"""Pictures as the frozen networks want them: resized as each one's users do, so that numbers can be compared."""

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


def resized_clean(images: UInt8[np.ndarray, "n h w 3"], side: int) -> Float32[np.ndarray, "n side side 3"]:
    """Return pictures resized to `side`, values in [0, 255], not rounded to whole ones.

    clean-fid's way (Parmar et al. 2022): each channel by itself as float32, bicubic with an antialiasing support.
    """
    out = np.empty((len(images), side, side, 3), dtype=np.float32)
    for picture, resized in zip(images, out, strict=True):
        for channel in range(3):
            plane = Image.fromarray(picture[..., channel].astype(np.float32))
            resized[..., channel] = np.asarray(plane.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 255)
    return out


def resized_plain(images: UInt8[np.ndarray, "n h w 3"], side: int) -> Float32[np.ndarray, "n side side 3"]:
    """Return square pictures resized to `side`, values in [0, 1]: 8-bit bicubic, what CLIP and DINOv2 were given.

    Raises ValueError for pictures that are not square, which would have to be cut or stretched.
    """
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"pictures of {images.shape[2]}x{images.shape[1]} pixels are not square")
    resized = [Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image, dtype=np.float32) / 255 for image in resized])
