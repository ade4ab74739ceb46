"""Trainings that begin with the weights of another one."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.tensors import load_into, load_tensors

_WEIGHTS = "weights.safetensors"


def open_start(path: Path | None, kind: str) -> Artifact | None:
    """Return the artifact of this kind at `path`, or the one in the workspace or pack `path`; None without a path.

    Raises ArtifactError where there is none, or its weights are damaged.
    """
    if path is None:
        return None
    inside = path / kind
    return open_artifact(inside if (inside / MANIFEST_NAME).is_file() else path, kind, verify=[_WEIGHTS])


def start_from(networks: nn.Module, start: Artifact | None) -> None:
    """Copy the weights of `start`, where there is one, into `networks`; half precision becomes theirs.

    Raises ArtifactError, naming the first few, where names or shapes do not fit.
    """
    if start is not None:
        _load(networks, load_tensors(start.file(_WEIGHTS)), f"{start.path}, to start from,")


def take_parts(networks: nn.Module, parts: Sequence[str], start: Artifact) -> None:
    """Copy the weights of these sub-networks of `start` into those of `networks`; the others stay as they are.

    Raises ArtifactError as `start_from`.
    """
    tensors = load_tensors(start.file(_WEIGHTS))
    for part in parts:
        own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
        _load(networks.get_submodule(part), own, f"the {part} of {start.path}")


def _load(network: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    hint = "state the sizes of its recipe (see its manifest.json), or train without --init-from"
    load_into(network, tensors, what, whose="this recipe", hint=hint)
