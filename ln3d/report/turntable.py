"""Turntables: a closed ring of views as an animated GIF."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ln3d.report.sheets import to_bytes


def write_gif(frames: Any, path: Path, seconds: float = 4.0) -> None:
    """Write `frames` (n, h, w, 3), float in [0, 1] or uint8, sRGB, as an endless GIF of `seconds` per round.

    All frames share one palette of 256 colours and are dithered, so that shading shows no bands. GIF counts time in
    hundredths of a second and viewers slow down below two of them: a round takes at least 0.02 s per frame.

    Raises ValueError where there is no frame.
    """
    pictures = [Image.fromarray(to_bytes(frame)) for frame in frames]
    if not pictures:
        raise ValueError("a turntable needs at least one frame")
    palette = _common_palette(pictures)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    ends = np.rint(np.linspace(0, max(seconds * 100, 2 * len(indexed)), len(indexed) + 1)).astype(int)
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed[0].save(
        path,
        save_all=True,
        append_images=indexed[1:],
        duration=[int(hundredths) * 10 for hundredths in np.diff(ends)],
        loop=0,
        disposal=1,
    )


def _common_palette(pictures: list[Image.Image]) -> Image.Image:
    """Return a palette picture made from at most 64 frames spread over the round."""
    chosen = pictures[:: -(-len(pictures) // 64)]
    strip = np.concatenate([np.asarray(picture) for picture in chosen], axis=1)
    return Image.fromarray(strip).quantize(256, method=Image.Quantize.MEDIANCUT)
