from dataclasses import dataclass

import pytest

from ln3d.config.render import SplitConfig
from ln3d.data.collections.entries import CatalogueEntry
from ln3d.data.splits import assign_splits, with_held_out
from ln3d.errors import RecipeError


@dataclass(frozen=True)
class Thing:
    shape_id: str
    category: str


def things(shapes, category="car", liveries=3):
    return [Thing(f"{category}{s}", category) for s in range(shapes) for _ in range(liveries)]


def test_liveries_of_a_shape_stay_together():
    items = things(200)
    splits = assign_splits(items, SplitConfig(validation=0.2, test=0.3))
    by_shape = {}
    for item, split in zip(items, splits, strict=True):
        by_shape.setdefault(item.shape_id, set()).add(split)
    assert all(len(found) == 1 for found in by_shape.values())
    assert {next(iter(found)) for found in by_shape.values()} == {"train", "validation", "test"}


def test_shares_are_about_right():
    splits = assign_splits(things(4000, liveries=1), SplitConfig(validation=0.1, test=0.2))
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("validation") / 4000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("shapes", "held_out"), [(5, True), (9, True), (4, False)])
def test_every_category_with_five_shapes_has_a_test_shape(shapes, held_out):
    items = [item for name in "abcdefghij" for item in things(shapes, name)]
    splits = assign_splits(items, SplitConfig(validation=0.0, test=0.001))
    for name in "abcdefghij":
        found = {item.shape_id for item, s in zip(items, splits, strict=True) if s == "test" and item.category == name}
        assert len(found) == held_out


def test_no_test_split_when_none_is_wanted():
    assert set(assign_splits(things(50), SplitConfig(validation=0, test=0))) == {"train"}


def test_a_shape_keeps_its_split_when_others_come():
    config = SplitConfig(validation=0.1, test=0.2)
    few, many = things(300), things(300) + things(300, "boat")
    assert assign_splits(few, config) == assign_splits(many, config)[: len(few)]


def catalogue(shapes=40, liveries=3, official=""):
    return [
        CatalogueEntry(f"toys/{s}-{i}", f"shape{s}", "car", "car", (), "", "", ("folder", {}), official_split=official)
        for s in range(shapes)
        for i in range(liveries)
    ]


@pytest.mark.parametrize("official", ["", "train"])
def test_named_shapes_are_held_out_in_all_their_liveries_and_no_others(official):
    config = SplitConfig(validation=0.3, test=0, held_out=("toys/3-1", "toys/7-0", "toys/7-2"))
    entries = with_held_out(catalogue(official=official), config)
    splits = assign_splits(entries, config)
    held = {entry.source_id for entry, split in zip(entries, splits, strict=True) if split == "test"}
    assert held == {f"toys/{s}-{i}" for s in (3, 7) for i in range(3)}
    assert [entry.source_id for entry in entries] == [entry.source_id for entry in catalogue()]


def test_a_livery_is_held_out_although_the_named_object_is_not_drawn():
    config = SplitConfig(validation=0, test=0, held_out=("toys/3-1",))
    drawn = [e for e in with_held_out(catalogue(), config) if not e.source_id.endswith("-1")]
    splits = dict(zip([e.source_id for e in drawn], assign_splits(drawn, config), strict=True))
    assert {name for name, split in splits.items() if split == "test"} == {"toys/3-0", "toys/3-2"}


def test_without_names_the_catalogue_is_as_it_was():
    assert with_held_out(catalogue(), SplitConfig()) == catalogue()


def test_a_name_that_does_not_exist_is_refused():
    with pytest.raises(RecipeError, match=r"held_out: no object is called toys/3-9 \(1 such") as error:
        with_held_out(catalogue(), SplitConfig(held_out=("toys/3-9",)))
    assert "did you mean toys/3-" in error.value.hint
