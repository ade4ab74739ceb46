import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ln3d.artifacts.manifest import (
    MADE_BY,
    SCHEMA_VERSIONS,
    Manifest,
    canonical_json,
    check_file_name,
    fingerprint,
    manifest_id,
)
from ln3d.config.recipe import Recipe

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DOCUMENT = {
    "kind": "vae",
    "schema_version": 1,
    "fingerprint": "",
    "name": "x",
    "created": "2000-01-01T00:00:00+00:00",
    "ln3d_version": "0",
    "seed": 0,
    "recipe": {},
    "inputs": {},
    "files": {},
    "details": {},
}


@given(PLAIN)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once


@given(st.dictionaries(st.text(), st.integers(), max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_fingerprint_sees_models_paths_and_sets_as_plain_data() -> None:
    recipe = Recipe(name="x")
    assert fingerprint(recipe) == fingerprint(recipe.model_dump(mode="json"))
    assert fingerprint(Path("a/b"), {"y", "x"}, (1, 2)) == fingerprint("a/b", ["x", "y"], [1, 2])
    assert fingerprint("a", "b") != fingerprint("ab") != fingerprint(["a", "b"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_fingerprint_refuses_what_json_does_not_have(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        fingerprint(value)


def test_the_id_covers_everything_but_time_and_version() -> None:
    original = manifest_id(DOCUMENT)
    for key in DOCUMENT:
        changed = manifest_id({**DOCUMENT, key: "other"})
        assert (changed == original) == (key in ("created", "ln3d_version")), key
    assert manifest_id({**DOCUMENT, "id": original}) == original


@pytest.mark.parametrize("name", ["a", "a/b.tar", "shard-00000.index.json", "..a/b..", ".hidden"])
def test_plain_names_are_files_of_the_artifact(name: str) -> None:
    check_file_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/", "C:x", "a\\b", "a\0b", "manifest.json"],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a file name inside"):
        check_file_name(name)
    with pytest.raises(ValidationError):
        Manifest(id="", **{**DOCUMENT, "files": {name: {"bytes": 0, "sha256": "0" * 64}}})


def test_every_kind_has_a_schema_and_a_command() -> None:
    assert SCHEMA_VERSIONS.keys() == MADE_BY.keys()
