import numpy as np
import pytest

from ln3d.export.components import largest_components, mesh_report
from ln3d.export.mesh import Mesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32)


def octahedron() -> tuple[np.ndarray, np.ndarray]:
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    return vertices, np.array(faces)


def both() -> Mesh:
    """An octahedron (8 faces) and, after a vertex that no face uses, a tetrahedron (4 faces)."""
    vertices, faces = octahedron()
    stray = np.full((1, 3), 99, np.float32)
    everything = np.concatenate([vertices, stray, CORNERS + 10])
    colours = np.arange(3 * len(everything), dtype=np.uint8).reshape(-1, 3)
    return Mesh(everything, np.concatenate([TETRAHEDRON + 7, faces]), colours)


def test_figures_of_two_solids() -> None:
    report = mesh_report(both())
    assert (report.vertices, report.faces, report.components, report.watertight) == (11, 12, 2, True)
    assert report.volume == pytest.approx(1 + 4 / 3)
    assert report.extent == (12, 13, 14)


@pytest.mark.parametrize(("share", "faces"), [(0.0, 12), (0.33, 12), (0.34, 8), (1.0, 8)])
def test_components_below_the_share_are_dropped(share: float, faces: int) -> None:
    assert len(largest_components(both(), share).faces) == faces


def test_what_is_kept_keeps_its_places_colours_and_order() -> None:
    before, after = both(), largest_components(both(), 0.5)
    assert len(after.vertices) == 6
    assert before.colours is not None and after.colours is not None
    np.testing.assert_array_equal(after.vertices, before.vertices[:6])
    np.testing.assert_array_equal(after.colours, before.colours[:6])
    np.testing.assert_array_equal(after.vertices[after.faces], before.vertices[before.faces[4:]])


def test_a_missing_a_doubled_and_a_turned_face_are_no_watertight_meshes() -> None:
    turned = TETRAHEDRON.copy()
    turned[0] = turned[0, ::-1]
    for faces in (TETRAHEDRON[:3], np.concatenate([TETRAHEDRON, TETRAHEDRON[:1]]), turned):
        assert not mesh_report(Mesh(CORNERS, faces)).watertight


def test_inside_out_has_a_negative_volume() -> None:
    report = mesh_report(Mesh(CORNERS, TETRAHEDRON[:, ::-1]))
    assert report.watertight
    assert report.volume == pytest.approx(-1)


def test_an_empty_mesh_is_reported_not_an_error() -> None:
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))
    assert largest_components(empty, 0.5) is empty
    report = mesh_report(empty)
    assert (report.components, report.watertight, report.volume) == (0, False, 0.0)
