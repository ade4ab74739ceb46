"""Named tensors in safetensors files: no code in them, nothing guessed on loading."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ln3d.errors import ArtifactError

_METADATA_KEY = "ln3d"
_NAMED = 5


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` to `path`; equal input gives equal bytes. Tensors that share memory are written apart."""
    # One entry for all metadata: the library writes several in an order that differs from run to run.
    text = {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)} if metadata else None
    apart = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    save_file(apart, path, metadata=text)


def load_tensors(path: Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a file; ArtifactError where it is missing, cut short or no safetensors file."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def load_metadata(path: Path) -> dict[str, str]:
    """Return what was passed to `save_tensors` as metadata; ArtifactError like `load_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def load_into(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    what: str,
    *,
    whose: str = "its recipe",
    hint: str = "use the recipe it was made with",
) -> None:
    """Copy `tensors` into `module`, whose names and shapes must match exactly; values are cast to its dtypes.

    Otherwise the module stays as it was and an ArtifactError says, of `what`, which names do not fit `whose`.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    misshaped = [
        f"{name} {_shape(tensors[name])} instead of {_shape(value)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    groups = {"missing": missing, "unexpected": unexpected, "misshaped": misshaped}
    problems = [f"{len(names)} {label}: {_some(names)}" for label, names in groups.items() if names]
    if problems:
        raise ArtifactError(f"{what} does not fit {whose}; {'; '.join(problems)}", hint)
    module.load_state_dict(dict(tensors), strict=True)


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    if isinstance(error, FileNotFoundError):
        return ArtifactError(f"{path} does not exist")
    return ArtifactError(f"{path} is no whole safetensors file: {error}", "make the artifact again")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "scalar"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
