"""Artifacts are opened strictly: what is missing, half-written, damaged or of another kind is a named error."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ln3d.artifacts.manifest import MADE_BY, MANIFEST_NAME, Manifest, manifest_id
from ln3d.artifacts.migrate import migrate
from ln3d.artifacts.swap import recover
from ln3d.errors import ArtifactError


@dataclass(frozen=True)
class Sealed(ABC):
    """An artifact, wherever it lies: what its manifest says, and its files, of which none is believed unchecked."""

    manifest: Manifest

    @property
    def id(self) -> str:
        """The id that lineage refers to."""
        return self.manifest.id

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it lies, for messages."""

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to do where a file of it is damaged, for hints."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Return where a file lies, for messages."""

    @abstractmethod
    def verified(self, name: str) -> bytes:
        """Return the bytes of a file after checking its hash; ArtifactError where they are not what was written."""

    def check_listed(self, name: str) -> None:
        """Raise ArtifactError for a file that the manifest does not list."""
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.address} has no file {name}", make_again(self.manifest.kind))


@dataclass(frozen=True)
class Artifact(Sealed):
    """An artifact in a folder of this machine."""

    path: Path

    @property
    def address(self) -> str:
        """The path of the folder."""
        return str(self.path)

    @property
    def remedy(self) -> str:
        """The command that makes it again."""
        return make_again(self.manifest.kind)

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest lists; ArtifactError for any other."""
        self.check_listed(name)
        return self.path / name

    def place(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.path / name)

    def verified(self, name: str) -> bytes:
        """Return the bytes of a file after checking its hash; ArtifactError where they are not what was written."""
        path = self.file(name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _unreadable(self, path, error) from error
        _check_hash(self, name, hashlib.sha256(data).hexdigest())
        return data


def open_artifact(path: Path | str, kind: str | None = None, *, verify: Iterable[str] | bool = ()) -> Artifact:
    """Open the artifact in the folder `path`: its manifest must be whole and every file there in full length.

    `verify` names the files whose hash is checked now (True for all). Raises ArtifactError, with the command that
    helps, where the folder is missing, half-written, of another kind, of a newer schema, changed or damaged.
    """
    path = Path(os.path.abspath(path))
    recover(path)
    artifact = Artifact(manifest_from(_manifest_text(path, kind), str(path), kind), path)
    for name, entry in artifact.manifest.files.items():
        _check_size(artifact, name, entry.bytes)
    for name in artifact.manifest.files if verify is True else verify or ():
        verify_file(artifact, name)
    return artifact


def verify_file(artifact: Artifact, name: str) -> Path:
    """Return the path of a file after checking its hash; ArtifactError where a byte is not what was written."""
    path = artifact.file(name)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(artifact, path, error) from error
    _check_hash(artifact, name, digest)
    return path


def make_again(kind: str | None) -> str:
    """Return the hint that names the command which makes `kind`."""
    return f"make it with: {MADE_BY[kind]}" if kind in MADE_BY else "make it again"


def manifest_from(text: str, folder: str, kind: str | None) -> Manifest:
    """Return the manifest in the text of `<folder>/manifest.json`.

    Raises ArtifactError where it is damaged, was changed, or is of another kind or a newer schema.
    """
    place = f"{folder}/{MANIFEST_NAME}"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{place} is cut short or damaged: {error}", make_again(kind)) from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{place} is no manifest", make_again(kind))
    if kind is not None and document.get("kind") != kind:
        raise ArtifactError(f"{folder} holds {document.get('kind')}, not {kind}", make_again(kind))
    return _checked(place, document)


def _manifest_text(path: Path, kind: str | None) -> str:
    if not path.exists():
        raise ArtifactError(f"{path} does not exist", make_again(kind))
    if not path.is_dir():
        raise ArtifactError(f"{path} is a file; an artifact is a folder", make_again(kind))
    try:
        return (path / MANIFEST_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        inner = sorted(child.parent.name for child in path.glob(f"*/{MANIFEST_NAME}"))
        if inner:
            raise ArtifactError(
                f"{path} is no artifact, but holds some", f"name one: {', '.join(str(path / i) for i in inner)}"
            ) from None
        raise ArtifactError(f"{path} has no {MANIFEST_NAME}: half-written, or no artifact", make_again(kind)) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path / MANIFEST_NAME} cannot be read: {error}", make_again(kind)) from error


def _checked(place: str, document: dict[str, Any]) -> Manifest:
    kind = document.get("kind")
    current = migrate(document)
    if document.get("id") != manifest_id(document):
        raise ArtifactError(f"{place} was changed after it was published", make_again(kind))
    try:
        return Manifest.model_validate(current)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{place}: {key}: {first['msg']}", make_again(kind)) from error


def _check_hash(artifact: Artifact, name: str, digest: str) -> None:
    if digest != artifact.manifest.files[name].sha256:
        raise ArtifactError(
            f"{artifact.path / name} is damaged: it is not the file that was published",
            make_again(artifact.manifest.kind),
        )


def _unreadable(artifact: Artifact, path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(f"cannot read {path}: {error.strerror}", make_again(artifact.manifest.kind))


def _check_size(artifact: Artifact, name: str, size: int) -> None:
    path, kind = artifact.path / name, artifact.manifest.kind
    if not path.resolve().is_relative_to(artifact.path.resolve()):
        raise ArtifactError(f"{path} leads outside the artifact", make_again(kind))
    if not path.is_file():
        raise ArtifactError(f"{path} is missing", make_again(kind))
    if path.stat().st_size != size:
        raise ArtifactError(f"{path} is damaged: {path.stat().st_size} bytes instead of {size}", make_again(kind))
