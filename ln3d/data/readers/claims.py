"""How much an OBJ, OFF, PLY or STL file claims to hold, looked at before anything of that size is reserved."""

import re
import struct
from collections.abc import Callable
from typing import NoReturn

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_claims
from ln3d.errors import MeshError

_LONGEST_HEADER = 1 << 16
_STL_HEADER, _STL_FACE = 84, 50
_PLY_BYTES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8}
_PLY_BYTES |= {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8}
_OBJ_FROM_ZERO = re.compile(rb"^f[ \t](?:[^\n#]*[ \t])?0+(?=[/ \t\r\n]|\Z)", re.MULTILINE)


def check(data: bytes, kind: str, limits: LimitsConfig, label: str) -> None:
    """Raise MeshError when a file of `kind` (obj, off, ply, stl) claims more than `limits` or than its bytes can hold.

    Other kinds pass.
    """
    known = CHECKS.get(kind)
    if known is not None:
        known(data, limits, label)


def _check_obj(data: bytes, limits: LimitsConfig, label: str) -> None:
    vertices, faces = (data.count(b"\n" + key) + data.startswith(key) for key in (b"v ", b"f "))
    check_claims(vertices, faces, limits, label)
    if _OBJ_FROM_ZERO.search(data):
        raise MeshError(f"{label}: a face refers to vertex 0, and OBJ counts from 1", "Export it again.")


def _check_off(data: bytes, limits: LimitsConfig, label: str) -> None:
    lines = [line for line in (row.split(b"#")[0].strip() for row in data.splitlines()) if line]
    start = lines[0].partition(b"OFF") if lines else (b"", b"", b"")
    if not start[1]:
        raise MeshError(f"{label}: not an OFF file", "The first line should start with OFF.")
    body = [start[2], *lines[1:]] if start[2].strip() else lines[1:]
    try:
        vertices, faces = (int(word) for word in body[0].split()[:2])
    except (IndexError, ValueError):
        raise MeshError(f"{label}: an OFF file without its counts", "Export it again.") from None
    check_claims(vertices, faces, limits, label)
    if len(body) - 1 < vertices + faces:
        _does_not_hold(f"{vertices} vertices and {faces} faces", f"{len(body) - 1} lines", label)


def _check_stl(data: bytes, limits: LimitsConfig, label: str) -> None:
    claimed = struct.unpack_from("<I", data, _STL_HEADER - 4)[0] if len(data) >= _STL_HEADER else -1
    if claimed >= 0 and len(data) == _STL_HEADER + claimed * _STL_FACE:
        check_claims(3 * claimed, claimed, limits, label)
        return
    if data.lstrip()[:5].lower() != b"solid":
        check_claims(0, max(claimed, 0), limits, label)
        _does_not_hold("a header" if claimed < 0 else f"{claimed} triangles", f"{len(data)} bytes", label)
    text = data.lower()
    check_claims(0, text.count(b"vertex") // 3, limits, label)
    if b"endsolid" not in text:
        _does_not_hold("a solid", "no endsolid", label)


def _check_ply(data: bytes, limits: LimitsConfig, label: str) -> None:
    if not data.startswith(b"ply"):
        raise MeshError(f"{label}: not a PLY file", "The first line should be ply.")
    ended = re.search(rb"^end_header[ \t]*\r?\n?", data[:_LONGEST_HEADER], re.MULTILINE)
    if ended is None:
        _does_not_hold("a header", "no end_header", label)
    try:
        lines = data[: ended.start()].decode("utf-8").splitlines()
        is_text, elements = "ascii" in lines[1], _ply_elements(lines)
    except (ValueError, IndexError, KeyError):
        raise MeshError(f"{label}: a malformed PLY header", "Export it again.") from None
    for name, (count, _) in elements.items():  # edges, materials and the like may be as many as vertices
        check_claims(0 if name == "face" else count, count if name == "face" else 0, limits, label)
    claimed, start = ", ".join(f"{count} of {name}" for name, (count, _) in elements.items()), ended.end()
    if is_text:
        rows = max(data.count(b"\n", start), data.count(b"\r", start)) + (not data.endswith((b"\n", b"\r")))
        if rows < sum(count for count, _ in elements.values()):
            _does_not_hold(claimed, f"{rows} lines", label)
    elif len(data) - start < sum(count * size for count, size in elements.values()):
        _does_not_hold(claimed, f"{len(data) - start} bytes", label)


def _ply_elements(lines: list[str]) -> dict[str, tuple[int, int]]:
    """Return, by element, how many there are and the least number of bytes of one."""
    elements: dict[str, tuple[int, int]] = {}
    name = ""
    for words in (line.split() for line in lines):
        if words[:1] == ["element"]:
            name = words[1]
            elements[name] = (int(words[2]), 0)
        elif words[:1] == ["property"]:  # a list may be empty, but says so in its count
            count, size = elements[name]
            elements[name] = (count, size + _PLY_BYTES[words[2] if words[1] == "list" else words[1]])
    return elements


def _does_not_hold(claimed: str, found: str, label: str) -> NoReturn:
    raise MeshError(
        f"{label}: truncated or damaged: claims {claimed}, holds {found}", "Copy or download the file again."
    )


CHECKS: dict[str, Callable[[bytes, LimitsConfig, str], None]] = {
    "obj": _check_obj,
    "off": _check_off,
    "ply": _check_ply,
    "stl": _check_stl,
}
