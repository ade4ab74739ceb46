"""The reference recipe: every key with its meaning, its range and its default, written from the classes themselves.

`python -m ln3d.config.schema > recipes/reference.yaml` brings the file up to date.
"""

import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ln3d.config.recipe import Recipe

_WIDTH = 110
_HEADER = (
    "Every key of a recipe with its meaning, its range and its default.",
    "Written by `python -m ln3d.config.schema`. A recipe states only what differs from the defaults, or, if it starts "
    "with `extends: other.yaml` (a file beside it), from that recipe: sections merge, lists are replaced. "
    "On the command line `--set vae.decoder.depth=12` changes one value; it may be repeated.",
)
_BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def reference_yaml() -> str:
    """Return the commented recipe in which every key has its default; loading it gives the defaults."""
    recipe = Recipe(name="reference")
    header = [line for part in _HEADER for line in _comment(part, "")]
    return "\n".join([*header, "", *_section(recipe, "")]) + "\n"


def _section(section: BaseModel, indent: str) -> Iterator[str]:
    for number, (name, field) in enumerate(type(section).model_fields.items()):
        value = getattr(section, name)
        if number and isinstance(value, BaseModel) and not indent:
            yield ""
        yield from _comment(_meaning(field, value), indent)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _section(value, indent + "  ")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield f"{indent}{name}:"
            for entry in value:
                yield from _list_entry(entry, indent + "  ")
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _list_entry(entry: BaseModel, indent: str) -> Iterator[str]:
    yield f"{indent}-"
    yield from _section(entry, indent + "  ")


def _meaning(field: FieldInfo, value: object) -> str:
    text = field.description or (type(value).__doc__ if isinstance(value, BaseModel) else None) or ""
    bounds = [
        f"{_BOUNDS[type(m)][0]} {getattr(m, _BOUNDS[type(m)][1]):g}" for m in field.metadata if type(m) in _BOUNDS
    ]
    notes = [*_choices(field.annotation, text), *([" and ".join(bounds)] if bounds else [])]
    return f"{text.rstrip()} ({'; '.join(notes)})" if notes else text


def _choices(annotation: Any, text: str) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        choices = [str(choice) for choice in get_args(annotation)]
        if not all(f"`{choice}`" in text for choice in choices):
            yield " | ".join(choices)
    elif type(None) in get_args(annotation) and "null" not in text:
        yield "or null"


def _scalar(value: object) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def _comment(text: str, indent: str) -> list[str]:
    lines = textwrap.wrap(" ".join(text.split()), _WIDTH - len(indent))
    return [f"{indent}# {line}" for line in lines]


if __name__ == "__main__":
    sys.stdout.write(reference_yaml())
