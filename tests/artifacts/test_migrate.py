from typing import Any

import pytest

from ln3d.artifacts.manifest import SCHEMA_VERSIONS
from ln3d.artifacts.migrate import MIGRATIONS, migrate
from ln3d.errors import ArtifactError


def rename_level(document: dict[str, Any]) -> dict[str, Any]:
    details = dict(document["details"])
    details["iso"] = details.pop("level")
    return {**document, "details": details}


def double_iso(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "details": {"iso": 2 * document["details"]["iso"]}}


def test_steps_run_in_order_and_keep_the_id() -> None:
    old = {"kind": "vae", "schema_version": 1, "id": "abc", "details": {"level": 3}}
    new = migrate(old, {"vae": 3}, {"vae": {1: rename_level, 2: double_iso}})
    assert new == {"kind": "vae", "schema_version": 3, "id": "abc", "details": {"iso": 6}}
    assert old["details"] == {"level": 3}


def test_the_current_schema_is_left_alone() -> None:
    document = {"kind": "vae", "schema_version": SCHEMA_VERSIONS["vae"]}
    assert migrate(document) is document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kind": "vae", "schema_version": 99}, "reads up to"),
        ({"kind": "vae", "schema_version": "1"}, "reads up to"),
        ({"kind": "vae", "schema_version": 0}, "no longer"),
        ({"kind": "cake", "schema_version": 1}, "unknown kind"),
        ({}, "unknown kind"),
    ],
)
def test_what_cannot_be_read_is_said(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        migrate(document)
    assert caught.value.hint


def test_every_old_schema_has_its_migration() -> None:
    for kind, version in SCHEMA_VERSIONS.items():
        assert set(MIGRATIONS.get(kind, {})) == set(range(1, version))
