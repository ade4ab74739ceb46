"""Unprojected views on the three planes: where a point lands, with what, and what of many points is kept."""

import math

import numpy as np
import pytest
import torch

from ln3d.geometry.cameras import intrinsics, look_at, spiral
from ln3d.geometry.planes import sample_planes
from ln3d.models.lifting import lift, lifted_channels
from ln3d.models.views import Views

RESOLUTION, SLABS = 8, 6
PLANES = {"xy": (0, 1, 2), "yz": (1, 2, 0), "zx": (2, 0, 1)}  # column, row and height


def _one_point(point: tuple[float, float, float], colour: tuple[float, float, float]) -> Views:
    """Return a view whose middle pixel alone hits something: `point`."""
    eye, side = np.array([1.5, 2.0, 2.5]), 5
    image, depth = torch.ones(1, 1, 3, side, side), torch.zeros(1, 1, side, side)
    image[0, 0, :, 2, 2] = torch.tensor(colour)
    depth[0, 0, 2, 2] = float(np.linalg.norm(np.array(point) - eye))
    pose = torch.from_numpy(look_at(eye, target=point)).float()
    return Views(image, depth, pose[None, None], torch.from_numpy(intrinsics(40.0)).float()[None, None])


def _random_views(objects: int, count: int, side: int) -> Views:
    numbers = torch.Generator().manual_seed(3)
    poses = torch.from_numpy(look_at(spiral(objects * count) * 3.0)).float().reshape(objects, count, 4, 4)
    depth = 2.2 + 1.6 * torch.rand(objects, count, side, side, generator=numbers)
    depth[torch.rand(depth.shape, generator=numbers) < 0.3] = 0
    colour = torch.rand(objects, count, 3, side, side, generator=numbers)
    matrices = torch.from_numpy(intrinsics(36.0)).float().expand(objects, count, 3, 3)
    return Views(colour, depth, poses, matrices)


@pytest.mark.parametrize("point", [(0.3, -0.6, 0.55), (-0.9, 0.1, -0.4)])
def test_a_point_lands_where_its_coordinates_say_with_its_colour_and_height(point: tuple[float, float, float]) -> None:
    colour = (0.2, 0.6, 0.9)
    planes = lift(_one_point(point, colour), RESOLUTION, chroma_gain=1.0, slabs=SLABS)[0]
    assert planes.shape == (3, lifted_channels(SLABS), RESOLUTION, RESOLUTION)
    for plane, (column, row, up) in zip(planes, PLANES.values(), strict=True):
        x, y = (math.floor((point[axis] + 1) * RESOLUTION / 2) for axis in (column, row))
        seen = [2 * c - 1 for c in colour] + [point[up]]
        slabs = torch.zeros(SLABS, 4)
        slabs[math.floor((point[up] + 1) * SLABS / 2)] = torch.tensor([*seen[:3], 1.0])
        expected = torch.tensor([*seen, *seen, 1.0, math.log(2) / 4, *slabs.flatten()])
        torch.testing.assert_close(plane[:, y, x], expected, atol=1e-5, rtol=0)
        elsewhere = plane.clone()
        elsewhere[:, y, x] = 0
        assert not elsewhere.any()


def test_lifted_planes_are_laid_out_like_those_that_are_rendered() -> None:
    point = (0.3125, -0.6875, 0.5625)  # off every cell border
    planes = lift(_one_point(point, (0.5, 0.5, 0.5)), RESOLUTION, chroma_gain=1.0)[:, :, 8:9]
    centre = (torch.tensor(point).add(1).mul(RESOLUTION / 2).floor() + 0.5) / (RESOLUTION / 2) - 1
    for plane in range(3):
        alone = torch.zeros_like(planes)
        alone[:, plane] = planes[:, plane]
        assert sample_planes(alone, centre[None, None]).item() == pytest.approx(1.0, abs=1e-5)


def test_it_equals_a_slow_loop_over_points_and_planes() -> None:
    views = _random_views(objects=2, count=3, side=6)
    points = views.points().reshape(2, -1, 3).numpy()
    colours = 2 * views.stretched_colour(1.5).permute(0, 1, 3, 4, 2).reshape(2, -1, 3).double().numpy() - 1
    hit = (views.depth > 0).reshape(2, -1).numpy()
    sums = np.zeros((2, 3, 11, RESOLUTION, RESOLUTION))
    slabs = np.zeros((2, 3, SLABS, 4, RESOLUTION, RESOLUTION))
    for b in range(2):
        for point, colour in zip(points[b][hit[b]], colours[b][hit[b]], strict=True):
            if np.abs(point).max() >= 1:
                continue
            for p, (column, row, up) in enumerate(PLANES.values()):
                x, y = (int((point[axis] + 1) * np.float32(RESOLUTION / 2)) for axis in (column, row))
                front, back = math.exp(12 * point[up]), math.exp(-12 * point[up])
                value = np.array([*colour, point[up]])
                sums[b, p, :, y, x] += np.concatenate([front * value, [front], back * value, [back], [1]])
                slabs[b, p, int((point[up] + 1) * np.float32(SLABS / 2)), :, y, x] += [*colour, 1]
    filled = sums[:, :, 10:] > 0
    amounts = slabs[:, :, :, 3:]
    between = np.concatenate([slabs[:, :, :, :3] / amounts.clip(1), amounts > 0], axis=3)
    expected = np.concatenate(
        [
            np.divide(sums[:, :, :4], sums[:, :, 4:5], out=np.zeros_like(sums[:, :, :4]), where=filled),
            np.divide(sums[:, :, 5:9], sums[:, :, 9:10], out=np.zeros_like(sums[:, :, :4]), where=filled),
            filled,
            np.log1p(sums[:, :, 10:]) / 4,
            between.reshape(2, 3, 4 * SLABS, RESOLUTION, RESOLUTION),
        ],
        axis=2,
    )
    assert filled.sum() > 100
    assert (amounts > 1).any()
    np.testing.assert_allclose(lift(views, RESOLUTION, chroma_gain=1.5, slabs=SLABS).numpy(), expected, atol=2e-4)


def test_the_outermost_surface_wins() -> None:
    near, far = (_one_point((0.1, 0.1, z), (z, z, z)) for z in (0.8, 0.2))
    both = Views(*(torch.cat([getattr(v, name) for v in (near, far)], dim=1) for name in near.__dataclass_fields__))
    xy = lift(both, RESOLUTION, chroma_gain=1.0)[0, 0]
    cell = xy[:, 4, 4]
    assert cell[3].item() == pytest.approx(0.8, abs=2e-3)
    assert cell[7].item() == pytest.approx(0.2, abs=2e-3)
    assert cell[9].item() == pytest.approx(math.log(3) / 4)


def test_slabs_show_what_lies_between_the_outermost_surfaces() -> None:
    heights = (-0.8, 0.1, 0.8)
    points = [_one_point((0.1, 0.1, z), (z / 2 + 0.5, 0.0, 0.0)) for z in heights]
    together = Views(*(torch.cat([getattr(v, n) for v in points], dim=1) for n in points[0].__dataclass_fields__))
    xy = lift(together, RESOLUTION, chroma_gain=1.0, slabs=SLABS)[0, 0]
    red, occupied = xy[10::4, 4, 4], xy[13::4, 4, 4]
    torch.testing.assert_close(red, torch.tensor([-0.8, 0, 0, 0.1, 0, 0.8]), atol=1e-5, rtol=0)
    assert occupied.tolist() == [1, 0, 0, 1, 0, 1]
    torch.testing.assert_close(xy[:10], lift(together, RESOLUTION, chroma_gain=1.0)[0, 0])


def test_the_order_of_the_views_does_not_matter_and_objects_do_not_meet() -> None:
    views = _random_views(objects=2, count=3, side=6)
    planes = lift(views, RESOLUTION, chroma_gain=1.0, slabs=SLABS)
    turned = Views(*(getattr(views, name).flip(1) for name in views.__dataclass_fields__))
    torch.testing.assert_close(lift(turned, RESOLUTION, chroma_gain=1.0, slabs=SLABS), planes, atol=1e-4, rtol=1e-4)
    alone = Views(*(getattr(views, name)[1:] for name in views.__dataclass_fields__))
    torch.testing.assert_close(lift(alone, RESOLUTION, chroma_gain=1.0, slabs=SLABS), planes[1:], atol=1e-5, rtol=1e-5)


def test_background_and_what_is_outside_the_box_leave_no_trace() -> None:
    views = _random_views(objects=1, count=2, side=4)
    for depth in (torch.zeros_like(views.depth), torch.full_like(views.depth, 9.0)):
        empty = Views(views.colour, depth, views.camera_to_world, views.intrinsics)
        assert not lift(empty, RESOLUTION, chroma_gain=1.0, slabs=SLABS).any()
