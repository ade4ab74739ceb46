"""Artifacts at an fsspec address, such as s3://bucket/shards: opened as strictly as a folder, read piece by piece."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ln3d.artifacts.addresses import exists, is_address, joined, listed, read_bytes
from ln3d.artifacts.manifest import MANIFEST_NAME, Manifest
from ln3d.artifacts.opening import Sealed, manifest_from, open_artifact
from ln3d.errors import ArtifactError

_REMEDY = "copy the whole folder there again, manifest.json last"


@dataclass(frozen=True)
class RemoteArtifact(Sealed):
    """An artifact that lies elsewhere. Its id is that of the folder it was copied from: lineage knows no places.

    It holds no connection, so that it can be sent to another process and used after a fork.
    """

    url: str

    @property
    def address(self) -> str:
        """The address of the folder."""
        return self.url

    @property
    def remedy(self) -> str:
        """To copy it again."""
        return _REMEDY

    def place(self, name: str) -> str:
        """Return the address of a file."""
        return joined(self.url, name)

    def verified(self, name: str) -> bytes:
        """Return the bytes of a file after checking its hash; ArtifactError where they are not what was written."""
        self.check_listed(name)
        data = read_bytes(self.url, name)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name].sha256:
            raise ArtifactError(f"{self.place(name)} is damaged: it is not the file that was published", _REMEDY)
        return data

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Return the bytes of a file from `start` to before `stop`, unchecked but for their number.

        Raises ArtifactError where they cannot be read, or are fewer, or the server knows whole files only.
        """
        self.check_listed(name)
        data = read_bytes(self.url, name, start, stop)
        if len(data) == stop - start:
            return data
        if len(data) == self.manifest.files[name].bytes:
            raise ArtifactError(
                f"{self.place(name)}: the server sends whole files and no pieces of them",
                "put simplecache:: before the address, which keeps the files on this machine, or choose another server",
            )
        raise ArtifactError(f"{self.place(name)} is damaged: {len(data)} bytes instead of {stop - start}", _REMEDY)


def open_at(place: str | Path, kind: str | None = None) -> Sealed:
    """Open the artifact in a folder of this machine or, where `place` names a protocol, at an fsspec address.

    Raises:
        RecipeError: the protocol is unknown, or its package is not installed.
        ArtifactError: there is no artifact of this kind, or it is damaged, as far as can be told without its data.
    """
    url = str(place)
    if not is_address(url):
        return open_artifact(place, kind)
    try:
        text = read_bytes(url, MANIFEST_NAME).decode()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{joined(url, MANIFEST_NAME)} cannot be read: {error}", _REMEDY) from None
    artifact = RemoteArtifact(manifest_from(text, url, kind), url)
    _check_sizes(url, artifact.manifest)
    return artifact


def _check_sizes(url: str, manifest: Manifest) -> None:
    """Raise ArtifactError where a file is missing or has another size, if the place can be listed."""
    found = listed(url, depth=1 + max((name.count("/") for name in manifest.files), default=0))
    if MANIFEST_NAME not in found:
        return
    for name, entry in manifest.files.items():
        if name not in found and not exists(url, name):  # a listing of the web may stop before its end
            raise ArtifactError(f"{joined(url, name)} is missing", _REMEDY)
        size = found.get(name)
        if size not in (None, entry.bytes):
            raise ArtifactError(f"{joined(url, name)} is damaged: {size} bytes instead of {entry.bytes}", _REMEDY)
