"""YAML text as plain data that remembers where every key stood.

The dialect is YAML 1.2's core, cut down: `no` is a word, `1e-3` a number, and there are no tags, anchors or merges.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ln3d.errors import RecipeError

Location = tuple[str | int, ...]


@dataclass
class Source:
    """Nested dicts, lists and scalars; `places` says for each key or list entry where it was written (file:line)."""

    data: dict[str, Any]
    places: dict[Location, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, location: Location, default: str) -> str:
        """Return the place of `location`, or of the nearest thing around it that was written."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return default


class _CoreLoader(yaml.SafeLoader):
    """The safe loader with the core schema's scalars and without aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


_DIGITS = list("-+0123456789.")
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), ["t", "f"])
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), _DIGITS)
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"),
    _DIGITS,
)


def read_source(path: Path) -> Source:
    """Read a YAML file whose top level is a mapping; RecipeError where it cannot be read or is no YAML.

    Duplicate and non-text keys are collected in `problems`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe {path}", "recipes are YAML files, as in recipes/") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read {path}: {error}", "a recipe is a YAML file in UTF-8") from error
    source = Source({})
    data = _parse(text, str(path), source)
    if data is not None and not isinstance(data, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of sections, not {_noun(data)}")
    source.data = data or {}
    return source


def parse_value(text: str, origin: str) -> tuple[Any, list[str]]:
    """Return the value of one YAML expression, and the problems in it; RecipeError where it is no YAML."""
    source = Source({})
    return _parse(text, origin, source), source.problems


def _parse(text: str, origin: str, source: Source) -> Any:
    try:
        loader = _CoreLoader(text)
        node = loader.get_single_node()
        return None if node is None else _build(loader, node, (), origin, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{origin}{line}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise RecipeError(f"{origin}: {error.reason}: #x{error.character:04x}") from error
    except ValueError as error:  # a number of thousands of digits
        raise RecipeError(f"{origin}: {error}") from error
    except RecursionError:
        raise RecipeError(f"{origin}: nested too deeply") from None


def _build(loader: _CoreLoader, node: yaml.Node, location: Location, origin: str, source: Source) -> Any:
    if isinstance(node, yaml.SequenceNode):
        entries = []
        for index, child in enumerate(node.value):
            source.places[(*location, index)] = f"{origin}:{child.start_mark.line + 1}"
            entries.append(_build(loader, child, (*location, index), origin, source))
        return entries
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    mapping: dict[str, Any] = {}
    for key_node, child in node.value:
        place = f"{origin}:{key_node.start_mark.line + 1}"
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
            source.problems.append(f"{place}: a key must be a word")
            continue
        if key in mapping:
            first = source.places[(*location, key)]
            source.problems.append(f"{place}: {'.'.join(map(str, (*location, key)))} is given twice (first at {first})")
            continue
        source.places[(*location, key)] = place
        mapping[key] = _build(loader, child, (*location, key), origin, source)
    return mapping


def _noun(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"
