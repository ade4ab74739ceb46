"""A folder becomes an artifact by one rename: filled beside its place, hashed, flushed, sealed, moved."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import ln3d
from ln3d.artifacts.locks import hold
from ln3d.artifacts.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSIONS,
    FileEntry,
    InputRef,
    Manifest,
    check_file_name,
    manifest_id,
)
from ln3d.artifacts.opening import Artifact, Sealed, open_artifact, verify_file
from ln3d.artifacts.swap import flush_folder, lock_of, new_scratch, put_right, swap_in
from ln3d.errors import ArtifactError

__all__ = ["Artifact", "open_artifact", "publish", "verify_file"]


@contextmanager
def publish(
    path: Path,
    kind: str,
    *,
    recipe: BaseModel | Mapping[str, Any],
    inputs: Mapping[str, Sealed | InputRef] | None = None,
    details: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    name: str | None = None,
    replace: bool = False,
    keep: Path | None = None,
) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block ends without an error it has become the artifact `path`.

    `details` (read at the end, so the block may add to it) must hold no times, or equal runs get unequal ids.
    `replace` swaps an existing artifact of the same kind away; without it an existing one is an ArtifactError.
    `keep` is a folder of the caller's, beside `path`, used instead of a scratch folder and kept after an error,
    for work that is taken up again. `name` defaults to the recipe's, then to that of the folder.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(lock_of(path), str(path)):
        put_right(path)
        _check_target(path, kind, replace)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
        scratch = new_scratch(path) if keep is None else keep
        try:
            yield scratch
            plain = recipe.model_dump(mode="json") if isinstance(recipe, BaseModel) else dict(recipe)
            _seal(
                scratch,
                kind=kind,
                fingerprint=fingerprint,
                name=name or plain.get("name") or path.name,
                seed=plain.get("seed"),
                recipe=plain,
                inputs={key: _reference(value).model_dump() for key, value in (inputs or {}).items()},
                details=dict(details or {}),
            )
            swap_in(scratch, path)
        except BaseException:
            if keep is None:
                shutil.rmtree(scratch, ignore_errors=True)
            raise


def _check_target(path: Path, kind: str, replace: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise ArtifactError(f"{path} is a file, not a folder", "choose another place")
    if not any(path.iterdir()):
        return
    if not (path / MANIFEST_NAME).is_file():
        raise ArtifactError(f"{path} exists and is no artifact", "choose another place, or remove that folder")
    if not replace:
        raise ArtifactError(f"{path} exists already", "choose another place, or remove that folder")
    found = _kind_of(path / MANIFEST_NAME)
    if found not in (kind, None):
        raise ArtifactError(f"{path} holds {found}, which {kind} must not replace", "choose another place")


def _kind_of(manifest: Path) -> str | None:
    """Return the kind that a manifest states, None where it is too damaged to say."""
    try:
        document = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("kind") if isinstance(document, dict) else None


def _reference(value: Sealed | InputRef) -> InputRef:
    if isinstance(value, InputRef):
        return value
    return InputRef(kind=value.manifest.kind, id=value.manifest.id, name=value.manifest.name)


def _seal(folder: Path, *, kind: str, **content: Any) -> None:
    """Hash and flush every file, then write the manifest: the folder is whole from then on."""
    document = {
        "kind": kind,
        "schema_version": SCHEMA_VERSIONS[kind],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "ln3d_version": ln3d.__version__,
        "files": {name: entry.model_dump() for name, entry in _entries(folder).items()},
        **content,
    }
    document = json.loads(json.dumps(document, allow_nan=False))  # as it will be read: tuples are lists, keys text
    manifest = Manifest(id=manifest_id(document), **document)
    with open(folder / MANIFEST_NAME, "w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    for directory, _, _ in os.walk(folder):
        flush_folder(Path(directory))


def _entries(folder: Path) -> dict[str, FileEntry]:
    entries = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            raise ArtifactError(f"{name} is a link; an artifact holds plain files only")
        if file.is_file() and name != MANIFEST_NAME:
            check_file_name(name)
            entries[name] = _hash_and_flush(file)
    return entries


def _hash_and_flush(path: Path) -> FileEntry:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if os.name == "posix":  # elsewhere only descriptors open for writing can be flushed
            os.fsync(file.fileno())
        return FileEntry(bytes=os.fstat(file.fileno()).st_size, sha256=digest)
