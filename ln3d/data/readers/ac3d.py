"""AC3D meshes (.ac), and the variant with normals and several textures that TORCS writes (.acc)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath

import numpy as np

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.scene import WHITE, Part, Scene
from ln3d.data.readers.sources import Source, folder_of, located
from ln3d.data.readers.textures import decode, has_gradual_alpha
from ln3d.errors import MeshError

_LINE_KINDS = (1, 2)  # low bits of a SURF word: closed line, line
_STRIP_KIND = 4  # and triangle strip
_INVISIBLE = 0.8  # transparency above which a material is left out
_DEEPEST = 64

FindTexture = Callable[[str], str | None]


@dataclass(frozen=True)
class Options:
    """What a collection knows about its AC3D files."""

    find_texture: FindTexture | None = None
    """From a texture's name in the file to a file name in the source; None looks beside the mesh."""
    skip: re.Pattern[str] | None = None
    """Objects whose own name, or whose group's name, matches are left out."""
    skip_texture: re.Pattern[str] | None = None
    """Objects whose texture's name matches are left out."""
    opaque: bool = False
    """Whether alpha never means a hole."""
    tint: bool = True
    """Whether the material's colour multiplies the texture."""


@dataclass
class _Material:
    colour: tuple[float, float, float]
    transparency: float


@dataclass
class _Object:
    name: str = ""
    texture: str = ""
    repeat: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    location: np.ndarray = field(default_factory=lambda: np.zeros(3))
    vertices: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    surfaces: list[tuple[int, list[tuple[int, float, float]]]] = field(default_factory=list)
    kids: int = 0


@dataclass
class _Soup:
    """Triangle corners of one texture and material."""

    points: list[np.ndarray] = field(default_factory=list)
    uv: list[np.ndarray] = field(default_factory=list)


def read(source: Source, name: str, limits: LimitsConfig, options: Options | None = None) -> Scene:
    """Return the scene of an AC3D file in the file's own axes; MeshError when it is damaged."""
    options = options or Options()
    label = f"{source.label}/{name}"
    try:
        materials, soups = _parse(source.read(name).decode("latin-1"), options, label)
    except StopIteration:
        raise MeshError(f"{label}: truncated: the file ends inside an object", "Export it again.") from None
    except (ValueError, IndexError, OverflowError) as error:
        raise MeshError(f"{label}: damaged or truncated AC3D file ({error})", "Export it again.") from None
    find = options.find_texture or (lambda text: located(source, folder_of(name), text, lenient=False))
    textures = {text: _texture(source, find(text), limits) for text in sorted({key[0] for key in soups}) if text}
    parts = []
    for (text, index), soup in soups.items():
        material = materials[index] if 0 <= index < len(materials) else _Material((1.0, 1.0, 1.0), 0.0)
        if material.transparency < _INVISIBLE:
            parts.append(_part(soup, material, textures.get(text), options))
    return Scene(parts)


def _texture(source: Source, name: str | None, limits: LimitsConfig) -> np.ndarray | None:
    return None if name is None else decode(source.read(name), limits, f"{source.label}/{name}")


def _part(soup: _Soup, material: _Material, texture: np.ndarray | None, options: Options) -> Part:
    vertices = np.concatenate(soup.points).astype(np.float32)
    plain = np.array([*material.colour, 1.0], dtype=np.float32)
    holes = texture is not None and not options.opaque and not has_gradual_alpha(texture)
    return Part(
        vertices=vertices,
        faces=np.arange(len(vertices), dtype=np.int64).reshape(-1, 3),
        uv=np.concatenate(soup.uv).astype(np.float32) if texture is not None else None,
        colours=None,
        base_colour=plain if texture is None or options.tint else WHITE.copy(),
        texture=texture,
        cutout=holes and texture is not None and bool((texture[..., 3] < 128).any()),
    )


def _parse(text: str, options: Options, label: str) -> tuple[list[_Material], dict[tuple[str, int], _Soup]]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("AC3D"):
        raise MeshError(f"{label}: not an AC3D file", "The first line should start with AC3D.")
    cursor = iter(lines[1:])
    materials: list[_Material] = []
    soups: dict[tuple[str, int], _Soup] = {}
    for line in cursor:
        words = line.split()
        if words[:1] == ["MATERIAL"]:
            materials.append(_material(line))
        elif words[:1] == ["OBJECT"]:
            _gather(cursor, np.eye(3), np.zeros(3), False, options, soups, 0)
    return materials, soups


def _material(line: str) -> _Material:
    words = line.rsplit('"', 1)[-1].split()
    start = words.index("rgb")
    red, green, blue = (min(max(float(word), 0.0), 1.0) for word in words[start + 1 : start + 4])
    transparency = float(words[words.index("trans") + 1]) if "trans" in words else 0.0
    return _Material((red, green, blue), transparency)


def _gather(
    cursor: Iterator[str],
    rotation: np.ndarray,
    location: np.ndarray,
    hidden: bool,
    options: Options,
    soups: dict[tuple[str, int], _Soup],
    depth: int,
) -> None:
    """Read one object and its kids; add the triangles that are not `hidden` to `soups`, in world axes."""
    if depth > _DEEPEST:
        raise ValueError(f"objects nested more than {_DEEPEST} deep")
    item = _object(cursor)
    hidden = hidden or _skipped(options, item)
    location = item.location @ rotation + location
    rotation = item.rotation @ rotation
    if not hidden:
        _add(item, item.vertices @ rotation + location, soups)
    for _ in range(item.kids):
        # Files edited by hand promise more kids than they have; only an end inside an object is damage.
        if next((line for line in cursor if line.startswith("OBJECT")), None) is None:
            return
        _gather(cursor, rotation, location, hidden, options, soups, depth + 1)


def _skipped(options: Options, item: _Object) -> bool:
    name = options.skip is not None and options.skip.search(item.name)
    texture = options.skip_texture is not None and options.skip_texture.search(item.texture)
    return bool(name or texture)


def _object(cursor: Iterator[str]) -> _Object:
    """Read the lines of one object up to its `kids`."""
    item = _Object()
    for line in cursor:
        key, _, rest = line.strip().partition(" ")
        if key == "name":
            item.name = rest.strip().strip('"')
        elif key == "data":
            left = int(rest)  # so many characters follow on lines of their own
            while left > 0:
                left -= len(next(cursor)) + 1
        elif key == "texture" and not item.texture:  # the first of several layers is the base colour
            quoted = rest.split('"')
            item.texture = quoted[1] if len(quoted) > 2 else rest.strip()
        elif key in ("texrep", "texoff"):
            pair = (float(rest.split()[0]), float(rest.split()[1]))
            item.repeat, item.offset = (pair, item.offset) if key == "texrep" else (item.repeat, pair)
        elif key == "rot":
            item.rotation = np.array(rest.split(), dtype=np.float64).reshape(3, 3)
        elif key == "loc":
            item.location = np.array(rest.split(), dtype=np.float64).reshape(3)
        elif key == "numvert":
            rows = [line.split()[:3] for line in _following(cursor, int(rest.split()[0]), "vertices")]
            item.vertices = np.array(rows, dtype=np.float64).reshape(-1, 3)
        elif key == "numsurf":
            item.surfaces = [surface for _ in range(int(rest)) for surface in _surface(cursor)]
        elif key == "kids":
            item.kids = int(rest)
            return item
    raise ValueError("the file ends inside an object")


def _surface(cursor: Iterator[str]) -> list[tuple[int, list[tuple[int, float, float]]]]:
    """Return (material, three corners as (vertex, u, v)) for each triangle of one SURF record."""
    kind, material = 0, 0
    for line in cursor:
        words = line.split()
        if words[:1] == ["SURF"]:
            kind = int(words[1], 16) & 0xF
        elif words[:1] == ["mat"]:
            material = int(words[1])
        elif words[:1] == ["refs"]:
            corners = [_corner(line) for line in _following(cursor, int(words[1]), "corners")]
            if kind in _LINE_KINDS:
                return []
            fan = kind != _STRIP_KIND
            triples = [(0, i, i + 1) if fan else (i - 1, i, i + 1) for i in range(1, len(corners) - 1)]
            return [(material, [corners[a], corners[b], corners[c]]) for a, b, c in triples]
    raise ValueError("the file ends inside a surface")


def _following(cursor: Iterator[str], count: int, what: str) -> list[str]:
    lines = list(islice(cursor, count))
    if len(lines) < count:
        raise ValueError(f"claims {count} {what}, holds {len(lines)} more lines")
    return lines


def _corner(line: str) -> tuple[int, float, float]:
    words = line.split()
    return (int(words[0]), float(words[1]), float(words[2])) if len(words) >= 3 else (int(words[0]), 0.0, 0.0)


def _add(item: _Object, points: np.ndarray, soups: dict[tuple[str, int], _Soup]) -> None:
    grouped: dict[int, list[tuple[int, float, float]]] = {}
    for material, corners in item.surfaces:
        grouped.setdefault(material, []).extend(corners)
    for material, corners in grouped.items():
        table = np.array(corners, dtype=np.float64)
        index = table[:, 0].astype(np.int64)
        if index.min() < 0 or index.max() >= len(points):
            worst = index.max() if index.max() >= len(points) else index.min()
            raise ValueError(f"a face refers to vertex {worst} of {len(points)}")
        soup = soups.setdefault((_texture_key(item.texture), material), _Soup())
        soup.points.append(points[index])
        soup.uv.append(table[:, 1:] * item.repeat + item.offset)


def _texture_key(texture: str) -> str:
    """Return a texture's name as written, or nothing where TORCS says that there is none."""
    return "" if PurePosixPath(texture).name.startswith("empty_texture") else texture
