"""`inspect`: what an artifact, a workspace, a tensor or a mesh file is, where it came from, what is in it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ln3d.artifacts.addresses import is_address
from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import Artifact, Sealed, open_artifact, verify_file
from ln3d.artifacts.remote import open_at
from ln3d.config.render import LimitsConfig
from ln3d.data.readers.mesh import READERS, Scene, read_scene
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, LN3DError, RecipeError
from ln3d.export.components import mesh_report
from ln3d.export.mesh import Mesh
from ln3d.stages.artifact_contents import contents, tensor_facts
from ln3d.stages.shard_check import chosen_objects, figures, measure, write_sheet
from ln3d.talk import Talk

_PARTIAL = ".partial"


def run(place: Path | str, talk: Talk, *, output: Path | None = None, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is at `place`, as plain data; `describe` turns it into text.

    An artifact comes with its lineage and the hashes of all its files checked; one at an fsspec address with those of
    the files that are read whole, which shards are not, and with the number of the others. A folder of artifacts (a
    workspace, the checkpoints of a training) comes with a line on each, whole or not. Shards come with how well their
    views agree, of some objects of every category or of those that `only` names; `output` is a PNG that shows it.

    Raises:
        RecipeError: `output` or `only` for what are no shards, another suffix, no such object, an unknown protocol.
        ArtifactError: there is nothing, or nothing known, or the artifact or tensor file is damaged.
        MeshError: the mesh file is broken or unsafe.
    """
    if output is not None and output.suffix.lower() != ".png":
        raise RecipeError(f"{output} is no picture", "name a .png file")
    if is_address(str(place)):
        return _artifact(open_at(place), talk, output, only)
    path = Path(place)
    if path.is_dir() and (path / MANIFEST_NAME).exists():
        return _artifact(open_artifact(path), talk, output, only)
    if output is not None or only:
        raise RecipeError(f"{path} holds no shards to draw", "-o and --only are for a folder of shards")
    if path.is_dir():
        if _children(path):
            return _workspace(path)
        raise ArtifactError(f"{path} holds no artifact", "name an artifact, a workspace or a mesh file")
    if not path.exists():
        raise ArtifactError(f"there is no {path}", "name an artifact, a workspace or a mesh file")
    if path.suffix.lower() in READERS:
        return {"path": str(path), "what": "mesh", **_mesh_facts(read_scene(path, LimitsConfig()))}
    if path.suffix.lower() == ".safetensors":
        return {"path": str(path), "what": "tensors", **tensor_facts(path)}
    readable = ", ".join(sorted([*READERS, ".safetensors"]))
    raise ArtifactError(f"{path} is nothing that ln3d knows", f"name an artifact, a workspace or a file: {readable}")


def describe(facts: Mapping[str, Any], indent: int = 0) -> str:
    """Return facts as text, one line per value, deeper ones indented."""
    lines = []
    for name, value in facts.items():
        label = "  " * indent + name.replace("_", " ")
        if isinstance(value, Mapping) and value and not _is_flat(value):
            lines += [label, describe(value, indent + 1)]
        elif isinstance(value, list) and any(isinstance(item, (Mapping, str)) for item in value):
            lines.append(label)
            lines += ["  " * (indent + 1) + (_flat(i) if isinstance(i, Mapping) else str(i)) for i in value]
        elif value not in (None, {}, []):
            lines.append(f"{label}  {_flat(value) if isinstance(value, Mapping) else _word(value)}")
    return "\n".join(lines)


def _artifact(artifact: Sealed, talk: Talk, output: Path | None, only: Sequence[str]) -> dict[str, Any]:
    shards = artifact.manifest.kind == "shards"
    if not shards and (output is not None or only):
        raise RecipeError(
            f"{artifact.address} holds {artifact.manifest.kind}, no shards", "-o and --only are for shards"
        )
    files = artifact.manifest.files
    verified = _verify(artifact, talk)
    facts = _summary(artifact)
    facts["inputs"] = {role: _origin(artifact, role) for role in artifact.manifest.inputs}
    facts["contents"] = contents(artifact)
    if shards:
        facts["cameras"] = _cameras(ShardSet(artifact), talk, output, only)
    facts["details"] = artifact.manifest.details
    facts["files"] = {name: entry.bytes for name, entry in files.items()}
    facts["verified"] = verified == len(files)
    facts["files_not_verified"] = len(files) - verified or None
    return facts


def _verify(artifact: Sealed, talk: Talk) -> int:
    """Check the hashes of an artifact's files, of one that lies elsewhere only those of JSON; return how many."""
    names = [name for name in artifact.manifest.files if isinstance(artifact, Artifact) or name.endswith(".json")]
    with talk.progress("verify", len(names)) as progress:
        for name in names:
            if isinstance(artifact, Artifact):
                verify_file(artifact, name)
            else:
                artifact.verified(name)
            progress.advance()
    return len(names)


def _cameras(shards: ShardSet, talk: Talk, output: Path | None, only: Sequence[str]) -> dict[str, Any]:
    """Return how well the views of shards agree, and draw it where `output` says."""
    clouds = measure(shards, chosen_objects(shards, only), talk)
    if output is not None and clouds:
        write_sheet(shards, clouds, output, every=bool(only))
        talk.say(f"wrote {output}")
    facts = figures(shards, clouds)
    shards.close()
    return facts


def _summary(artifact: Sealed) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "path": artifact.address,
        "what": "artifact",
        "kind": manifest.kind,
        "name": manifest.name,
        "id": manifest.id,
        "schema_version": manifest.schema_version,
        "created": manifest.created,
        "ln3d_version": manifest.ln3d_version,
        "seed": manifest.seed,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
    }


def _origin(artifact: Sealed, role: str) -> dict[str, Any]:
    """Return an input's kind, id and name, and whether the workspace around the artifact holds just that one."""
    reference = artifact.manifest.inputs[role]
    beside = artifact.path.parent / reference.kind if isinstance(artifact, Artifact) else None
    state = "not here"
    if beside is not None and (beside / MANIFEST_NAME).is_file():
        try:
            state = "beside it" if open_artifact(beside).id == reference.id else "another one is beside it"
        except LN3DError:
            state = "damaged, beside it"
    return {"kind": reference.kind, "name": reference.name, "id": reference.id, "state": state}


def _children(path: Path) -> list[Path]:
    return sorted(
        child
        for child in path.iterdir()
        if child.is_dir()
        and not child.name.startswith(".")
        and ((child / MANIFEST_NAME).exists() or child.suffix == _PARTIAL)
    )


def _workspace(path: Path) -> dict[str, Any]:
    artifacts, unfinished = [], []
    for child in _children(path):
        if child.suffix == _PARTIAL:
            unfinished.append({"name": child.name, "sealed": [inner.name for inner in _children(child)]})
            continue
        try:
            artifact = open_artifact(child)
        except LN3DError as error:
            artifacts.append({"name": child.name, "problem": error.message})
        else:
            artifacts.append(_line(child.name, artifact))
    return {"path": str(path), "what": "workspace", "artifacts": artifacts, "unfinished": unfinished}


def _line(name: str, artifact: Artifact) -> dict[str, Any]:
    whole = _summary(artifact)
    line = {"name": name, **{key: whole[key] for key in ("kind", "id", "created", "bytes")}}
    astray = [
        role
        for role in artifact.manifest.inputs
        if _origin(artifact, role)["state"] in ("another one is beside it", "damaged, beside it")
    ]
    return {**line, "problem": f"made from another {', '.join(astray)} than is here"} if astray else line


def _mesh_facts(scene: Scene) -> dict[str, Any]:
    starts = np.cumsum([0, *(len(part.vertices) for part in scene.parts)])
    faces = [part.faces + start for part, start in zip(scene.parts, starts, strict=False)]
    report = mesh_report(Mesh(np.concatenate([part.vertices for part in scene.parts]), np.concatenate(faces)))
    low, high = scene.bounds
    return {
        "parts": len(scene.parts),
        "vertices": report.vertices,
        "faces": report.faces,
        "components": report.components,
        "watertight": report.watertight,
        "volume": report.volume if report.watertight else None,
        "lowest": [round(float(value), 4) for value in low],
        "highest": [round(float(value), 4) for value in high],
        "textures": sum(part.texture is not None for part in scene.parts),
        "vertex_colours": any(part.colours is not None for part in scene.parts),
    }


def _is_flat(value: Mapping[str, Any]) -> bool:
    plain = not any(isinstance(item, (Mapping, list)) for item in value.values())
    return plain and len(_flat(value)) <= 100


def _flat(value: Mapping[str, Any]) -> str:
    return "  ".join(f"{key.replace('_', ' ')} {_word(item)}" for key, item in value.items() if item is not None)


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)
