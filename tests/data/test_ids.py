import numpy as np
import pytest

from ln3d.config.render import CameraConfig
from ln3d.data.ids import Ids, identify
from ln3d.data.members import pack_number, unpack_number
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import draw
from ln3d.geometry.cameras import camera_set, look_at

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
SIDES = {  # of a cube: two triangles each, by the axis and the sign that they face
    (0, -1): [0, 1, 3, 2], (0, 1): [4, 6, 7, 5], (1, -1): [0, 4, 5, 1],
    (1, 1): [2, 3, 7, 6], (2, -1): [0, 2, 6, 4], (2, 1): [1, 5, 7, 3],
}  # fmt: skip
FACES = np.array([face for a, b, c, d in SIDES.values() for face in ([a, b, c], [a, c, d])], np.int64)
SIZE = 24


def cube(size: float, offset: float = 0.0) -> Part:
    return plain(CORNERS * np.float32(size) + np.array([offset, 0, 0], np.float32), FACES)


def plain(vertices: np.ndarray, faces: np.ndarray) -> Part:
    return Part(vertices, faces, None, None, np.ones(4, np.float32), None)


@pytest.fixture(scope="module")
def cameras():
    return camera_set(CameraConfig(views=8))


@pytest.fixture(scope="module")
def seen(cameras) -> Ids:
    return identify(Scene([cube(0.5)]), *cameras, SIZE)


def test_a_face_is_the_one_whose_normal_is_seen(seen, cameras):
    views = draw(Scene([cube(0.5)]), *cameras, SIZE, supersampling=2)
    np.testing.assert_array_equal(seen.face >= 0, views.depth > 0)
    normals = np.array([np.eye(3)[axis] * sign for axis, sign in SIDES for _ in range(2)])
    hit = seen.face >= 0
    np.testing.assert_allclose(normals[seen.face[hit]], views.normal[hit], atol=1e-6)


def test_the_front_shows_both_triangles_of_the_front(seen):
    front = identify(Scene([cube(0.5)]), look_at(np.array([[0.0, 0.0, 3.0]])).astype(np.float32), camera_lens(), SIZE)
    assert set(np.unique(front.face)) == {-1, 10, 11}
    lower = front.face[0] == 10
    assert abs(int(lower.sum()) - int((front.face[0] == 11).sum())) <= SIZE


def camera_lens() -> np.ndarray:
    return camera_set(CameraConfig(views=1))[1]


def test_parts_are_counted_without_empty_ones_and_faces_go_on(cameras):
    empty = plain(CORNERS, np.zeros((0, 3), np.int64))
    both = identify(Scene([cube(0.2, -0.5), empty, cube(0.2, 0.5)]), *cameras, SIZE)
    assert set(np.unique(both.part)) == {-1, 0, 1}
    hit = both.face >= 0
    np.testing.assert_array_equal(both.part[hit], both.face[hit] // len(FACES))
    np.testing.assert_array_equal(both.part < 0, both.face < 0)


def test_packed_numbers_come_back():
    numbers = np.array([[-1, 0, 254], [255, 65_535, 2**24 - 2]], np.int32)
    np.testing.assert_array_equal(unpack_number(pack_number(numbers)), numbers)
    assert not pack_number(numbers)[0, 0].any()
