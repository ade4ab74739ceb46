"""What is in an artifact, kind by kind: counts, categories, shapes."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ln3d.artifacts.opening import Artifact, Sealed
from ln3d.errors import ArtifactError

_NAMED_TENSORS = 12
_INDEX_SUFFIX = ".index.json"


def contents(artifact: Sealed) -> dict[str, Any]:
    """Return what the files of an artifact hold, as plain data; {} where nothing is known of its kind.

    Tensors and metrics are told of where they lie on this machine. Raises ArtifactError where a file that should tell
    is damaged.
    """
    describe = _BY_KIND.get(artifact.manifest.kind)
    facts = dict(describe(artifact)) if describe is not None else {}
    if not isinstance(artifact, Artifact):
        return facts
    for name in artifact.manifest.files:
        if name.endswith(".safetensors"):
            facts.setdefault("tensors", {})[name] = tensor_facts(artifact.path / name)
    if "metrics.jsonl" in artifact.manifest.files:
        facts["last_metrics"] = _last_metrics(artifact.path / "metrics.jsonl")
    return facts


def tensor_facts(path: Path) -> dict[str, Any]:
    """Return count, parameters, types and, where they are few, names and shapes of a safetensors file's tensors.

    Raises ArtifactError where it is cut short or no safetensors file.
    """
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            shapes = {name: list(part.get_shape()) for name, part in slices.items()}
            types = Counter(str(part.get_dtype()) for part in slices.values())
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is no whole safetensors file: {error}", "make the artifact again") from error
    facts: dict[str, Any] = {"count": len(shapes), "types": dict(types), "parameters": sum(map(_size, shapes.values()))}
    if len(shapes) <= _NAMED_TENSORS:
        facts["shapes"] = shapes
    return facts


def _size(shape: Iterable[int]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _shards(artifact: Sealed) -> dict[str, Any]:
    catalogue = _document(artifact, "catalogue.json")
    objects, rejected = catalogue["objects"], catalogue["rejected"]
    sizes = _sizes(artifact)
    return {
        **_object_counts(objects),
        "views": catalogue["views"],
        "resolution": catalogue["resolution"],
        "shards": sum(name.endswith(".tar") for name in artifact.manifest.files),
        "bytes_per_object": round(sum(sizes.values()) / max(len(objects), 1)),
        "sizes": sizes,
        "rejected": len(rejected),
        "reasons": grouped_reasons(rejected),
    }


def grouped_reasons(rejected: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return why objects were rejected, alike reasons together, the most frequent first, each with an example.

    Reasons are alike that differ only in numbers, in what stands in brackets or quotes, and in the file they name.
    """
    groups: dict[str, list[str]] = {}
    for record in rejected:
        groups.setdefault(_alike(record["reason"]), []).append(record["source_id"])
    most_first = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [{"count": len(names), "reason": reason, "such_as": names[0]} for reason, names in most_first]


def _alike(reason: str) -> str:
    """Return a reason without what differs from object to object."""
    label, colon, rest = reason.partition(": ")
    general = rest if colon and re.search(r"[./\\]", label) else reason
    general = re.sub(r"\s*\([^()]*\)", "", general)
    general = re.sub(r"'[^']*'|\"[^\"]*\"", "...", general)
    return re.sub(r"\d[\d.,]*", "N", general).strip() or reason


def _sizes(artifact: Sealed) -> dict[str, int]:
    """Return the bytes of all pictures by what they show, and of everything else in the shards."""
    sizes: Counter[str] = Counter()
    for name in artifact.manifest.files:
        if not name.endswith(_INDEX_SUFFIX):
            continue
        for member, entry in _document(artifact, name).items():
            kind = member.split(".")[-2] if member.endswith(".png") else "records"
            sizes[kind] += int(entry[1])
    return dict(sorted(sizes.items()))


def _objects(artifact: Sealed) -> dict[str, Any]:
    return _object_counts(_document(artifact, "objects.json"))


def _samples(artifact: Sealed) -> dict[str, Any]:
    document = _document(artifact, "samples.json")
    return {name: document[name] for name in ("prompts", "seeds", "steps", "guidance") if name in document}


def _meshes(artifact: Sealed) -> dict[str, Any]:
    document = _document(artifact, "meshes.json")
    meshes = document["meshes"]
    return {
        "meshes": len(meshes),
        "watertight": sum(bool(mesh["watertight"]) for mesh in meshes),
        "faces": sum(mesh["faces"] for mesh in meshes),
        "prompts": dict(_counted(mesh.get("prompt") for mesh in meshes)),
        "rejected": len(document["rejected"]),
        "reasons": [f"sample {record['sample']}: {record['reason']}" for record in document["rejected"]],
    }


_BY_KIND: dict[str, Callable[[Sealed], Mapping[str, Any]]] = {
    "shards": _shards,
    "latents": _objects,
    "reference": _objects,
    "samples": _samples,
    "meshes": _meshes,
}


def _object_counts(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "objects": len(objects),
        "shapes": len({record["shape_id"] for record in objects}),
        "categories": dict(_counted(record["category"] for record in objects)),
        "splits": dict(_counted(record["split"] for record in objects)),
        "licences": dict(_counted(record["licence"] for record in objects)),
    }


def _counted(values: Iterable[str | None]) -> list[tuple[str, int]]:
    """Return how often each value is there, the most frequent first."""
    counts = Counter(value or "none" for value in values)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _document(artifact: Sealed, name: str) -> Any:
    try:
        return json.loads(artifact.verified(name))
    except ValueError as error:
        raise ArtifactError(f"{artifact.place(name)} is damaged: {error}", artifact.remedy) from error


def _last_metrics(path: Path) -> dict[str, Any]:
    """Return the latest value of every figure of a metrics file."""
    latest: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            latest.update(json.loads(line))
        except ValueError:
            continue  # the last line of a training that was killed
    return latest
