"""What a glTF file refers to, looked at before anything else parses it."""

import base64
import binascii
import json
import struct
from typing import Any

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.sources import joined
from ln3d.data.readers.textures import check_image
from ln3d.errors import MeshError

_MAGIC, _JSON, _BINARY = b"glTF", 0x4E4F534A, 0x004E4942


def check(data: bytes, folder: str, limits: LimitsConfig, label: str) -> None:
    """Raise MeshError when a .gltf or .glb is truncated, reaches outside its folder or embeds an absurd image."""
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
    start, size = int(views[index].get("byteOffset", 0)), int(views[index].get("byteLength", 0))
    return binary[start : start + size]
