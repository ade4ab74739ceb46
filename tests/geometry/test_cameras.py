import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ln3d.config.render import CameraConfig
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import (
    OBJECT_RADIUS,
    camera_set,
    directions,
    from_blender,
    from_opengl,
    intrinsics,
    look_at,
    orbit,
    spiral,
    spread_order,
    to_blender,
    to_opengl,
)

coordinate = st.floats(-5, 5, allow_subnormal=False)
DENSE = spiral(5000)


@given(st.tuples(coordinate, coordinate, coordinate).filter(lambda eye: np.linalg.norm(eye) > 1e-3))
def test_look_at_is_a_rotation_that_looks_at_the_target_upright(eye: tuple[float, float, float]) -> None:
    pose = look_at(np.array(eye))
    right, down, forward = pose[:3, :3].T
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-12)
    np.testing.assert_allclose(forward * np.linalg.norm(eye), -np.array(eye), atol=1e-12)
    assert abs(right[1]) < 1e-9 and down[1] <= 1e-9


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_straight_down_and_up_are_the_limits_of_rising_and_sinking_from_the_front(side: float) -> None:
    pole = look_at(np.array([0.0, 2 * side, 0.0]))
    np.testing.assert_allclose(pole[:3, 0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pole, look_at(np.array([0.0, 2 * side, 1e-3])), atol=2e-3)


def test_look_at_refuses_to_look_at_itself() -> None:
    with pytest.raises(ValueError, match="where it stands"):
        look_at(np.array([1.0, 2.0, 3.0]), target=(1.0, 2.0, 3.0))


@pytest.mark.parametrize("layout", ["sphere", "upper", "orbit"])
@pytest.mark.parametrize("views", [1, 4, 24, 50])
def test_every_set_looks_at_the_centre_and_sees_the_whole_object_sphere(layout: str, views: int) -> None:
    config = CameraConfig(layout=layout, views=views)
    poses, matrices = camera_set(config)
    assert poses.shape == (views, 4, 4) and matrices.shape == (views, 3, 3)
    assert poses.dtype == matrices.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(poses[:, :3, 3], axis=-1), config.radius, rtol=1e-6)
    world_to_camera = np.linalg.inv(poses.astype(np.float64))
    local = (
        np.einsum("vij,nj->vni", world_to_camera[:, :3, :3], DENSE * OBJECT_RADIUS) + world_to_camera[:, None, :3, 3]
    )
    image = np.einsum("vij,vnj->vni", matrices, local / local[..., 2:])
    assert local[..., 2].min() > 0
    assert image[..., :2].min() > 0 and image[..., :2].max() < 1
    np.testing.assert_allclose(world_to_camera[:, :2, 3], 0, atol=1e-6)


@pytest.mark.parametrize("layout", ["sphere", "upper", "orbit"])
def test_cameras_that_would_cut_the_object_are_an_error_with_a_remedy_that_works(layout: str) -> None:
    with pytest.raises(RecipeError) as caught:
        camera_set(CameraConfig(layout=layout, radius=2.0, field_of_view=36))
    radius, field_of_view = map(float, re.findall(r"[\d.]+", caught.value.hint))
    camera_set(CameraConfig(layout=layout, radius=radius, field_of_view=36))
    camera_set(CameraConfig(layout=layout, radius=2.0, field_of_view=field_of_view))


def _covering_angle(points: np.ndarray) -> float:
    """Return the largest angle, in degrees, between any direction and the nearest of `points`."""
    return float(np.degrees(np.arccos((DENSE @ points.T).max(axis=1).min())))


@pytest.mark.parametrize("views", [6, 8, 12, 24, 32, 48])
def test_any_beginning_of_the_sphere_layout_sees_all_sides(views: int) -> None:
    config = CameraConfig(views=views)
    points = camera_set(config)[0][:, :3, 3] / config.radius
    assert np.abs(points[:, 1]).max() < 0.999
    assert max(_covering_angle(points[:count]) for count in range(4, views + 1)) < 100
    assert _covering_angle(points[:6]) < 72
    assert _covering_angle(points) < 110 / np.sqrt(views / 2)


def test_upper_layout_stays_above_the_ground_and_covers_it() -> None:
    points = camera_set(CameraConfig(layout="upper", views=32))[0][:, :3, 3]
    assert points[:, 1].min() >= 0
    assert len(np.unique(np.sign(points[:6, [0, 2]]), axis=0)) == 4


def test_orbit_is_a_closed_even_ring_that_starts_at_the_front() -> None:
    points = orbit(20, 3.0, elevation=30.0, field_of_view=50.0)[0][:, :3, 3]
    np.testing.assert_allclose(points[0], [0, 1.5, 3 * np.cos(np.pi / 6)], atol=1e-6)
    assert points[1, 0] > 0
    steps = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=-1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-5)


def test_orbit_over_the_pole_is_an_error() -> None:
    with pytest.raises(RecipeError, match="single point"):
        camera_set(CameraConfig(layout="orbit", elevation=90))


def test_rings_go_around_twice_and_see_top_and_bottom() -> None:
    config = CameraConfig(layout="rings", views=38)
    points = camera_set(config)[0][:, :3, 3] / config.radius
    heights = np.degrees(np.arcsin(points[:, 1].clip(-1, 1)))
    np.testing.assert_allclose(heights, [13.7] * 24 + [90, -90] + [-4] * 12, atol=1e-3)
    around = np.degrees(np.arctan2(points[:, 0], points[:, 2])) % 360
    np.testing.assert_allclose(around[:24], np.arange(24) * 15, atol=1e-3)
    np.testing.assert_allclose(around[26:], np.arange(12) * 30, atol=1e-3)


def test_listed_cameras_stand_where_the_recipe_says_in_its_order() -> None:
    config = CameraConfig(layout="listed", views=3, directions=((0, 0), (90, 0), (10, 90)))
    points = camera_set(config)[0][:, :3, 3] / config.radius
    np.testing.assert_allclose(points, [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layout": "rings"}, "set views to 38"),
        ({"layout": "listed"}, "needs directions"),
        ({"layout": "listed", "directions": [(0, 0), (0, 10)]}, "set views to 2"),
        ({"directions": [(0, 0)]}, "set layout to listed"),
    ],
)
def test_layouts_of_fixed_cameras_say_how_many_there_are(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CameraConfig.model_validate(values)


def test_spread_order_takes_the_farthest_point_each_time() -> None:
    points = spiral(17)
    order = spread_order(points, first=3)
    assert sorted(order) == list(range(17)) and order[0] == 3
    for count in range(1, 17):
        angles = np.arccos(np.clip(points @ points[order[:count]].T, -1, 1)).min(axis=1)
        assert angles[order[count]] == pytest.approx(angles.max(), abs=1e-6)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "point"), [(0.0, 0.0, [0, 0, 1]), (90.0, 0.0, [1, 0, 0]), (7.0, 90.0, [0, 1, 0])]
)
def test_directions_of_the_axes(azimuth: float, elevation: float, point: list[float]) -> None:
    np.testing.assert_allclose(directions(np.array(azimuth), np.array(elevation)), point, atol=1e-12)


@given(st.floats(1, 119))
def test_field_of_view_reaches_the_border(angle: float) -> None:
    edge = np.array([np.tan(np.radians(angle) / 2), 0, 1])
    np.testing.assert_allclose(intrinsics(angle) @ edge, [1, 0.5, 1], atol=1e-9)


def test_opengl_cameras_look_along_minus_z_with_y_up() -> None:
    pose = look_at(np.array([1.0, 2.0, 3.0]))
    right, up, backward = to_opengl(pose)[:3, :3].T
    np.testing.assert_allclose(right, pose[:3, 0])
    np.testing.assert_allclose(up, -pose[:3, 1])
    np.testing.assert_allclose(backward, np.array([1, 2, 3]) / np.sqrt(14))
    np.testing.assert_allclose(to_opengl(pose)[:3, 3], pose[:3, 3])


def test_blender_front_camera_is_our_front_camera() -> None:
    # Blender's front view: at -y, rotated by 90 degrees about x, +z up in the image.
    blender = np.array([[1.0, 0, 0, 0], [0, 0, -1, -3], [0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(from_blender(blender), look_at(np.array([0.0, 0.0, 3.0])), atol=1e-12)


@pytest.mark.parametrize(("there", "back"), [(to_opengl, from_opengl), (to_blender, from_blender)])
def test_conversions_round_trip(there, back) -> None:
    poses, _ = camera_set(CameraConfig(views=12))
    np.testing.assert_array_equal(back(there(poses)), poses)
    assert there(poses).dtype == np.float32
    np.testing.assert_allclose(np.linalg.det(there(poses)[:, :3, :3]), 1, atol=1e-5)
