"""Artifacts at an fsspec URL, such as s3://bucket/shards: opened as strictly as a folder, and read piece by piece."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ln3d.artifacts.manifest import MANIFEST_NAME, Manifest
from ln3d.artifacts.opening import Artifact, make_again, manifest_from, open_artifact
from ln3d.errors import ArtifactError, RecipeError

_WHOLE = "copy the whole folder there, manifest.json last"


@dataclass(frozen=True)
class RemoteArtifact(Artifact):
    """An artifact that lies elsewhere: it has the same id, but no paths.

    It holds no connection, so that it can be sent to another process and used after a fork.
    """

    url: str = ""

    def file(self, name: str) -> Path:
        """Raise ArtifactError: there is no such path on this machine."""
        raise ArtifactError(f"{self.place(name)} is not on this machine", "copy the artifact into the workspace")

    def place(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self.url}/{name}"

    def verified(self, name: str) -> bytes:
        """Return the bytes of a file after checking its hash; ArtifactError where they are not what was written."""
        self._check_listed(name)
        data = self.read(name)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name].sha256:
            raise ArtifactError(f"{self.place(name)} is damaged: it is not the file that was published", _WHOLE)
        return data

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file from `start` to before `stop`, unchecked. Raises ArtifactError."""
        self._check_listed(name)
        return _bytes(self.url, name, start, stop)

    def _check_listed(self, name: str) -> None:
        if name not in self.manifest.files:
            raise ArtifactError(f"{self.url} has no file {name}", make_again(self.manifest.kind))


def open_at(place: str, kind: str) -> Artifact:
    """Open the artifact in a folder or, where `place` has a protocol, at an fsspec URL.

    Raises:
        RecipeError: the protocol is unknown, or its package is not installed.
        ArtifactError: there is no artifact of this kind, or it is damaged, as far as can be told without its data.
    """
    if "://" not in place:
        return open_artifact(place, kind)
    url = place.rstrip("/")
    try:
        text = _bytes(url, MANIFEST_NAME).decode()
    except UnicodeDecodeError:
        raise ArtifactError(f"{url}/{MANIFEST_NAME} is damaged", _WHOLE) from None
    artifact = RemoteArtifact(Path(url), manifest_from(text, url, kind), url)
    _check_sizes(url, artifact.manifest)
    return artifact


def _bytes(url: str, name: str, start: int = 0, stop: int | None = None) -> bytes:
    files, root = _file_system(url)
    try:
        if start or stop is not None:
            data = files.cat_file(f"{root}/{name}", start=start, end=stop)
        else:
            data = files.cat_file(f"{root}/{name}")
    except FileNotFoundError:
        raise ArtifactError(f"{url} has no {name}: no artifact, or not all of it is there", _WHOLE) from None
    except Exception as error:  # every protocol has errors of its own
        raise ArtifactError(f"{url}/{name} cannot be read ({_named(error)})", "try again; it goes on there") from error
    return bytes(data)


def _check_sizes(url: str, manifest: Manifest) -> None:
    """Raise ArtifactError where a file is missing or has another size, if the place can be listed."""
    files, root = _file_system(url)
    found: dict[str, Any] = {}
    with suppress(Exception):  # not every protocol and not everybody may list; what is read is checked all the same
        listed = files.find(root, detail=True)
        found = {path[len(root.rstrip("/")) + 1 :]: entry.get("size") for path, entry in listed.items()}
    if MANIFEST_NAME not in found:
        return
    for name, entry in manifest.files.items():
        if name not in found:
            raise ArtifactError(f"{url}/{name} is missing", _WHOLE)
        if found[name] not in (None, entry.bytes):
            raise ArtifactError(f"{url}/{name} is damaged: {found[name]} bytes instead of {entry.bytes}", _WHOLE)


def _file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of this process for a URL, and the path in it. Raises RecipeError."""
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    try:
        files, root = url_to_fs(url)
    except ImportError as error:
        known = known_implementations.get(url.partition("://")[0].rpartition("::")[2], {})
        package = str(known.get("class", "")).partition(".")[0]
        hint = f"pip install {package}" if package not in ("", "fsspec") else "install the package that it names"
        raise RecipeError(f"{url}: {_named(error)}", hint) from None
    except ValueError as error:
        raise RecipeError(f"{url}: {_named(error)}", "see fsspec's documentation for the protocols there are") from None
    except Exception as error:
        raise ArtifactError(f"{url} cannot be reached ({_named(error)})", "check the address and the keys") from error
    return files, str(root).rstrip("/")


def _named(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
