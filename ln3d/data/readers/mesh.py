"""Reading a mesh file of any known format into a Scene."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ln3d.config.render import LimitsConfig
from ln3d.data.readers import ac3d, general, pmd, vrml
from ln3d.data.readers.scene import Part, Scene, checked, normalised
from ln3d.data.readers.sources import FolderSource, Source
from ln3d.errors import MeshError

__all__ = ["READERS", "Part", "Scene", "normalised", "read_from", "read_scene"]

Reader = Callable[[Source, str, LimitsConfig], Scene]

READERS: dict[str, Reader] = {
    ".ac": ac3d.read,
    ".acc": ac3d.read,
    ".glb": general.read,
    ".gltf": general.read,
    ".obj": general.read,
    ".off": general.read,
    ".ply": general.read,
    ".pmd": pmd.read,
    ".stl": general.read,
    ".wrl": vrml.read,
}


def read_scene(path: Path, limits: LimitsConfig, root: Path | None = None) -> Scene:
    """Read a mesh file: glTF, GLB, OBJ, PLY, STL, OFF, AC3D (.ac, .acc), VRML97 (.wrl) or
    0 A.D. (.pmd).

    Other files (materials, buffers, textures) are read only from inside `root`, by default the folder of
    the mesh; nothing is ever fetched over a network. Positions are in the units of the file.

    Raises:
        MeshError: the file is empty, truncated, not finite, has faces without vertices, refers to a place
            outside `root`, or exceeds `limits`.
    """
    path = Path(path)
    source = FolderSource(root or path.parent, limits)
    return read_from(source, source.name_of(path), limits)


def read_from(source: Source, name: str, limits: LimitsConfig) -> Scene:
    """Read the mesh called `name` in a folder or an archive; see `read_scene`."""
    suffix = PurePosixPath(name).suffix.lower()
    reader = READERS.get(suffix)
    if reader is None:
        known = " ".join(sorted(READERS))
        raise MeshError(
            f"{source.label}/{name}: cannot read {suffix or 'files without a suffix'}", f"Readable: {known}"
        )
    return checked(reader(source, name, limits), f"{source.label}/{name}", limits)
