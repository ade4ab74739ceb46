import numpy as np
import pytest

from ln3d.data.readers.scene import Part
from ln3d.raycast.surface import PaintedSurface

SQUARE_UV = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def square(z, colour=(1, 1, 1, 1), **paint):
    """The square [-1, 1]^2 at height z, texture upright when seen from +z."""
    vertices = np.float32([[-1, -1, z], [1, -1, z], [1, 1, z], [-1, 1, z]])
    paint = {"uv": None, "colours": None, "texture": None, "cutout": False, **paint}
    return Part(vertices=vertices, faces=FACES, base_colour=np.float32(colour), **paint)


def look(parts, x, y, texel=1e-4, colours=True):
    """Look along -z from z = 5."""
    origins = np.stack([x, y, np.full_like(x, 5)], 1).astype(np.float32)
    return PaintedSurface(parts, texel).look(origins, np.tile(np.float32([0, 0, -1]), (len(x), 1)), colours)


def grid(count=8):
    side = (np.arange(count) + 0.5) / count * 2 - 1
    x, y = np.meshgrid(side, side)
    return x.reshape(-1), y.reshape(-1)


def test_the_nearest_part_is_seen():
    seen = look([square(0, (1, 0, 0, 1)), square(0.5, (0, 1, 0, 1))], *grid())
    assert seen.hit.all()
    np.testing.assert_allclose(seen.distance, 4.5, rtol=1e-6)
    np.testing.assert_allclose(seen.colour, np.tile([0, 1, 0], (64, 1)))


def test_a_ray_beside_everything_sees_nothing():
    seen = look([square(0)], np.array([1.5]), np.array([0.0]))
    assert not seen.hit.any()
    assert seen.distance[0] == 0
    assert (seen.normal == 0).all()


@pytest.mark.parametrize("turn", [1, -1])
def test_normals_face_the_viewer_whatever_the_winding(turn):
    part = square(0)
    part.faces = part.faces[:, ::turn]
    np.testing.assert_allclose(look([part], *grid()).normal, np.tile([0, 0, 1], (64, 1)))


def test_holes_of_a_cutout_show_what_is_behind():
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:, :4, 3] = 0  # the left half is a hole
    front = square(1, (1, 0, 0, 1), uv=SQUARE_UV, texture=texture, cutout=True)
    x, y = grid()
    seen = look([square(0, (0, 0, 1, 1)), front], x, y)
    left = x < 0
    np.testing.assert_allclose(seen.distance[left], 5, rtol=1e-5)
    np.testing.assert_allclose(seen.distance[~left], 4, rtol=1e-5)
    np.testing.assert_allclose(seen.colour[left], np.tile([0, 0, 1], (left.sum(), 1)), atol=1e-6)
    same = look([square(0, (0, 0, 1, 1)), front], x, y, colours=False)
    np.testing.assert_array_equal(same.distance, seen.distance)


def test_alpha_is_no_hole_where_the_part_is_no_cutout():
    texture = np.zeros((4, 4, 4), np.uint8)
    assert look([square(0, (1, 1, 1, 0.1), uv=SQUARE_UV, texture=texture)], *grid()).hit.all()


def test_endless_holes_end():
    texture = np.zeros((4, 4, 4), np.uint8)
    sheets = [square(k / 100, uv=SQUARE_UV, texture=texture, cutout=True) for k in range(40)]
    assert not look(sheets, *grid()).hit.any()


def test_vertex_colours_are_interpolated_and_multiplied_by_the_base_colour():
    colours = np.float32([[0, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1]])
    x, y = grid()
    seen = look([square(0, (0.5, 1, 1, 1), colours=colours)], x, y)
    np.testing.assert_allclose(seen.colour, np.stack([(x + 1) / 4, (y + 1) / 2, 0 * x], 1), atol=1e-5)


def test_a_texture_lies_upright_on_the_surface():
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:4, :, 1:3] = 0  # the upper rows are red
    x, y = grid()
    seen = look([square(0, uv=SQUARE_UV, texture=texture)], x, y)
    np.testing.assert_allclose(seen.colour[y > 0.2], np.tile([1, 0, 0], ((y > 0.2).sum(), 1)), atol=1e-6)
    np.testing.assert_allclose(seen.colour[y < -0.2], 1, atol=1e-6)


def test_a_texture_finer_than_the_samples_is_averaged():
    texture = np.full((256, 256, 4), 255, np.uint8)
    texture[(np.indices((256, 256)).sum(0) % 2) == 0, :3] = 0
    part = square(0, uv=SQUARE_UV, texture=texture)
    np.testing.assert_allclose(look([part], *grid(), texel=0.25).colour, 0.5, atol=0.01)
    assert np.ptp(look([part], *grid(13), texel=1e-4).colour) > 0.5


def test_no_triangles_at_all():
    assert not look([], *grid()).hit.any()
