import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.config.render import CameraConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays, pixel_rays, pluecker

coordinate = st.floats(-3, 3, allow_subnormal=False)
point = st.tuples(coordinate, coordinate, coordinate)
seed = st.integers(0, 2**32)


def _cameras(views: int) -> tuple[torch.Tensor, torch.Tensor]:
    poses, matrices = camera_set(CameraConfig(views=views))
    return torch.from_numpy(poses).double(), torch.from_numpy(matrices).double()


def test_ray_through_the_centre_is_the_optical_axis() -> None:
    poses, matrices = _cameras(5)
    origins, directions = pixel_rays(poses, matrices, torch.full((5, 1, 2), 32.0).double(), size=64)
    torch.testing.assert_close(directions[:, 0], poses[:, :3, 2])
    torch.testing.assert_close(origins[:, 0], poses[:, :3, 3])


@given(seed)
def test_points_on_a_ray_project_back_to_its_pixel(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    poses, matrices = _cameras(3)
    pixels = torch.rand(3, 7, 2, generator=generator, dtype=torch.float64) * 48
    origins, directions = pixel_rays(poses, matrices, pixels, size=48)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, 7).double())
    world = origins + directions * (0.1 + 9 * torch.rand(3, 7, 1, generator=generator, dtype=torch.float64))
    local = torch.einsum("bij,brj->bri", poses.inverse()[:, :3, :3], world - poses[:, None, :3, 3])
    image = torch.einsum("bij,brj->bri", matrices, local / local[..., 2:])
    torch.testing.assert_close(image[..., :2] * 48, pixels)


def test_image_rays_are_the_pixel_centres_row_by_row() -> None:
    poses, matrices = _cameras(2)
    _, directions = image_rays(poses, matrices, size=4)
    row, column = 1, 2
    pixel = torch.tensor([[[column + 0.5, row + 0.5]]]).double().expand(2, 1, 2)
    torch.testing.assert_close(directions[:, row * 4 + column], pixel_rays(poses, matrices, pixel, size=4)[1][:, 0])
    right, down = poses[:, None, :3, 0], poses[:, None, :3, 1]
    grid = directions.reshape(2, 4, 4, 3)
    assert ((grid[:, :, 3] - grid[:, :, 0]) * right).sum(-1).min() > 0
    assert ((grid[:, 3] - grid[:, 0]) * down).sum(-1).min() > 0


@given(seed)
def test_pluecker_identifies_the_line(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    origins, directions, along = torch.randn(3, 6, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    coordinates = pluecker(origins, directions)
    torch.testing.assert_close(pluecker(origins + along[:, :1] * directions, directions), coordinates)
    moment, direction = coordinates.split(3, dim=-1)
    torch.testing.assert_close((moment * direction).sum(-1), torch.zeros(6).double(), atol=1e-12, rtol=0)
    distance = (origins - (origins * directions).sum(-1, keepdim=True) * directions).norm(dim=-1)
    torch.testing.assert_close(moment.norm(dim=-1), distance)


@given(point, point.filter(lambda direction: np.linalg.norm(direction) > 1e-2))
def test_box_interval_agrees_with_walking_along_the_ray(origin: tuple, direction: tuple) -> None:
    origins = torch.tensor(origin, dtype=torch.float64)
    directions = torch.tensor(direction, dtype=torch.float64)
    directions = directions / directions.norm()
    near, far = box_interval(origins, directions)
    steps = torch.linspace(0, 12, 3001, dtype=torch.float64)
    reach = (origins + steps[:, None] * directions).abs().amax(dim=-1)
    assert 0 <= near <= far
    within = (steps > near + 1e-9) & (steps < far - 1e-9)
    outside = (steps < near - 1e-9) | (steps > far + 1e-9)
    assert (reach[within] <= 1 + 1e-9).all()
    assert (reach[outside] >= 1 - 1e-9).all()


def test_box_interval_of_misses_and_of_rays_that_have_left_is_empty() -> None:
    origins = torch.tensor([[3.0, 0, 0], [3, 0, 0], [0, 5, 0], [0.5, 0, 0], [2, 0, -3]])
    directions = torch.tensor([[0.0, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])
    near, far = box_interval(origins, directions)
    assert near.tolist() == [0, 0, 0, 0, 0]
    assert far.tolist() == [0, 0, 0, 0.5, 0]
    assert box_interval(origins, directions, half=2.5)[1].tolist() == [0, 0, 0, 2, 5.5]
