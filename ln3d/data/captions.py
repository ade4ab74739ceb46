"""What the renders show in words (colours, tone, finish, wood), and captions that say it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ln3d.raycast.lighting import brightness
from ln3d.seeding import numpy_generator

RULE = 1
"""Which rule makes captions; raise it when the same objects get others, so that their shards are known to be older."""

COLOUR_WORDS = (
    "black", "grey", "white", "red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown",
    "beige",
)  # fmt: skip
"""Every word that `colour_words` can return."""

TONE_WORDS, FINISH_WORDS, MATERIAL_WORDS = ("dark", "light"), ("plain", "two-tone", "multicoloured"), ("wooden",)
"""Every other word that `appearance` can measure."""

_COLOURS = {*COLOUR_WORDS, "gray"}
_NEUTRAL = ("black", "grey", "white")
_SALIENCE = 1.6  # people call a car red although tyres and windows are half of what they see
_LEAST_SHARE = 0.2
_FACES_DOWN = -0.5
_HUES = ((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (195, "turquoise"), (255, "blue"),
         (300, "purple"), (345, "pink"), (361, "red"))  # fmt: skip
_DARK, _LIGHT = 0.42, 0.7  # of the mean of the largest and smallest channel; between them a colour needs no word
_WOOD_COLOURS = ("brown", "beige", "orange")
_WOOD_SHARE, _WOOD_GRAIN = 0.75, 0.01  # painted, upholstered and plastic things of these colours have less grain
_PLAIN_SHARE, _PLAIN_GRAIN, _PATCH_SHARE = 0.85, 0.005, 0.15
_SAME_SIDE = 0.99


@dataclass(frozen=True)
class Appearance:
    """What the renders show of an object's surface, in words; empty where nothing can be said."""

    colours: tuple[str, ...]
    """As `colour_words` returns them."""
    tone: str = ""
    """`dark` or `light`: the first colour."""
    finish: str = ""
    """`plain`, `two-tone` or `multicoloured`."""
    material: str = ""
    """`wooden`: warm and with a grain. Metal, glass or cloth cannot be told from unlit colours."""


def appearance(colour: NDArray[np.uint8], normal: NDArray[np.float32], lighting: str = "rig") -> Appearance:
    """Return what `colour` RGBA (v, h, w, 4) and `normal` (v, h, w, 3) show; see `colour_words`."""
    colours = colour_words(colour, normal, lighting)
    where = _solid(colour, normal)
    own = np.zeros((*where.shape, 3), np.float32)
    own[where] = _unlit(colour, normal, where, lighting)
    word = classify(own[where])
    shares = np.bincount(word, minlength=len(COLOUR_WORDS)) / max(len(word), 1)
    grain = _grain(own, normal, where)
    first = own[where][word == COLOUR_WORDS.index(colours[0])]
    warm = sum(shares[COLOUR_WORDS.index(name)] for name in _WOOD_COLOURS)
    return Appearance(
        colours,
        tone="" if colours[0] in ("black", "white") else _tone(first),
        finish=_finish(np.sort(shares)[::-1], grain),
        material="wooden" if warm >= _WOOD_SHARE and grain >= _WOOD_GRAIN else "",
    )


def _tone(rgb: NDArray[np.float32]) -> str:
    """Return whether colours (n, 3) are dark or light, by the median of their lightness."""
    if not len(rgb):
        return ""
    lightness = float(np.median((rgb.max(axis=1) + rgb.min(axis=1)) / 2))
    brightest = float(np.median(rgb.max(axis=1)))
    return "dark" if brightest < _DARK else "light" if lightness > _LIGHT else ""


def _finish(shares: NDArray[np.float64], grain: float) -> str:
    """Return the word for how many colours there are, from their `shares`, the largest first."""
    patches = int((shares >= _PATCH_SHARE).sum())
    if shares[0] >= _PLAIN_SHARE:
        return "plain" if grain < _PLAIN_GRAIN else ""
    if patches == 2 and shares[:2].sum() >= _PLAIN_SHARE:
        return "two-tone"
    return "multicoloured" if patches > 2 else ""


def _grain(own: NDArray[np.float32], normal: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """Return the median relative difference in brightness of neighbours on one side of the surface; NaN without any."""
    luma = own.mean(axis=-1)
    differences = []
    for axis in (1, 2):
        count = where.shape[axis]
        one, other = np.arange(1, count), np.arange(count - 1)
        a, b = luma.take(one, axis), luma.take(other, axis)
        facing = (normal.take(one, axis) * normal.take(other, axis)).sum(axis=-1) > _SAME_SIDE
        pairs = where.take(one, axis) & where.take(other, axis) & facing
        differences.append(np.abs(a - b)[pairs] / np.maximum((a + b)[pairs] / 2, np.float32(0.05)))
    every = np.concatenate(differences)
    return float(np.median(every)) if len(every) else float("nan")


def colour_words(
    colour: NDArray[np.uint8], normal: NDArray[np.float32], lighting: str = "rig", most: int = 2
) -> tuple[str, ...]:
    """Return the dominant colours of an object's views, the strongest first: at least one word, at most `most`.

    `colour` is RGBA (v, h, w, 4), `normal` (v, h, w, 3) as `draw` returns them; with `rig` lighting the light is
    divided out. Only fully covered pixels count, and not those that face the ground: the underside of a red car
    is black. Chromatic colours weigh more than black, grey and white.
    """
    surface = _unlit(colour, normal, _solid(colour, normal), lighting)
    counts = np.bincount(classify(surface), minlength=len(COLOUR_WORDS)).astype(np.float64)
    weight = np.array([1.0 if word in _NEUTRAL else _SALIENCE for word in COLOUR_WORDS])
    shares = counts * weight / max((counts * weight).sum(), 1e-9)
    order = np.argsort(-shares, kind="stable")
    return tuple(COLOUR_WORDS[i] for n, i in enumerate(order[:most]) if n == 0 or shares[i] >= _LEAST_SHARE)


def _solid(colour: NDArray[np.uint8], normal: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels (v, h, w) tell the colour: fully covered ones, without the underside where others are."""
    covered = (colour[..., 3] == 255) & (np.abs(normal).max(axis=-1) > 0)
    solid = covered & (normal[..., 1] > _FACES_DOWN)
    return next((mask for mask in (solid, covered) if mask.any()), colour[..., 3] > 0)


def _unlit(
    colour: NDArray[np.uint8], normal: NDArray[np.float32], where: NDArray[np.bool_], lighting: str
) -> NDArray[np.float32]:
    """Return the surface's own sRGB colours (n, 3) in [0, 1] of the pixels `where`."""
    surface = colour[where][:, :3].astype(np.float32) / np.float32(255)
    if lighting == "rig":
        surface = np.minimum(surface / brightness(normal[where])[:, None], np.float32(1))
    return surface


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

    "an armchair" becomes "a red armchair", and with a second colour also "a red and white armchair"; "a black bear"
    stays what it is, and "a knife and fork" gets one colour only.
    """
    phrases = list(colours[:1])
    if len(colours) > 1:
        phrases.append(" and ".join(colours[:2]))
    coloured = [_inserted(caption, phrase) for phrase in phrases for caption in captions if _fits(caption, phrase)]
    return tuple(dict.fromkeys([*coloured, *captions]))


def described_captions(captions: Sequence[str], seen: Appearance, *key: int | str, most: int = 12) -> tuple[str, ...]:
    """Return up to `most` phrasings of `captions` that say what was `seen`, in an order that `key` decides.

    The first is the first caption with the strongest colour, and one is the first caption as it is. The others say
    one or two things each: both colours, the tone ("a dark red car"), the finish ("a plain red car"), the material
    ("a dark brown wooden table"), or the colour behind ("a car, mostly red").
    """
    if not captions:
        return ()
    first, *rest = coloured_captions(captions, seen.colours)
    rest += [_inserted(caption, phrase) for phrase in _phrases(seen) for caption in captions if _fits(caption, phrase)]
    rest += [
        f"{caption}, mostly {colour}" for colour in seen.colours[:1] for caption in captions if _fits(caption, colour)
    ]
    others = [text for text in dict.fromkeys(rest) if text not in (first, captions[0])]
    order = numpy_generator("captions", *key).permutation(len(others))
    kept = [others[place] for place in order[: max(most - 2, 0)]]
    return tuple(dict.fromkeys([first, *kept, captions[0]]))


def _phrases(seen: Appearance) -> list[str]:
    """Return what can be said before the noun, colours alone left out."""
    colour = seen.colours[0] if seen.colours else ""
    toned = f"{seen.tone} {colour}".strip()
    phrases = [toned] if seen.tone and colour else []
    if seen.finish == "plain" and colour:
        phrases.append(f"plain {colour}")
    elif seen.finish:
        phrases.append(seen.finish)
    if seen.material:
        phrases += [seen.material, f"{toned} {seen.material}".strip()]
    return phrases


def _fits(caption: str, phrase: str) -> bool:
    """Return whether `phrase` may be said of what the caption names.

    Its own colour is right ("a black bear"), so a phrase with another one does not fit; a colour behind "in" is that of
    a livery and may stay. Nor is another word said twice: not "wooden", and not "and", which would join two lists.
    """
    words, text = set(phrase.split()), caption.replace(",", " ").lower()
    if words & _COLOURS and set(text.partition(" in ")[0].split()) & _COLOURS:
        return False
    return not (words - _COLOURS) & set(text.split())


def _inserted(caption: str, phrase: str) -> str:
    first, _, rest = caption.partition(" ")
    if first.lower() in ("a", "an") and rest:
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase} {rest}"
    return f"{phrase} {caption}"
