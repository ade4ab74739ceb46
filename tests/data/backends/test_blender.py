"""The pictures, where Blender is installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import trimesh

from ln3d.config.render import CameraConfig
from ln3d.data.backends import blender
from ln3d.data.readers.scene import Part, Scene
from ln3d.data.views import draw as cast
from ln3d.geometry.cameras import camera_set, intrinsics, look_at

pytestmark = [
    pytest.mark.usefixtures("fresh_blender"),
    pytest.mark.skipif(find_spec("bpy") is None, reason="needs Blender: pip install 'ln3d[blender]'"),
]
SIZE = 32
WHITE = (1, 1, 1)


def painted(mesh, colour=WHITE, **rest):
    vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int64)
    fields = {"uv": None, "colours": None, "texture": None} | rest
    return Part(vertices, faces, base_colour=np.float32([*colour, 1]), **fields)


def sphere(colour=WHITE):
    return Scene([painted(trimesh.creation.icosphere(subdivisions=5, radius=0.9), colour)])


def cameras(views=4):
    return camera_set(CameraConfig(views=views))


def on_white(views):
    rgba = views.colour.astype(float) / 255
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def psnr(a, b):
    return -10 * np.log10(np.square(a - b).mean())


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def room():
    """A scene whose colours tell where they are, with a texture that repeats and holes to look through."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.3).apply_translation([0.2, 0.1, -0.2])
    places = np.concatenate([np.asarray(ball.vertices) / 2 + 0.5, np.ones((len(ball.vertices), 1))], 1)
    checks = np.zeros((4, 4, 4), np.uint8)
    checks[:2, :2], checks[2:, 2:] = (200, 40, 90, 255), (20, 140, 60, 255)
    square = trimesh.Trimesh(
        [[-0.6, -0.5, 0.3], [0.6, -0.5, 0.3], [0.6, 0.5, 0.3], [-0.6, 0.5, 0.3]], [[0, 1, 2], [0, 2, 3]]
    )
    floor = trimesh.creation.box([1.2, 0.1, 1.2]).apply_translation([0, -0.55, 0])
    uv = np.float32([[0, 0], [3, 0], [3, 2], [0, 2]])
    return Scene(
        [
            painted(ball, colours=places.astype(np.float32)),
            painted(square, (1, 0.8, 1), uv=uv, texture=checks, cutout=True),
            painted(floor, (0.2, 0.4, 0.6)),
        ]
    )


def around():
    poses = look_at(np.array([[1, 0.7, 3], [-1.5, 1, 2.5], [1.5, -1, -2.5]])).astype(np.float32)
    return poses, np.stack([intrinsics(36.0).astype(np.float32)] * 3)


def test_albedo_agrees_with_the_ray_caster():
    poses, matrices = around()
    views = blender.draw(room(), poses, matrices, 64, 8, "albedo")
    other = cast(room(), poses, matrices, 64, 8, "albedo")
    assert psnr(on_white(views), on_white(other)) > 40
    coverage = (views.colour[..., 3] / 255, other.colour[..., 3] / 255)
    assert np.abs(coverage[0] - coverage[1]).mean() < 3e-3
    assert iou(*(c >= 0.5 for c in coverage)) > 0.99
    np.testing.assert_array_equal(views.depth, other.depth)
    np.testing.assert_array_equal(views.normal, other.normal)


def test_albedo_is_the_exact_colour_and_a_second_time_the_same():
    views = [blender.draw(sphere((0.2, 0.4, 0.6)), *cameras(), SIZE, lighting="albedo") for _ in range(2)]
    covered = views[0].colour[..., 3] > 0
    assert (views[0].colour[covered][:, :3] == [51, 102, 153]).all()
    assert (views[0].colour[~covered] == 0).all()
    np.testing.assert_array_equal(views[0].colour, views[1].colour)


def test_the_principal_point_and_the_focal_lengths_are_the_cameras():
    pose = look_at(np.array([1.0, 0.7, 3.0])).astype(np.float32)[None]
    for fx, fy, cx, cy in ((1.5, 1.5, 0.4, 0.55), (1.2, 1.6, 0.5, 0.45), (1.6, 1.2, 0.55, 0.6)):
        matrix = np.float32([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]])
        views, other = (draw(room(), pose, matrix, 64, 8, "albedo") for draw in (blender.draw, cast))
        assert psnr(on_white(views), on_white(other)) > 38


def test_the_rig_is_as_bright_as_the_ray_casters_and_clips_nothing():
    views, other = (draw(sphere(), *cameras(6), SIZE) for draw in (blender.draw, cast))
    full = (views.colour[..., 3] == 255) & (other.colour[..., 3] == 255)
    mine, theirs = views.colour[full][:, :3].astype(float), other.colour[full][:, :3].astype(float)
    assert np.median(mine) == pytest.approx(np.median(theirs), rel=0.05)
    assert np.sqrt(np.square(mine - theirs).mean()) < 0.05 * 255
    assert mine.max() < 250
    assert mine.min() > 90


def test_the_rig_puts_no_seam_around_holes():
    square = Scene([room().parts[1]])
    poses, matrices = around()
    views, other = (draw(square, poses[:2], matrices[:2], 64, 4) for draw in (blender.draw, cast))
    solid = (views.colour[..., 3] > 200) & (other.colour[..., 3] > 200)
    off = views.colour[solid][:, :3].astype(float) - other.colour[solid][:, :3]
    assert np.abs(off).max() < 25
    assert np.abs(off).mean() < 10


def test_the_rig_draws_the_same_bytes_in_another_process():
    views = []
    for _ in range(2):
        views.append(blender.draw(room(), *cameras(2), SIZE))
        blender.stop()
    np.testing.assert_array_equal(views[0].colour, views[1].colour)


def test_white_walls_are_not_clipped():
    # Three walls of a corner that opens towards the strongest lamp: light goes back and forth between them.
    box = trimesh.creation.box([1, 1, 1])
    towards = np.array([0.5, 0.75, 0.65])
    walls = trimesh.Trimesh(box.vertices, box.faces[(box.face_normals < -0.5).any(1)])
    pose = look_at(3.2 * towards / np.linalg.norm(towards)).astype(np.float32)[None]
    views = blender.draw(Scene([painted(walls)]), pose, intrinsics(36.0).astype(np.float32)[None], SIZE)
    inside = views.colour[views.colour[..., 3] == 255]
    assert len(inside) > 100
    assert inside[:, :3].max() < 255


def test_faces_that_lie_twice_cast_no_shadow_on_themselves():
    def top(copies):
        plate = trimesh.creation.box([1.2, 0.1, 1.2])
        part = painted(plate, (0.5, 0.5, 0.5))
        part.faces = np.concatenate([part.faces, part.faces[:, ::-1]][:copies])
        views = blender.draw(Scene([part]), *camera_set(CameraConfig(views=1, layout="orbit", elevation=60.0)), SIZE)
        return views.colour[(views.normal[..., 1] > 0.9) & (views.colour[..., 3] == 255)][:, :3]

    once, twice = top(1), top(2)
    assert once.mean() > 100
    assert np.abs(once.mean(0) - twice.mean(0)).max() < 2
    assert twice.std() < once.std() + 2


def test_what_stands_in_the_light_casts_a_shadow():
    floor = trimesh.creation.box([1.4, 0.05, 1.4]).apply_translation([0, -0.4, 0])
    wall = trimesh.creation.box([0.9, 0.7, 0.05]).apply_translation([0, 0, 0.1])
    pose, matrix = camera_set(CameraConfig(views=1, layout="orbit", elevation=70.0))

    def darkest_to_brightest(draw):
        views = draw(Scene([painted(floor), painted(wall)]), pose, matrix, SIZE)
        ground = (views.normal[..., 1] > 0.9) & (views.colour[..., 3] == 255) & (views.depth > 3.2)
        low, high = np.percentile(views.colour[ground][:, 0], [10, 90])
        return low / high

    assert darkest_to_brightest(cast) > 0.93
    assert darkest_to_brightest(blender.draw) < 0.75
