from pathlib import Path

import pytest
from pydantic import BaseModel

from ln3d.config.load import load_recipe
from ln3d.config.recipe import Recipe
from ln3d.config.schema import reference_yaml


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    seen.add(model)
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
                sections(kind, seen)
    return seen


def test_the_reference_recipe_is_up_to_date(repository: Path) -> None:
    path = repository / "recipes" / "reference.yaml"
    assert path.read_text() == reference_yaml(), "run: python -m ln3d.config.schema > recipes/reference.yaml"


def test_the_reference_recipe_states_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "reference.yaml").write_text(reference_yaml())
    assert load_recipe(tmp_path / "reference.yaml") == Recipe(name="reference")


@pytest.mark.parametrize("section", sorted(sections(Recipe, set()), key=lambda section: section.__name__))
def test_every_key_is_explained(section: type[BaseModel]) -> None:
    assert section.__doc__
    for name, field in section.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert is_section or field.description or name == "kind", f"{section.__name__}.{name} has no docstring"


@pytest.mark.parametrize("section", sorted(sections(Recipe, set()), key=lambda section: section.__name__))
def test_every_default_passes_its_own_checks(section: type[BaseModel]) -> None:
    required = {"name": "x", "kind": "folder"}
    needed = {n: required[n] for n, field in section.model_fields.items() if field.is_required()}
    defaults = section(**needed)
    assert section.model_validate_json(defaults.model_dump_json(), strict=True) == defaults
