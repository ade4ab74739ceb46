"""Colour words measured from the renders, and captions that say them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.lighting import brightness

COLOUR_WORDS = (
    "black", "grey", "white", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown",
    "beige",
)  # fmt: skip
"""Every word that `colour_words` can return."""

_NEUTRAL = ("black", "grey", "white")
_SALIENCE = 1.6  # people call a car red although tyres and windows are half of what they see
_LEAST_SHARE = 0.2
_FACES_DOWN = -0.5
_HUES = ((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (195, "turquoise"), (255, "blue"),
         (300, "purple"), (345, "pink"), (361, "red"))  # fmt: skip


def colour_words(
    colour: NDArray[np.uint8], normal: NDArray[np.float32], lighting: str = "rig", most: int = 2
) -> tuple[str, ...]:
    """Return the dominant colours of an object's views, the strongest first: at least one word, at most `most`.

    `colour` is RGBA (v, h, w, 4), `normal` (v, h, w, 3) as `draw` returns them; with `rig` lighting the light is
    divided out. Only fully covered pixels count, and not those that face the ground: the underside of a red car
    is black. Chromatic colours weigh more than black, grey and white.
    """
    covered = (colour[..., 3] == 255) & (np.abs(normal).max(axis=-1) > 0)
    solid = covered & (normal[..., 1] > _FACES_DOWN)
    solid = next((mask for mask in (solid, covered) if mask.any()), colour[..., 3] > 0)
    surface = colour[solid][:, :3].astype(np.float32) / np.float32(255)
    if lighting == "rig":
        surface = np.minimum(surface / brightness(normal[solid])[:, None], np.float32(1))
    counts = np.bincount(classify(surface), minlength=len(COLOUR_WORDS)).astype(np.float64)
    weight = np.array([1.0 if word in _NEUTRAL else _SALIENCE for word in COLOUR_WORDS])
    shares = counts * weight / max((counts * weight).sum(), 1e-9)
    order = np.argsort(-shares, kind="stable")
    return tuple(COLOUR_WORDS[i] for n, i in enumerate(order[:most]) if n == 0 or shares[i] >= _LEAST_SHARE)


def classify(rgb: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for every sRGB colour (n, 3) in [0, 1] the position of its word in COLOUR_WORDS."""
    value, chroma = rgb.max(axis=1), rgb.max(axis=1) - rgb.min(axis=1)
    saturation = chroma / np.maximum(value, 1e-6)
    hue = _hue(rgb, value, chroma)
    limits = np.array([limit for limit, _ in _HUES], np.float32)
    named = np.array([COLOUR_WORDS.index(word) for _, word in _HUES])
    word = named[np.searchsorted(limits, hue, side="right")]

    def put(where: NDArray[np.bool_], name: str) -> None:
        word[where] = COLOUR_WORDS.index(name)

    warm = (hue >= 8) & (hue < 50)
    put(warm & (value < 0.68), "brown")
    put((hue >= 20) & (hue < 65) & (saturation < 0.45) & (value >= 0.6), "beige")
    put(((hue >= 300) | (hue < 15)) & (saturation < 0.55) & (value >= 0.7), "pink")
    put((hue >= 300) & (hue < 345) & (value < 0.55), "purple")
    neutral = (saturation < 0.18) | (chroma < 0.07)
    put(neutral, "grey")
    put(neutral & (value >= 0.78), "white")
    put(value < 0.2, "black")
    return word


def _hue(rgb: NDArray[np.float32], value: NDArray[np.float32], chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the hue in degrees, [0, 360); 0 for greys."""
    red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    scale = 60 / np.maximum(chroma, 1e-6)
    hue = np.select(
        [chroma <= 0, value == red, value == green],
        [np.zeros_like(value), (green - blue) * scale, (blue - red) * scale + 120],
        (red - green) * scale + 240,
    )
    return hue % 360


def coloured_captions(captions: Sequence[str], colours: Sequence[str]) -> tuple[str, ...]:
    """Return phrasings with the colours, then the captions as they are; each once.

    "an armchair" becomes "a red armchair", and with a second colour also "a red and white armchair".
    """
    phrases = list(colours[:1])
    if len(colours) > 1:
        phrases.append(" and ".join(colours[:2]))
    coloured = [_inserted(caption, phrase) for phrase in phrases for caption in captions]
    return tuple(dict.fromkeys([*coloured, *captions]))


def _inserted(caption: str, phrase: str) -> str:
    first, _, rest = caption.partition(" ")
    if first.lower() in ("a", "an") and rest:
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase} {rest}"
    return f"{phrase} {caption}"
