"""Connected components of a mesh: which there are, which are kept, and whether they are closed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ln3d.export.mesh import Mesh
from ln3d.geometry.surfaces import signed_volume


@dataclass(frozen=True)
class MeshReport:
    """Figures of one mesh; lengths in world units."""

    vertices: int
    faces: int
    components: int
    watertight: bool
    volume: float
    """Signed: negative for faces wound inwards; meaningful for watertight meshes."""
    extent: tuple[float, float, float]


def largest_components(mesh: Mesh, share: float) -> Mesh:
    """Return `mesh` without the connected components that have fewer than `share` of its faces.

    The largest one always stays. Vertices that no face uses are dropped; the order of the rest is kept.
    """
    if len(mesh.faces) == 0:
        return mesh
    label = _face_labels(mesh)
    faces = np.bincount(label)
    keep = (faces >= share * len(mesh.faces)) | (np.arange(len(faces)) == faces.argmax())
    kept = mesh.faces[keep[label]]
    used = np.zeros(len(mesh.vertices), bool)
    used[kept] = True
    new_index = used.cumsum() - 1
    return Mesh(mesh.vertices[used], new_index[kept], None if mesh.colours is None else mesh.colours[used])


def mesh_report(mesh: Mesh) -> MeshReport:
    """Return the figures of `mesh`; it is watertight if every edge has two faces that run along it opposite ways."""
    label = _face_labels(mesh)
    used = mesh.vertices[np.unique(mesh.faces)]
    extent = np.ptp(used, axis=0) if len(used) else np.zeros(3)
    return MeshReport(
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        components=int(label.max()) + 1 if len(label) else 0,
        watertight=_is_watertight(mesh.faces),
        volume=signed_volume(mesh.vertices, mesh.faces),
        extent=(float(extent[0]), float(extent[1]), float(extent[2])),
    )


def _face_labels(mesh: Mesh) -> Int[np.ndarray, " m"]:
    """Return the component of every face, numbered by first appearance among the faces' own components."""
    ends = mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2).T
    size = len(mesh.vertices)
    graph = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(size, size))
    _, vertex_label = connected_components(graph, directed=False)
    return np.unique(vertex_label[mesh.faces[:, 0]], return_inverse=True)[1]


def _is_watertight(faces: Int[np.ndarray, "m 3"]) -> bool:
    if len(faces) == 0:
        return False
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    size = int(faces.max()) + 1
    ahead, back = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    return len(np.unique(ahead)) == len(ahead) and np.array_equal(np.sort(ahead), np.sort(back))
