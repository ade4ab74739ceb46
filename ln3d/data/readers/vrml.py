"""VRML97 meshes (.wrl): face sets in groups and transforms, with their material's, vertex or face colours or a texture.

Written to ISO/IEC 14772-1 (VRML97), clause 6. Lights, viewpoints, animation and shapes other than face sets say nothing
here; other files are not included.
"""

import numpy as np

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.limits import check_claims
from ln3d.data.readers.scene import WHITE, Part, Scene
from ln3d.data.readers.sources import Source, folder_of, located
from ln3d.data.readers.textures import decode
from ln3d.data.readers.vrml_syntax import Node, parse
from ln3d.errors import MeshError

_INVISIBLE = 0.8  # transparency above which a shape is left out
_GROUPS = ("Group", "Transform", "Anchor", "Billboard", "Collision")
_DIFFUSE = (0.8, 0.8, 0.8)
_CHROMATIC = 3
_MOST_NODES = 200_000  # a named node may be used often, in nodes that are used often


def read(source: Source, name: str, limits: LimitsConfig) -> Scene:
    """Return the face sets of a file, in its own axes (+y up where its author kept to the standard).

    Raises:
        MeshError: the file is of VRML 1, damaged, includes others, or claims more than `limits` allows.
    """
    label = f"{source.label}/{name}"
    data = source.read(name)
    if not data.lstrip(b"\xef\xbb\xbf").startswith(b"#VRML V2.0"):
        raise MeshError(f"{label}: not a VRML97 file", "Export it as VRML 2.0 or GLB.")
    drawn = _Drawing(source, name, limits)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused with the rest of the checks
        for node in parse(data.decode("utf-8", errors="replace"), label):
            drawn.add(node, np.eye(4))
    return Scene(drawn.parts)


class _Drawing:
    """Collects the parts of one file."""

    def __init__(self, source: Source, name: str, limits: LimitsConfig) -> None:
        self.source, self.folder, self.limits = source, folder_of(name), limits
        self.label = f"{source.label}/{name}"
        self.parts: list[Part] = []
        self.vertices = self.faces = self.nodes = 0

    def add(self, node: Node, place: np.ndarray) -> None:
        """Add what a node shows; `place` (4, 4) takes its points to the file's."""
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise MeshError(f"{self.label}: more than {_MOST_NODES} nodes", "Simplify the file.")
        if node.kind == "Inline":
            raise MeshError(f"{self.label}: includes {node.words('url')[:1]}", "Put everything into one file.")
        if node.kind == "Shape":
            part = self.part(node, place)
            if part is not None:
                self.parts.append(part)
        if node.kind == "Transform":
            place = place @ _transform(node)
        for child in _children(node):
            self.add(child, place)

    def part(self, shape: Node, place: np.ndarray) -> Part | None:
        """Return a shape's triangles; None for what is not drawn."""
        geometry = shape.node("geometry")
        look = shape.node("appearance") or Node("Appearance")
        material = look.node("material") or Node("Material")
        transparency = material.numbers("transparency", (0.0,))
        if geometry is None or geometry.kind != "IndexedFaceSet":
            return None
        if len(transparency) and transparency[0] > _INVISIBLE:
            return None
        points, corners, owners = self.triangles(geometry)
        part = Part((points @ place[:3, :3].T + place[:3, 3]).astype(np.float32), corners, None, None, WHITE, None)
        self.paint(part, geometry, owners, material, look.node("texture"))
        return part

    def triangles(self, geometry: Node) -> tuple[np.ndarray, np.ndarray, "_Corners"]:
        """Return points (n, 3), faces (m, 3), and where each corner stands in the lists of the face set."""
        points = self.table(geometry.node("coord"), "point", 3)
        index = self.indices(geometry, "coordIndex")
        owners = _Corners(index)
        self.vertices += len(points)
        self.faces += len(owners.position)
        check_claims(self.vertices, self.faces, self.limits, self.label)
        corners = index[owners.position]
        if corners.size and (corners.min() < 0 or corners.max() >= len(points)):
            raise MeshError(
                f"{self.label}: a face refers to vertex {corners.max()} of {len(points)}", "Export it again."
            )
        return points, corners, owners

    def paint(self, part: Part, geometry: Node, owners: "_Corners", material: Node, texture: Node | None) -> None:
        """Give a part its colours: per vertex or face where there are some, else the texture's or the material's."""
        diffuse = material.numbers("diffuseColor", _DIFFUSE)
        part.base_colour = np.append(diffuse[:3] if len(diffuse) >= _CHROMATIC else _DIFFUSE, 1.0).astype(np.float32)
        colours = self.table(geometry.node("color"), "color", 3)
        if len(colours) and len(part.faces):
            which = self.colour_of_corners(geometry, owners, part.faces)
            chosen = colours[np.clip(which.reshape(-1), 0, len(colours) - 1)]
            _split_corners(part)
            part.colours = np.concatenate([chosen, np.ones_like(chosen[:, :1])], axis=1).astype(np.float32)
            part.base_colour = WHITE
        elif texture is not None and texture.kind == "ImageTexture" and geometry.node("texCoord") is not None:
            self.wrap(part, geometry, owners, texture)

    def colour_of_corners(self, geometry: Node, owners: "_Corners", faces: np.ndarray) -> np.ndarray:
        """Return (m, 3): which colour every corner has."""
        index = self.indices(geometry, "colorIndex")
        if geometry.words("colorPerVertex") == ["FALSE"]:
            face = np.repeat(owners.polygon[:, None], 3, axis=1)
            return face if not len(index) else _taken(index, face, self.label)
        return faces if not len(index) else _taken(index, owners.position, self.label)

    def wrap(self, part: Part, geometry: Node, owners: "_Corners", texture: Node) -> None:
        """Put a texture on; a missing file leaves the plain colour."""
        urls = texture.words("url")
        name = located(self.source, self.folder, urls[0], lenient=False) if urls else None
        if name is None:
            return
        uv = self.table(geometry.node("texCoord"), "point", 2)
        index = self.indices(geometry, "texCoordIndex")
        which = _taken(index, owners.position, self.label) if len(index) else part.faces
        if which.size and (which.min() < 0 or which.max() >= len(uv)):
            raise MeshError(
                f"{self.label}: a corner refers to texture point {which.max()} of {len(uv)}", "Export it again."
            )
        part.texture = decode(self.source.read(name), self.limits, f"{self.source.label}/{name}").copy()
        part.cutout = bool((part.texture[..., 3] < 128).any())
        part.base_colour = WHITE
        _split_corners(part)
        part.uv = uv[which.reshape(-1)].astype(np.float32)

    def table(self, node: Node | None, name: str, columns: int) -> np.ndarray:
        """Return a field of points or colours as rows."""
        values = np.empty(0) if node is None else node.numbers(name)
        if len(values) % columns:
            raise MeshError(f"{self.label}: {len(values)} numbers that are no rows of {columns}", "Export it again.")
        return values.reshape(-1, columns)

    def indices(self, node: Node, name: str) -> np.ndarray:
        """Return a field of whole numbers; -1 ends a face."""
        values = node.numbers(name)
        if not np.isfinite(values).all() or (np.abs(values) > 2**31).any():
            raise MeshError(f"{self.label}: {name} holds no indices", "Export it again.")
        return values.astype(np.int64)


class _Corners:
    """The triangles, fans, of the polygons in a list of indices that -1 divides."""

    def __init__(self, index: np.ndarray) -> None:
        ends = np.flatnonzero(index == -1)
        if len(index) and (not len(ends) or ends[-1] != len(index) - 1):
            ends = np.append(ends, len(index))
        starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else np.empty(0, np.int64)
        fans = np.maximum(ends - starts - 2, 0)
        self.polygon = np.repeat(np.arange(len(fans)), fans)
        """Which polygon every triangle is of, (m,)."""
        step = np.arange(len(self.polygon)) - np.repeat(np.cumsum(fans) - fans, fans)
        first = starts[self.polygon]
        self.position = np.stack([first, first + step + 1, first + step + 2], axis=1).astype(np.int64)
        """Where in the list every corner stands, (m, 3)."""


def _taken(index: np.ndarray, places: np.ndarray, label: str) -> np.ndarray:
    if places.size and places.max() >= len(index):
        raise MeshError(f"{label}: a list of indices that is too short", "Export it again.")
    taken: np.ndarray = index[places]
    return taken


def _split_corners(part: Part) -> None:
    """Give every corner a vertex of its own."""
    part.vertices = part.vertices[part.faces.reshape(-1)]
    part.faces = np.arange(len(part.vertices), dtype=np.int64).reshape(-1, 3)


def _children(node: Node) -> list[Node]:
    if node.kind in _GROUPS:
        return node.nodes("children")
    if node.kind == "LOD":
        return node.nodes("level")[:1]
    if node.kind == "Switch":
        which = node.numbers("whichChoice", (-1.0,))
        chosen = int(which[0]) if len(which) else -1
        return node.nodes("choice")[chosen : chosen + 1] if chosen >= 0 else []
    return []


def _transform(node: Node) -> np.ndarray:
    """Return the 4 x 4 matrix of a Transform: T C R SR S -SR -C (VRML97, 6.52)."""
    centre, turn = _moved(node.numbers("center")), _rotated(node.numbers("rotation"))
    tilt = _rotated(node.numbers("scaleOrientation"))
    scale = node.numbers("scale", (1.0, 1.0, 1.0))
    stretch = np.diag([*(scale[:3] if len(scale) >= 3 else (1.0, 1.0, 1.0)), 1.0])
    back = np.eye(4)
    back[:3, 3] = -centre[:3, 3]
    moved: np.ndarray = _moved(node.numbers("translation")) @ centre @ turn @ tilt @ stretch @ tilt.T @ back
    return moved


def _moved(offset: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = offset[:3] if len(offset) >= 3 else 0
    return matrix


def _rotated(turn: np.ndarray) -> np.ndarray:
    """Return the rotation about an axis by an angle in radians, four numbers (Rodrigues' formula)."""
    matrix = np.eye(4)
    length = float(np.linalg.norm(turn[:3])) if len(turn) >= 4 else 0.0
    if length > 0 and np.isfinite(turn[:4]).all():
        x, y, z = turn[:3] / length
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrix[:3, :3] += np.sin(turn[3]) * cross + (1 - np.cos(turn[3])) * cross @ cross
    return matrix
