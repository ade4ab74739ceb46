import json
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ln3d.data.subsets import read_object_list, selected, spread, thinned
from ln3d.errors import RecipeError


@dataclass(frozen=True)
class Thing:
    number: int
    category: str


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(1, 70))
def test_order_count_and_categories_are_kept(categories, count):
    items = [Thing(n, c) for n, c in enumerate(categories)]
    kept = thinned(items, count)
    assert len(kept) == min(count, len(items))
    assert [k.number for k in kept] == sorted({k.number for k in kept})
    if count >= len(set(categories)):
        assert {k.category for k in kept} == set(categories)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 4, 6]), (10, list(range(10))), (12, list(range(10)))]
)
def test_a_few_are_taken_from_all_over_the_list(count, chosen):
    assert list(spread(list(range(10)), count)) == chosen


def test_shares_are_even_and_spread():
    items = [Thing(n, "plane") for n in range(900)] + [Thing(n, "car") for n in range(100)]
    kept = thinned(items, 20)
    assert Counter(k.category for k in kept) == {"plane": 18, "car": 2}
    assert [k.number for k in kept if k.category == "plane"] == list(range(0, 900, 50))


@dataclass(frozen=True)
class Titled:
    source_id: str


def test_objects_are_named_by_id_or_pattern_and_keep_their_order():
    items = [Titled(name) for name in ("a/car/1", "a/car/[2]", "a/boat/1", "b/car/1")]
    chosen = lambda *patterns: [item.source_id for item in selected(items, patterns)]  # noqa: E731
    assert chosen("b/car/1", "a/boat/1") == ["a/boat/1", "b/car/1"]
    assert chosen("*/car/*") == ["a/car/1", "a/car/[2]", "b/car/1"]
    assert chosen("a/*", "a/car/?") == ["a/car/1", "a/car/[2]", "a/boat/1"]
    assert chosen("a/car/[2]") == ["a/car/[2]"]  # an id is not read as a pattern
    with pytest.raises(RecipeError, match="no object is called a/caar/1") as error:
        chosen("a/*", "a/caar/1")
    assert "a/car/1" in error.value.hint


def test_a_list_of_objects_is_read_with_and_without_groups(tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"rule": "by hand", "train": ["a/2", "a/1"], "test": {"car": ["b/1"], "boat": []}}))
    assert read_object_list(path) == {"train": {"": ("a/2", "a/1")}, "test": {"car": ("b/1",), "boat": ()}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no list of objects"),
        ("[]", "no list of objects"),
        ('{"train": []}', "names no object"),
        ('{"validation": ["a/1"]}', "names no object"),
        ('{"train": ["a/1"], "test": {"car": ["a/1"]}}', "names a/1 twice"),
        ('{"train": "a/1"}', "lists of text"),
        ('{"train": [1]}', "lists of text"),
    ],
)
def test_a_list_that_names_no_objects_is_refused(tmp_path, text, complaint):
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=complaint):
        read_object_list(path)


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no list of objects"):
        read_object_list(tmp_path / "none.json")
