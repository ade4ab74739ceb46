"""What a glTF file refers to and claims to hold, looked at before anything else parses it."""

import base64
import binascii
import json
import struct
from typing import Any

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_claims
from ln3d.data.readers.sources import joined
from ln3d.data.readers.textures import check_image
from ln3d.errors import MeshError

_MAGIC, _JSON, _BINARY = b"glTF", 0x4E4F534A, 0x004E4942
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_DEEPEST = 1000  # nodes inside nodes; chains of bones have about a hundred
# Without these a file shows nothing, or something else; what else is required changes only how it shines.
_NOT_READ = ("compression", "draco", "meshopt", "basisu", "instancing")


def check(data: bytes, folder: str, limits: LimitsConfig, label: str) -> None:
    """Raise MeshError when a .gltf or .glb cannot be what it claims to be.

    That is: it is truncated, reaches outside its folder, embeds an absurd image, has accessors beyond its buffers or
    beyond `limits`, nodes that hold themselves, or needs an extension that is not read.
    """
    header, binary = _chunks(data, label)
    for kind in ("buffers", "images"):
        for item in _items(header, kind, label):
            uri = item.get("uri")
            if isinstance(uri, str) and not uri.startswith("data:"):
                joined(folder, uri, label)
    views = _items(header, "bufferViews", label)
    for image in _items(header, "images", label):
        embedded = _embedded(image, views, binary, label)
        if embedded is not None and image.get("mimeType") != "image/ktx2":
            check_image(embedded, limits, label)
    _check_extensions(header, label)
    _check_accessors(header, views, limits, label)
    _check_nodes(_items(header, "nodes", label), label)


def _chunks(data: bytes, label: str) -> tuple[dict[str, Any], bytes]:
    text, binary = data, b""
    if data[:4] == _MAGIC:
        length = struct.unpack_from("<I", data, 8)[0] if len(data) >= 12 else -1
        if length != len(data):
            raise MeshError(f"{label}: truncated ({len(data)} bytes of {length})", "Copy or download the file again.")
        found = dict(_glb_chunks(data))
        text, binary = found.get(_JSON, b""), found.get(_BINARY, b"")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise MeshError(f"{label}: not a glTF file, or a truncated one", "Export it again.") from None
    if not isinstance(header, dict):
        raise MeshError(f"{label}: not a glTF file", "Export it again.")
    return header, binary


def _glb_chunks(data: bytes) -> list[tuple[int, bytes]]:
    chunks, position = [], 12
    while position + 8 <= len(data):
        size, kind = struct.unpack_from("<II", data, position)
        chunks.append((kind, data[position + 8 : position + 8 + size]))
        position += 8 + size
    return chunks


def _items(header: dict[str, Any], kind: str, label: str) -> list[dict[str, Any]]:
    items = header.get(kind, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MeshError(f"{label}: a malformed {kind!r} list", "Export it again.")
    return items


def _embedded(image: dict[str, Any], views: list[dict[str, Any]], binary: bytes, label: str) -> bytes | None:
    uri = image.get("uri")
    if isinstance(uri, str) and uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition(",")[2], validate=True)
        except binascii.Error:
            raise MeshError(f"{label}: a damaged data: URI", "Export it again.") from None
    index = image.get("bufferView")
    if not isinstance(index, int) or not binary:
        return None
    if not 0 <= index < len(views):
        raise MeshError(f"{label}: an image in buffer view {index} of {len(views)}", "Export it again.")
    start, size = (_number(views[index], key, label) for key in ("byteOffset", "byteLength"))
    return binary[start : start + size]


def _number(item: dict[str, Any], key: str, label: str) -> int:
    """Return a whole number that is 0 where it is not given."""
    value = item.get(key, 0)
    if not isinstance(value, int) or value < 0:
        raise MeshError(f"{label}: {key} is {str(value)[:40]}", "The file is damaged; export it again.")
    return value


def _check_extensions(header: dict[str, Any], label: str) -> None:
    required = header.get("extensionsRequired", [])
    for name in required if isinstance(required, list) else []:
        if any(word in str(name).lower() for word in _NOT_READ):
            raise MeshError(f"{label}: needs the extension {name}, which is not read", "Export it without compression.")


def _check_accessors(header: dict[str, Any], views: list[dict[str, Any]], limits: LimitsConfig, label: str) -> None:
    buffers = len(_items(header, "buffers", label))
    for view in views:
        buffer = _number(view, "buffer", label)
        if buffer >= buffers:
            raise MeshError(f"{label}: a buffer view of buffer {buffer} of {buffers}", "Export it again.")
        _number(view, "byteOffset", label), _number(view, "byteLength", label)
    for accessor in _items(header, "accessors", label):
        _check_accessor(accessor, views, limits, label)


def _check_accessor(accessor: dict[str, Any], views: list[dict[str, Any]], limits: LimitsConfig, label: str) -> None:
    count = _number(accessor, "count", label)
    kind, component = accessor.get("type"), accessor.get("componentType")
    if kind not in _COMPONENTS or component not in _COMPONENT_BYTES:
        raise MeshError(f"{label}: an accessor of type {kind!r}, {component!r}", "Export it again.")
    if kind == "SCALAR":
        check_claims(0, count // 3, limits, label)
    else:
        check_claims(count, 0, limits, label)
    if "bufferView" not in accessor or count == 0:
        return
    index = _number(accessor, "bufferView", label)
    if index >= len(views):
        raise MeshError(f"{label}: an accessor in buffer view {index} of {len(views)}", "Export it again.")
    item = _COMPONENTS[kind] * _COMPONENT_BYTES[component]
    stride = _number(views[index], "byteStride", label)
    if stride and stride < item:
        raise MeshError(f"{label}: items of {item} bytes, {stride} bytes apart", "Export it again.")
    end = _number(accessor, "byteOffset", label) + (count - 1) * (stride or item) + item
    size = _number(views[index], "byteLength", label)
    if end > size:
        raise MeshError(f"{label}: an accessor that ends at byte {end} of {size}", "Export it again.")


def _check_nodes(nodes: list[dict[str, Any]], label: str) -> None:
    """Raise MeshError where a node holds itself, one that is not there, or others nested absurdly deep."""
    held = [node.get("children", []) for node in nodes]
    waits = [0] * len(nodes)
    for children in held:
        for child in children if isinstance(children, list) else [None]:
            if not isinstance(child, int) or not 0 <= child < len(nodes):
                raise MeshError(f"{label}: a node holds node {str(child)[:40]} of {len(nodes)}", "Export it again.")
            waits[child] += 1
    level, placed, depth = [number for number, waiting in enumerate(waits) if not waiting], 0, 0
    while level:  # layer by layer from the roots: what holds itself never gets its turn
        placed, depth = placed + len(level), depth + 1
        below = []
        for number in level:
            for child in held[number]:
                waits[child] -= 1
                if not waits[child]:
                    below.append(child)
        level = below
    if placed < len(nodes):
        raise MeshError(f"{label}: a node that holds itself", "The file is damaged; export it again.")
    if depth > _DEEPEST:
        raise MeshError(f"{label}: nodes nested {depth} deep, more than {_DEEPEST}", "Flatten the scene.")
