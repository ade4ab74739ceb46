"""The manifest of an artifact: what it is, what it was made from, and the hash of every file in it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

MANIFEST_NAME = "manifest.json"

SCHEMA_VERSIONS: dict[str, int] = {
    "shards": 1,
    "vae": 1,
    "latents": 1,
    "denoiser": 1,
    "samples": 1,
    "meshes": 1,
    "report": 1,
    "reference": 1,
    "checkpoint": 1,
}
"""The schema of each kind that this program writes; older ones are migrated on opening."""

MADE_BY: dict[str, str] = {
    "shards": "ln3d render-dataset RECIPE",
    "vae": "ln3d train-vae RECIPE",
    "latents": "ln3d encode RECIPE",
    "denoiser": "ln3d train-diffusion RECIPE",
    "samples": "ln3d sample -o FOLDER",
    "meshes": "ln3d extract-mesh SAMPLES -o FOLDER",
    "report": "ln3d eval METRIC",
    "reference": "ln3d pack WORKSPACE -o FOLDER --reference",
    "checkpoint": "ln3d train-vae RECIPE or ln3d train-diffusion RECIPE",
}
"""The command that publishes each kind, for hints."""

_OUTSIDE_THE_ID = ("id", "created", "ln3d_version")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputRef(_Frozen):
    """An artifact that another one was made from."""

    kind: str
    id: str
    name: str


class FileEntry(_Frozen):
    """Size and hash of one file of an artifact."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Frozen):
    """Everything that is known of an artifact without reading its data."""

    kind: str
    schema_version: int
    id: str
    """sha256 over everything below except `created` and `ln3d_version`: equal content, equal id."""
    fingerprint: str
    """What the stage computed before it ran, so that it can say "up to date"; empty where it has none."""
    name: str
    created: str
    """ISO 8601, UTC."""
    ln3d_version: str
    seed: int | None
    recipe: dict[str, Any]
    inputs: dict[str, InputRef]
    files: dict[str, FileEntry]
    details: dict[str, Any]

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            check_file_name(name)
        return files


def check_file_name(name: str) -> None:
    """Raise ValueError unless `name` is a plain relative POSIX path that stays inside its folder."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    plain = name == str(posix) and "\\" not in name and "\0" not in name
    if not plain or posix.is_absolute() or windows.drive or ".." in posix.parts or name in (".", MANIFEST_NAME):
        raise ValueError(f"{name!r} is not a file name inside the artifact")


def canonical_json(value: object) -> str:
    """Return JSON that is equal for equal values: sorted keys, no spaces, models and paths as plain data.

    NaN and infinities raise ValueError, unknown types TypeError.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def fingerprint(*parts: object) -> str:
    """Return the sha256 of the canonical JSON of `parts`: recipe sections, input ids, options."""
    return hashlib.sha256(canonical_json(list(parts)).encode()).hexdigest()


def manifest_id(document: Mapping[str, Any]) -> str:
    """Return the id that belongs to a manifest's content (see `Manifest.id`)."""
    return fingerprint({key: value for key, value in document.items() if key not in _OUTSIDE_THE_ID})


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON")
