"""Recipe files become `Recipe`: strict, all problems at once, each with its file and line."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ln3d.config.problems import describe
from ln3d.config.recipe import Recipe
from ln3d.config.source import Location, Source, parse_value, read_source
from ln3d.errors import RecipeError

_HINT = "recipes/reference.yaml lists every key with its meaning and default"


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe in the YAML file `path` after `overrides` such as `vae.decoder.depth=12`.

    `extends: other.yaml` (beside the file, one level) supplies what the file leaves out: sections merge, lists are
    replaced. `name` is not inherited; it defaults to the file's own. An override may step into a list by number.
    RecipeError names every problem at once: file:line (or the override), the key, what is wrong, what was meant.
    """
    path = Path(path)
    source = _with_base(read_source(path), path)
    source.data.setdefault("name", path.stem.lower())
    return _changed(source, overrides, str(path))


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe after `overrides` such as `evaluation.views=8`; RecipeError as `load_recipe`."""
    return _changed(Source(recipe.model_dump(mode="json")), overrides, "--set") if overrides else recipe


def recipe_from_dict(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a manifest holds; RecipeError where this ln3d does not understand it."""
    try:
        return Recipe.model_validate_json(json.dumps(dict(data)), strict=True)
    except ValidationError as error:
        problems = describe(error, Recipe, Source({}), "manifest")
        raise RecipeError(_together(problems, "the stored recipe"), "it was made by another version of ln3d") from error


def _changed(source: Source, overrides: Sequence[str], where: str) -> Recipe:
    for override in overrides:
        _apply(override, source)
    problems = list(source.problems)
    try:
        recipe = Recipe.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        problems += describe(error, Recipe, source, where)
    problems.sort(key=_reading_order)
    if problems:
        raise RecipeError(_together(problems, where), _HINT)
    return recipe


def _reading_order(problem: str) -> tuple[bool, str, int]:
    """Order problems as a reader meets them: file by file, line by line, then the overrides."""
    place = re.match(r"(.+?):(\d+): ", problem)
    if place is None or problem.startswith("--set "):
        return True, "", 0
    return False, place[1], int(place[2])


def _together(problems: Sequence[str], where: str) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} problems in {where}:", *(f"  {problem}" for problem in problems)])


def _with_base(source: Source, path: Path) -> Source:
    """Return `source` laid over the file that it extends, if it does."""
    if "extends" not in source.data:
        return source
    named = source.data.pop("extends")
    place = source.places.pop(("extends",))
    if not isinstance(named, str):
        raise RecipeError(f"{place}: extends: names one file, not {named!r}")
    base_path = path.parent / named
    if not base_path.is_file():
        raise RecipeError(f"{place}: extends: there is no {base_path}", "the name is relative to the recipe")
    base = read_source(base_path)
    if "extends" in base.data:
        raise RecipeError(f"{place}: extends: {base_path} extends another file itself", "one level is allowed")
    base.data.pop("name", None)
    base.places.pop(("name",), None)
    _overlay(base, source.data, (), source.places)
    return Source(base.data, base.places, base.problems + source.problems)


def _overlay(base: Source, top: Mapping[str, Any], location: Location, places: Mapping[Location, str]) -> None:
    """Lay `top` over what `base` holds at `location`: mappings merge, anything else is replaced."""
    target = _at(base.data, location)
    for key, value in top.items():
        here = (*location, key)
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            base.places[here] = places[here]
            _overlay(base, value, here, places)
            continue
        _forget(base.places, here)
        target[key] = value
        base.places.update({place: text for place, text in places.items() if place[: len(here)] == here})


def _apply(override: str, source: Source) -> None:
    """Set one `key.path=value`; what is wrong with it joins the source's problems."""
    origin = f"--set {override}"
    dotted, equals, text = override.partition("=")
    location = _location(dotted)
    if not equals or not dotted or "" in location:
        source.problems.append(f"{origin}: must look like section.key=value")
        return
    value, problems = parse_value(text, origin)
    source.problems += problems
    try:
        parent = _at(source.data, location[:-1], create=True)
        parent[location[-1]] = value
    except (KeyError, IndexError, TypeError):
        source.problems.append(f"{origin}: there is nothing at {dotted} to set")
        return
    _forget(source.places, location)
    for length in range(1, len(location) + 1):  # sections that the override itself created were written by it
        source.places.setdefault(location[:length], origin)


def _location(dotted: str) -> Location:
    return tuple(int(part) if part.isdecimal() and len(part) < 9 else part for part in dotted.strip().split("."))


def _at(data: Any, location: Location, create: bool = False) -> Any:
    for part in location:
        if create and isinstance(part, str) and isinstance(data, dict) and data.get(part) is None:
            data[part] = {}
        data = data[part]
    return data


def _forget(places: dict[Location, str], location: Location) -> None:
    for place in [place for place in places if place[: len(location)] == location]:
        del places[place]
