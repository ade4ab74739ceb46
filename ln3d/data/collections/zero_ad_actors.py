"""Putting a 0 A.D. actor together: a mesh, a texture, and props hung on the mesh's named points."""

import re
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

import numpy as np

from ln3d.config.render import LimitsConfig
from ln3d.data.readers.markup import parse_xml
from ln3d.data.readers.pmd import PmdMesh, parse
from ln3d.data.readers.scene import Part
from ln3d.data.readers.sources import ZipSource, joined
from ln3d.data.readers.textures import decode
from ln3d.errors import MeshError

ACTORS = "art/actors/"
_VARIANTS, _MESHES, _SKINS = "art/variants/", "art/meshes/", "art/textures/skins/"
_NO_PROP = re.compile(r"(^|/)units/|projectile|garrison|decal|particle|fire_small|/crew|fauna/|smoke|flag")
_GREY = np.array([0.6, 0.6, 0.6, 1.0], dtype=np.float32)
_DEEPEST = 6
_NO_BONE = 255


@dataclass
class _Look:
    """What the chosen variants of an actor say together."""

    mesh: str = ""
    texture: str = ""
    props: dict[str, list[str]] = field(default_factory=dict)
    """Actors by prop point; a later variant replaces what an earlier one hung on the same point."""


class Assembly:
    """Builds actors from one archive, in one player colour (sRGB in [0, 1])."""

    def __init__(self, source: ZipSource, limits: LimitsConfig, paint: tuple[float, float, float]) -> None:
        self.source = source
        self.limits = limits
        self.paint = np.array(paint, dtype=np.float32)

    def mesh_of(self, actor: str) -> str:
        """Return the name of the mesh that an actor wears, empty for none."""
        return self._look(self._xml(ACTORS, actor)).mesh

    def parts(self, actor: str, depth: int = 0) -> list[Part]:
        """Return the parts of an actor and, placed, of its props; MeshError when a file of it is missing."""
        if depth > _DEEPEST:
            raise MeshError(f"{self.source.label}/{actor}: props nested too deeply", "Fetch the package again.")
        tree = self._xml(ACTORS, actor)
        look = self._look(tree)
        if not look.mesh:
            return []
        mesh = parse(self.source.read(_cached(_MESHES, look.mesh, ".pmd", self.source)), look.mesh)
        found = [self._part(mesh, look.texture, (tree.findtext("material") or "").strip())]
        for point, actors in look.props.items():
            place = _placement(mesh, point)
            for prop in actors:
                if place is not None and prop and not _NO_PROP.search(prop):
                    found += [_moved(part, place) for part in self.parts(prop, depth + 1)]
        return found

    def _xml(self, folder: str, name: str) -> ElementTree.Element:
        path = joined(folder, name, self.source.label)
        return parse_xml(self.source.read(path), path)

    def _look(self, tree: ElementTree.Element) -> _Look:
        look = _Look()
        for group in tree.findall("group"):
            variants = group.findall("variant")
            if variants:  # of equally frequent ones the first, so that an actor always looks the same
                self._apply(max(variants, key=_frequency), look, 0)
        return look

    def _apply(self, variant: ElementTree.Element, look: _Look, depth: int) -> None:
        file = variant.get("file")
        if file and depth < _DEEPEST:
            self._apply(self._xml(_VARIANTS, file), look, depth + 1)
        look.mesh = (variant.findtext("mesh") or look.mesh).strip()
        for texture in variant.iterfind("textures/texture"):
            if texture.get("name") == "baseTex":
                look.texture = texture.get("file", look.texture)
        hung: dict[str, list[str]] = {}
        for prop in variant.iterfind("props/prop"):
            hung.setdefault(prop.get("attachpoint", "root"), []).append(prop.get("actor", ""))
        look.props.update(hung)

    def _part(self, mesh: PmdMesh, texture: str, material: str) -> Part:
        part = Part(mesh.vertices, mesh.faces, mesh.uv, None, _GREY.copy(), None)
        if not texture or mesh.uv is None:
            return replace(part, uv=None)
        name = _cached(_SKINS, texture, ".dds", self.source)
        pixels = decode(self.source.read(name), self.limits, f"{self.source.label}/{name}")
        cutout = False
        if material.startswith("player"):  # alpha 0 is where the player's colour tints the texture
            share = pixels[..., 3:].astype(np.float32) / 255
            tinted = pixels[..., :3] * (self.paint * (1 - share) + share)
            pixels = np.concatenate([np.rint(tinted).astype(np.uint8), np.full_like(pixels[..., 3:], 255)], axis=2)
        elif "trans" in material:
            cutout = bool((pixels[..., 3] < 128).any())
        return replace(part, base_colour=np.ones(4, dtype=np.float32), texture=pixels, cutout=cutout)


def _frequency(variant: ElementTree.Element) -> float:
    try:
        return float(variant.get("frequency") or 0)
    except ValueError:
        raise MeshError("an actor's frequency is not a number", "Fetch the package again.") from None


def _cached(folder: str, name: str, suffix: str, source: ZipSource) -> str:
    """Return the archive's name of a mesh or texture, which the game stores converted."""
    path = joined(folder, name, source.label)
    return path if not source.has(f"{path}.cached{suffix}") else f"{path}.cached{suffix}"


def _placement(mesh: PmdMesh, point: str) -> np.ndarray | None:
    """Return the 4 x 4 transform of a prop point, None where the mesh has no such point."""
    if point == "root":
        return np.eye(4)
    prop = mesh.props.get(point)
    if prop is None:
        return None
    local = _transform(prop.translation, prop.rotation)
    if prop.bone == _NO_BONE or prop.bone >= len(mesh.bones):
        return local
    rest = mesh.bones[prop.bone].tolist()
    return _transform(tuple(rest[:3]), tuple(rest[3:])) @ local


def _transform(translation: tuple[float, ...], quaternion: tuple[float, ...]) -> np.ndarray:
    x, y, z, w = quaternion
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = translation
    return matrix


def _moved(part: Part, place: np.ndarray) -> Part:
    vertices = part.vertices.astype(np.float64) @ place[:3, :3].T + place[:3, 3]
    return replace(part, vertices=vertices.astype(np.float32))
