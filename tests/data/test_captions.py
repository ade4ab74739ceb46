import hashlib

import numpy as np
import pytest

from ln3d.config.render import LimitsConfig
from ln3d.data.captions import (
    COLOUR_WORDS,
    FINISH_WORDS,
    MATERIAL_WORDS,
    RULE,
    TONE_WORDS,
    Appearance,
    appearance,
    classify,
    colour_words,
    coloured_captions,
    described_captions,
)
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.drawing import DrawingOrder, _captions
from ln3d.data.views import Views
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


BROWN, GREEN, RED = (0.45, 0.28, 0.12), (0.12, 0.6, 0.2), (0.8, 0.1, 0.1)


def wall(*rgb, grain=0.0):
    """A square picture of upright stripes, one per colour, lit by the rig; `grain` varies them from pixel to pixel."""
    own = np.repeat(np.float32(rgb), 24 // len(rgb), axis=0)[None].repeat(24, axis=0)
    own = own * (1 + grain * np.random.default_rng(0).uniform(-1, 1, (24, 24, 1))).astype(np.float32)
    normals = np.broadcast_to(np.float32([0, 0, 1]), own.shape)
    lit = np.rint(own * brightness(normals)[..., None] * 255).astype(np.uint8)
    return np.concatenate([lit, np.full((24, 24, 1), 255, np.uint8)], -1)[None], normals[None]


def test_wood_is_warm_and_has_a_grain():
    assert appearance(*wall(BROWN, grain=0.1)).material == "wooden"
    for painted in (
        wall(BROWN),
        wall(GREEN, grain=0.1),
        wall(BROWN, GREEN, grain=0.1),
        wall((0.5, 0.5, 0.5), grain=0.1),
    ):
        assert appearance(*painted).material == ""


def test_finish_tells_how_many_colours_there_are():
    blue = (0.1, 0.2, 0.8)
    found = [appearance(*wall(*colours)).finish for colours in [(RED,), (RED, GREEN), (RED, GREEN, blue)]]
    assert found == list(FINISH_WORDS)
    assert appearance(*wall(RED, grain=0.05)).finish == ""
    assert appearance(*wall(*[RED] * 6, GREEN, blue)).finish == ""  # neither plain nor of several colours


def test_tone_is_that_of_the_first_colour():
    found = [appearance(*wall(colour)).tone for colour in [(0.3, 0.02, 0.02), RED, (0.55, 0.85, 0.98)]]
    assert found == ["dark", "", "light"] and set(TONE_WORDS) == {"dark", "light"}
    assert [appearance(*wall((v, v, v))).tone for v in (0.05, 0.95)] == ["", ""]  # black and white need none


def test_colours_are_those_of_colour_words():
    for shown in (wall(RED, GREEN), wall(BROWN, grain=0.2)):
        assert appearance(*shown).colours == colour_words(*shown)
    nothing = appearance(np.zeros((1, 4, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.float32))
    assert len(nothing.colours) == 1 and nothing.material == ""
    bare = appearance(wall(BROWN, grain=0.1)[0], np.zeros((1, 24, 24, 3), np.float32), "albedo")
    assert (bare.finish, bare.material) == ("", "")  # without normals nobody knows what lies on one side


SEEN = Appearance(("brown", "red"), tone="dark", finish="two-tone", material="wooden")


@pytest.mark.parametrize("caption", ["a white bear", "a gray horse", "a blue pine under snow", "a black table, dining"])
def test_a_thing_that_has_a_colour_gets_no_other(caption):
    assert coloured_captions((caption,), ("white", "grey")) == (caption,)
    seen = Appearance(("white", "grey"), tone="light", finish="plain")
    assert described_captions((caption,), seen) == (caption,)


@pytest.mark.parametrize("caption", ["a knife and fork", "a plate, glass and cutlery"])
def test_a_list_of_things_gets_no_list_of_colours(caption):
    article, _, rest = caption.partition(" ")
    assert coloured_captions((caption,), ("red", "white")) == (f"{article} red {rest}", caption)
    assert not any("red and white" in text for text in described_captions((caption,), SEEN, most=99))


def test_a_thing_that_is_called_as_its_livery_is_still_coloured():
    jet = "a jet in white livery"
    assert coloured_captions((jet,), ("white", "blue"))[:2] == (
        "a white jet in white livery",
        "a white and blue jet in white livery",
    )
    assert coloured_captions(("a blue jet in white livery",), ("white",)) == ("a blue jet in white livery",)


CAPTIONS = (
    *("a table", "an old wooden table", "office chair", "a black bear", "a gray horse", "a dark green pine, tree"),
    *("a jet in blue air livery", "a red jet in white livery", "a knife and fork", "a plate, glass and cutlery"),
)
RULES = {1: "7a23264126d01b13dcc93922ce4d1ccc14345c30c5596bb39301972352dac292"}
"""What every rule made of CAPTIONS: where a digest differs, raise `RULE` and add it here."""


def test_another_rule_has_another_number():
    made = []
    for colours in ((), ("red",), ("white", "blue"), ("brown", "orange")):
        for tone, finish, material in (("", "", ""), ("dark", "plain", ""), ("light", "two-tone", "wooden")):
            seen = Appearance(colours, tone, finish, material)
            made += [(coloured_captions((c, "a thing"), colours), described_captions((c,), seen, 0)) for c in CAPTIONS]
    assert hashlib.sha256(repr(made).encode()).hexdigest() == RULES[RULE]


def test_the_colour_of_a_livery_is_not_that_of_the_thing():
    assert coloured_captions(("a jet in blue air livery",), ("white",))[0] == "a white jet in blue air livery"


def test_described_captions_say_what_was_seen_and_nothing_else():
    captions = ("a table", "an old table")
    told = described_captions(captions, SEEN, 0, "x", most=99)
    assert told[0] == "a brown table" and told[-1] == "a table"
    assert {"a dark brown table", "a two-tone table", "a wooden table", "a dark brown wooden table"} < set(told)
    assert {"a brown and red table", "a brown and red old table", "a table, mostly brown", "an old table"} < set(told)
    assert len(set(told)) == len(told)
    measured = {*COLOUR_WORDS, *TONE_WORDS, *FINISH_WORDS, *MATERIAL_WORDS}
    said = {word.strip(",") for text in told for word in text.split()} & measured
    assert said == {"brown", "red", "dark", "two-tone", "wooden"}
    assert "a plain red car" in described_captions(("a car",), Appearance(("red",), finish="plain"))


def test_described_captions_do_not_say_a_word_twice():
    for text in described_captions(("a wooden ship", "a dark table"), SEEN, most=99):
        words = text.replace(",", "").split()
        assert words.count("wooden") <= 1 and words.count("dark") <= 1


def test_described_captions_are_chosen_by_their_key():
    captions = ("a table", "an old table", "a thing")
    choices = {described_captions(captions, SEEN, seed, "x", most=6) for seed in range(8)}
    assert len(choices) > 4 and {len(choice) for choice in choices} == {6}
    assert {(choice[0], choice[-1]) for choice in choices} == {("a brown table", "a table")}
    assert described_captions(captions, SEEN, 3, "x", most=6) == described_captions(captions, SEEN, 3, "x", most=6)
    assert described_captions((), SEEN) == ()


@pytest.mark.parametrize("own", [False, True])
def test_captions_of_ones_own_are_kept_as_they_are(own):
    colour, normal = wall(RED)
    views = Views(colour, np.ones(colour.shape[:3], np.float32), normal)
    entry = CatalogueEntry("x", "x", "car", "car", ("my car",), "", "", ("folder", {}), own_captions=own)
    camera = np.zeros((1, 4, 4), np.float32)
    order = DrawingOrder(camera, camera[:, :3, :3], 24, 1, "rig", 0.1, LimitsConfig(), captions="described")
    assert _captions(order, entry, views, ()) == ("my car",)  # no colours measured, nothing said
    told = _captions(order, entry, views, ("red",))
    assert told == ("my car",) if own else told[0] == "red my car"
