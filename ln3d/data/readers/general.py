"""The common formats (glTF, OBJ, PLY, STL, OFF), parsed by trimesh with every file access confined."""

import io
import logging
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver

from ln3d.config.render import LimitsConfig
from ln3d.data.readers import claims, gltf_header
from ln3d.data.readers.limits import check_claims, check_pixels
from ln3d.data.readers.scene import WHITE, Part, Scene
from ln3d.data.readers.sources import Source, folder_of, located
from ln3d.data.readers.textures import FORMATS, IMAGE_SUFFIXES, check_image
from ln3d.errors import LN3DError, MeshError
from ln3d.geometry.srgb import srgb_from_linear

logging.getLogger("trimesh").addHandler(logging.NullHandler())  # it has opinions; ours are MeshErrors
logging.getLogger("trimesh").propagate = False

_INVISIBLE = 0.2  # opacity below which a material is left out; other translucent ones are drawn opaque
_GREY = np.array([0.6, 0.6, 0.6, 1.0], dtype=np.float32)


def read(source: Source, name: str, limits: LimitsConfig, *, lenient: bool = False) -> Scene:
    """Return the scene of one file; MeshError when it is damaged or, unless `lenient`, refers outside `source`."""
    label = f"{source.label}/{name}"
    data = source.read(name)
    kind = PurePosixPath(name).suffix.lower().removeprefix(".")
    if kind in ("glb", "gltf"):
        gltf_header.check(data, folder_of(name), limits, label)
    elif kind in ("obj", "off"):
        data = _as_utf8(data)
    claims.check(data, kind, limits, label)
    resolver = ConfinedResolver(source, folder_of(name), limits, lenient)
    loaded = _load(data, kind, resolver, label)
    try:
        nodes = [loaded.graph[node] for node in sorted(loaded.graph.nodes_geometry)]
        counts = [_counts(loaded.geometry[key]) for _, key in nodes]
        check_claims(sum(count for count, _ in counts), sum(count for _, count in counts), limits, label)
        parts = [_part(loaded.geometry[key], matrix, kind, limits, label) for matrix, key in nodes]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OSError, SyntaxError) as error:
        raise MeshError(f"{label}: damaged ({_words(error)})", "Export it again.") from None
    return Scene([part for part in parts if part is not None])


class ConfinedResolver(Resolver):
    """Gives trimesh the files beside a mesh and nothing else; remembers what was refused, which trimesh hides."""

    def __init__(self, source: Source, folder: str, limits: LimitsConfig, lenient: bool) -> None:
        self.source, self.folder, self.limits, self.lenient = source, folder, limits, lenient
        self.refused: LN3DError | None = None

    def get(self, key: Any) -> bytes:
        """Return the bytes of a file named in the mesh."""
        try:
            reference = str(key).strip()
            if reference.startswith("-"):  # options of an OBJ map: "-s 1 1 1 wood.png"
                reference = reference.split()[-1]
            name = located(self.source, self.folder, reference, lenient=self.lenient)
            if name is None:
                raise FileNotFoundError(str(key))  # a missing texture is no reason to reject a mesh
            data = self.source.read(name)
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                check_image(data, self.limits, f"{self.source.label}/{name}")
            return _as_utf8(data) if suffix == ".mtl" else data
        except LN3DError as error:
            self.refused = self.refused or error
            raise

    def write(self, name: str, data: Any) -> None:
        """Refuse: reading a mesh writes nothing."""
        raise PermissionError(name)

    def namespaced(self, namespace: str) -> "ConfinedResolver":
        """Refuse sub-folders as separate roots; no format read here asks for one."""
        raise PermissionError(namespace)

    def keys(self) -> list[str]:
        """Return no names: files are reached only by name."""
        return []


def _load(data: bytes, kind: str, resolver: ConfinedResolver, label: str) -> trimesh.Scene:
    options: dict[str, Any] = {"split_objects": False} if kind == "obj" else {}
    previous, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # trimesh would hide it; `_pixels` has our limit
    try:
        loaded = trimesh.load_scene(io.BytesIO(data), file_type=kind, resolver=resolver, process=False, **options)
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises whatever its parser stumbled over
        if resolver.refused is not None:
            raise resolver.refused from None
        raise MeshError(
            f"{label}: cannot be parsed ({_words(error)})", "The file is damaged; export it again."
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = previous
    if resolver.refused is not None:
        raise resolver.refused
    return loaded


def _as_utf8(data: bytes) -> bytes:
    """Return a text file in UTF-8: old ones are in Windows-1252, and some in UTF-16 with a byte order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace").encode()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace").encode()
    return data


def _words(error: Exception) -> str:
    """Return what a parser stumbled over, in words that its author did not always find."""
    if isinstance(error, IndexError):
        return f"an index out of range: {error}"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, (AssertionError, RecursionError)) or not str(error):
        return "its lengths and offsets do not fit its data"
    return str(error)


def _counts(geometry: Any) -> tuple[int, int]:
    """Return the vertices and triangles of one instance."""
    if not isinstance(geometry, trimesh.Trimesh):
        return 0, 0
    return len(geometry.vertices), len(geometry.faces)


def _part(geometry: Any, matrix: np.ndarray, kind: str, limits: LimitsConfig, label: str) -> Part | None:
    if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
        return None
    vertices = np.asarray(geometry.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    with np.errstate(over="ignore"):
        vertices = vertices.astype(np.float32)
    part = Part(
        vertices=vertices,
        faces=np.asarray(geometry.faces, dtype=np.int64),
        uv=None,
        colours=None,
        base_colour=_GREY,
        texture=None,
    )
    visual = geometry.visual
    if isinstance(visual, trimesh.visual.TextureVisuals):
        painted = _with_material(part, visual, limits, label)
        if painted is not None and "color" in visual.vertex_attributes:  # glTF's COLOR_0 beside a material
            painted.colours = _gltf_colours(visual.vertex_attributes["color"])
        return painted
    if isinstance(visual, trimesh.visual.ColorVisuals) and visual.defined:
        return _with_colours(part, visual, linear=kind in ("glb", "gltf"))
    return part


def _with_colours(part: Part, visual: Any, linear: bool) -> Part:
    part.base_colour = WHITE
    if visual.kind == "face":  # a vertex per corner, so that each face keeps its own colour
        colours = np.repeat(np.asarray(visual.face_colors), 3, axis=0)
        part.vertices = part.vertices[part.faces.reshape(-1)]
        part.faces = np.arange(len(part.vertices), dtype=np.int64).reshape(-1, 3)
    else:
        colours = np.asarray(visual.vertex_colors)
    part.colours = colours.astype(np.float32) / 255.0
    if linear:
        part.colours[:, :3] = linear_to_srgb(part.colours[:, :3])
    return part


def _gltf_colours(stored: Any) -> np.ndarray:
    """Return COLOR_0, which is linear, as sRGB and opacity in [0, 1], (n, 4)."""
    colours = np.asarray(stored)
    largest = np.iinfo(colours.dtype).max if np.issubdtype(colours.dtype, np.integer) else 1.0
    colours = colours.astype(np.float32) / np.float32(largest)
    if colours.shape[1] == 3:
        colours = np.concatenate([colours, np.ones_like(colours[:, :1])], axis=1)
    colours[:, :3] = linear_to_srgb(colours[:, :3])
    return colours


def _with_material(part: Part, visual: Any, limits: LimitsConfig, label: str) -> Part | None:
    material = visual.material
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        colour = _rgba(material.baseColorFactor, WHITE)
        colour[:3] = linear_to_srgb(colour[:3])
        image, mode, cutoff = material.baseColorTexture, material.alphaMode or "OPAQUE", material.alphaCutoff
        if mode == "OPAQUE":
            colour[3] = 1.0
    else:
        image, mode, cutoff = material.image, "BLEND", None
        colour = WHITE.copy() if image is not None else _rgba(material.diffuse, _GREY)
        colour[3] = _mtl_opacity(material.kwargs)
    if colour[3] < _INVISIBLE:
        return None
    colour[3] = 1.0
    part.base_colour = colour
    if image is not None and visual.uv is not None:
        part.uv = np.asarray(visual.uv, dtype=np.float32)[:, :2]
        part.texture = _pixels(image, limits, label)
        part.cutout = mode != "OPAQUE" and bool((part.texture[..., 3] < 128).any())
        if mode == "MASK" and cutoff is not None:
            part.texture[..., 3] = np.where(part.texture[..., 3] >= float(cutoff) * 255, 255, 0)
            part.cutout = True
    return part


def _rgba(value: Any, default: np.ndarray) -> np.ndarray:
    if value is None:
        return default.copy()
    return np.asarray(value, dtype=np.float32).reshape(4) / np.float32(255.0)


def _mtl_opacity(extras: dict[str, Any]) -> float:
    for key, sign in (("d", 1.0), ("tr", -1.0)):
        try:
            value = float(extras[key][-1])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        return value if sign > 0 else 1.0 - value
    return 1.0


def _pixels(image: Image.Image, limits: LimitsConfig, label: str) -> np.ndarray:
    check_pixels(image.size, limits.texture_pixels, label)
    if image.format not in (*FORMATS, "MPO", None):  # MPO is a kind of JPEG; None was made by trimesh from others
        raise MeshError(f"{label}: a texture in the format {image.format}", "Replace it by a PNG or JPEG.")
    try:
        return np.array(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise MeshError(f"{label}: a damaged texture ({error})", "Replace the image.") from None


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return sRGB values in [0, 1], float32, for linear ones, which may be out of range."""
    return srgb_from_linear(np.clip(linear, 0.0, 1.0)).astype(np.float32)
