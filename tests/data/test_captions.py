import numpy as np
import pytest

from ln3d.data.captions import COLOUR_WORDS, classify, colour_words, coloured_captions
from ln3d.raycast.lighting import brightness


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((0.8, 0.1, 0.1), "red"), ((0.9, 0.5, 0.1), "orange"), ((0.95, 0.8, 0.15), "yellow"),
        ((0.1, 0.5, 0.2), "green"), ((0.1, 0.25, 0.75), "blue"), ((0.2, 0.75, 0.75), "turquoise"),
        ((0.5, 0.1, 0.6), "purple"), ((0.95, 0.6, 0.75), "pink"), ((0.45, 0.28, 0.12), "brown"),
        ((0.85, 0.75, 0.55), "beige"), ((0.05, 0.05, 0.06), "black"), ((0.5, 0.5, 0.5), "grey"),
        ((0.92, 0.92, 0.9), "white"),
    ],
)  # fmt: skip
def test_plain_colours_have_their_word(rgb, word):
    assert COLOUR_WORDS[classify(np.float32([rgb]))[0]] == word


def test_every_colour_has_a_word():
    assert classify(np.random.default_rng(0).random((10_000, 3), np.float32)).max() < len(COLOUR_WORDS)


def picture(shares, normal=(0, 0, 1)):
    """Rows of pixels with the given colours, lit by the rig."""
    rows = np.concatenate([np.tile(np.float32(rgb), (count, 1)) for rgb, count in shares])
    normals = np.tile(np.float32(normal), (len(rows), 1))
    lit = np.rint(rows * brightness(normals)[:, None] * 255).astype(np.uint8)
    colour = np.concatenate([lit, np.full((len(rows), 1), 255, np.uint8)], 1)
    return colour[None, None], normals[None, None]


def test_light_is_divided_out():
    for normal in [(0, 0, 1), (0, 1, 0), (0, 0, -1), (-1, 0, 0)]:
        assert colour_words(*picture([((0.9, 0.9, 0.9), 50)], normal)) == ("white",)


def test_the_strongest_colours_come_first_and_small_ones_not_at_all():
    red, dark, blue = (0.8, 0.1, 0.1), (0.05, 0.05, 0.05), (0.1, 0.2, 0.8)
    assert colour_words(*picture([(red, 45), (dark, 50), (blue, 5)])) == ("red", "black")
    assert colour_words(*picture([(red, 90), (dark, 10)])) == ("red",)


def test_the_underside_does_not_count():
    top, bottom = picture([((0.8, 0.1, 0.1), 20)]), picture([((0.05, 0.05, 0.05), 80)], (0, -1, 0))
    assert colour_words(*(np.concatenate(pair, axis=2) for pair in zip(top, bottom, strict=True))) == ("red",)
    assert colour_words(*bottom) == ("black",)


def test_an_empty_picture_has_some_word_still():
    assert len(colour_words(np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.float32))) == 1


def test_captions_get_colours_after_their_article():
    captions = coloured_captions(("an armchair", "office chair"), ("red", "white"))
    assert captions == (
        "a red armchair", "red office chair", "a red and white armchair", "red and white office chair",
        "an armchair", "office chair",
    )  # fmt: skip
    assert coloured_captions(("a boat",), ("orange",))[0] == "an orange boat"
    assert coloured_captions(("a boat",), ()) == ("a boat",)
