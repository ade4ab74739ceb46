"""Every recipe that is shipped."""

from pathlib import Path

import pytest

from ln3d.config.load import load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_begins_by_saying_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")
