"""What pydantic found wrong, said in one line each: where, which key, what, and what was probably meant."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ln3d.config.source import Location, Source


def describe(error: ValidationError, model: type[BaseModel], source: Source, origin: str) -> list[str]:
    """Return one line per problem of `error`; `origin` stands for the place of what was not written."""
    return [_line(problem, model, source, origin) for problem in error.errors()]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return '; did you mean X?' for the nearest known word, or the list of all where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"


def section_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the section class that lies at `location` of `model`, None where there is none."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if not isinstance(part, str) or part not in current.model_fields:
                return None
            current = current.model_fields[part].annotation
        else:
            current = next((a for a in get_args(current) if isinstance(a, type) and issubclass(a, BaseModel)), None)
        if current is None:
            return None
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _line(problem: ErrorDetails, model: type[BaseModel], source: Source, origin: str) -> str:
    location = tuple(problem["loc"])
    place = source.place(location, origin)
    return f"{place}: {'.'.join(map(str, location)) or 'recipe'}: {_message(problem, model, location)}"


def _message(problem: ErrorDetails, model: type[BaseModel], location: Location) -> str:
    given, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            section = section_at(model, location[:-1])
            return "unknown key" + (did_you_mean(str(location[-1]), list(section.model_fields)) if section else "")
        case "missing":
            return "is required"
        case "literal_error":
            choices = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"{given!r} is not one of {', '.join(choices)}" + _near(str(given), choices)
        case "value_error":
            return str(context["error"])
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a section with keys of its own, not {given!r}"
        case "tuple_type" | "list_type":
            return f"must be a list, as in [1, 2], not {given!r}"
        case _:
            return f"{problem['msg'].removeprefix('Input ')}, not {given!r}"


def _near(word: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
