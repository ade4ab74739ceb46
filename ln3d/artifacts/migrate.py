"""Old manifests become new ones: one numbered function per kind and step, applied on opening, never on disk."""

from collections.abc import Callable, Mapping
from typing import Any

from ln3d.artifacts.manifest import SCHEMA_VERSIONS
from ln3d.errors import ArtifactError

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: dict[str, dict[int, Migration]] = {}
"""kind -> {n: function that turns schema n into schema n + 1}."""


def migrate(
    document: dict[str, Any],
    versions: Mapping[str, int] = SCHEMA_VERSIONS,
    migrations: Mapping[str, Mapping[int, Migration]] = MIGRATIONS,
) -> dict[str, Any]:
    """Return a manifest document in the current schema of its kind; its id stays what it was.

    Raises ArtifactError for an unknown kind, a newer schema, or an older one that has no migration.
    """
    kind, version = str(document.get("kind")), document.get("schema_version")
    if kind not in versions:
        raise ArtifactError(f"unknown kind of artifact: {kind!r}", "it may come from a newer ln3d: upgrade this one")
    if not isinstance(version, int) or version > versions[kind]:
        raise ArtifactError(
            f"{kind} of schema {version!r}; this ln3d reads up to {versions[kind]}",
            "it was written by a newer ln3d: upgrade this one",
        )
    while version < versions[kind]:
        step = migrations.get(kind, {}).get(version)
        if step is None:
            raise ArtifactError(f"{kind} of schema {version} can no longer be read", "make it again with this ln3d")
        version += 1
        document = {**step(document), "schema_version": version}
    return document
