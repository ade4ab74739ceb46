import numpy as np
import pytest
import trimesh

from ln3d.config.render import CameraConfig
from ln3d.data import views as views_module
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import draw
from ln3d.geometry.cameras import camera_set, intrinsics, look_at
from ln3d.raycast.lighting import brightness

SIZE = 32
K = intrinsics(36.0).astype(np.float32)


def painted(mesh, colour):
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    return Part(vertices, faces, None, None, np.float32([*colour, 1]), None)


def cube(centre, colour, size=0.3):
    mesh = trimesh.creation.box([size] * 3)
    return painted(mesh.apply_translation(centre), colour)


@pytest.fixture(scope="module")
def sphere():
    return Scene([painted(trimesh.creation.icosphere(subdivisions=5, radius=0.9), (0.2, 0.4, 0.6))])


@pytest.fixture(scope="module")
def cameras():
    return camera_set(CameraConfig(views=6))


def rays(pose, size):
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    local = np.stack([(x / size - 0.5) / K[0, 0], (y / size - 0.5) / K[1, 1], np.ones_like(x)], -1)
    world = local @ pose[:3, :3].T.astype(np.float64)
    return pose[:3, 3].astype(np.float64), world / np.linalg.norm(world, axis=-1, keepdims=True)


def test_a_sphere_is_where_the_formula_says(sphere, cameras):
    poses, matrices = cameras
    views = draw(sphere, poses, matrices, SIZE)
    for pose, depth, normal in zip(poses, views.depth, views.normal, strict=True):
        origin, direction = rays(pose, SIZE)
        along = -(direction @ origin)
        closest = np.sqrt(np.maximum(origin @ origin - along**2, 0))
        inside, outside = closest < 0.88, closest > 0.9
        assert ((depth > 0) | ~inside).all()
        assert ((depth == 0) | ~outside).all()
        distance = along - np.sqrt(np.maximum(0.81 - closest**2, 0))
        np.testing.assert_allclose(depth[inside], distance[inside], atol=4e-3)
        outward = (origin + distance[..., None] * direction)[inside] / 0.9
        assert ((normal[inside] * outward).sum(-1) > np.cos(np.radians(4))).all()
        assert (normal[depth == 0] == 0).all()


def test_coverage_is_the_share_of_the_disc(sphere):
    pose = look_at(np.array([0, 0, 3.2])).astype(np.float32)
    views = draw(sphere, pose[None], K[None], SIZE, supersampling=4)
    radius = 0.9 / np.sqrt(3.2**2 - 0.9**2) * K[0, 0] * SIZE  # of the sphere's outline, in pixels
    assert views.colour[0, ..., 3].sum() / 255 == pytest.approx(np.pi * radius**2, rel=5e-3)


def test_colours_are_not_darkened_at_the_outline(sphere, cameras):
    views = draw(sphere, *cameras, SIZE, lighting="albedo")
    covered = views.colour[..., 3] > 0
    assert (views.colour[covered][:, :3] == [51, 102, 153]).all()
    assert (views.colour[~covered] == 0).all()


@pytest.mark.parametrize("supersampling", [1, 3])
def test_depth_and_normal_are_those_of_the_pixels_centre(sphere, cameras, supersampling):
    # With an odd number the centre is one of the samples that colour is drawn with, with an even one it is another.
    views, other = (draw(sphere, *cameras, SIZE, supersampling=count) for count in (supersampling, 2))
    np.testing.assert_array_equal(views.depth, other.depth)
    np.testing.assert_array_equal(views.normal, other.normal)


def test_colour_is_the_mean_of_the_samples_that_hit(cameras):
    scene = Scene([cube((0.3, 0, 0), (1, 0.5, 0), 0.8), cube((-0.3, 0.1, 0.2), (0, 0.25, 1), 0.7)])
    fine = draw(scene, *cameras, 3 * SIZE, supersampling=1, lighting="albedo").colour
    samples = fine.reshape(-1, SIZE, 3, SIZE, 3, 4).swapaxes(2, 3).reshape(-1, SIZE, SIZE, 9, 4).astype(float)
    covered = (samples[..., 3:] > 0).sum(axis=-2)
    mean = samples[..., :3].sum(axis=-2) / np.maximum(covered, 1)
    views = draw(scene, *cameras, SIZE, supersampling=3, lighting="albedo")
    np.testing.assert_array_equal(views.colour[..., 3], np.rint(covered[..., 0] / 9 * 255))
    assert np.abs(views.colour[..., :3] - mean).max() <= 1


def test_the_rig_scales_the_surface_colour(sphere, cameras):
    views = draw(sphere, *cameras, SIZE, supersampling=1)
    solid = views.depth > 0
    expected = np.float32([0.2, 0.4, 0.6]) * brightness(views.normal[solid])[:, None] * 255
    assert np.abs(views.colour[solid][:, :3] - expected).max() <= 1


@pytest.mark.parametrize(
    ("eye", "right", "top"),
    [((0, 0, 3.2), "x", "y"), ((0, 0, -3.2), "-x", "y"), ((3.2, 0, 0), "-z", "y"), ((0, 0, 3.2), "x", "y")],
)
def test_up_is_up_and_right_is_right(eye, right, top):
    axes = {"x": (1, 0, 0), "-x": (-1, 0, 0), "y": (0, 1, 0), "-z": (0, 0, -1)}
    scene = Scene([cube(0.6 * np.array(axes[right]), (1, 0, 0)), cube(0.6 * np.array(axes[top]), (0, 1, 0))])
    pose = look_at(np.array(eye, float)).astype(np.float32)
    colour = draw(scene, pose[None], K[None], SIZE, lighting="albedo").colour[0].astype(int)
    rows, columns = np.nonzero(colour[..., 0] > 200)
    assert columns.min() > SIZE / 2
    assert abs(rows.mean() - (SIZE - 1) / 2) < 1
    rows, columns = np.nonzero(colour[..., 1] > 200)
    assert rows.max() < SIZE / 2
    assert abs(columns.mean() - (SIZE - 1) / 2) < 1


def test_a_point_looks_the_same_from_everywhere():
    scene = Scene([cube((0, 0, 0), (0.7, 0.7, 0.7), size=0.9)])
    poses = look_at(np.array([[0.5, 3, 0], [-0.5, 3, 0.7], [0, 3, -1.0]])).astype(np.float32)
    views = draw(scene, poses, np.stack([K] * 3), SIZE)
    top = (views.normal[..., 1] > 0.99) & (views.colour[..., 3] == 255)
    assert np.ptp([views.colour[v][top[v]].mean(0)[:3] for v in range(3)], axis=0).max() < 3


def test_bands_and_windows_change_nothing(sphere, cameras, monkeypatch):
    whole = draw(Scene([cube((0.3, 0.2, 0), (1, 0, 0))]), *cameras, SIZE)
    monkeypatch.setattr(views_module, "_RAYS_AT_ONCE", 200)
    bands = draw(Scene([cube((0.3, 0.2, 0), (1, 0, 0))]), *cameras, SIZE)
    monkeypatch.setattr(views_module, "_windows", lambda *_: [(slice(0, SIZE), slice(0, SIZE))])
    full = draw(Scene([cube((0.3, 0.2, 0), (1, 0, 0))]), *cameras, SIZE)
    for other in (bands, full):
        np.testing.assert_array_equal(whole.colour, other.colour)
        np.testing.assert_array_equal(whole.depth, other.depth)
        np.testing.assert_array_equal(whole.normal, other.normal)


def test_a_camera_inside_the_object_sees_it_all_around(sphere):
    pose = look_at(np.array([0, 0, 0.5])).astype(np.float32)
    assert (draw(sphere, pose[None], K[None], SIZE).depth > 0).all()
