"""A scene of boxes and balls that fills a third of the box, and tri-planes fitted to it.

The scene is a formula, so that everybody who measures with it measures the same; the planes are what a renderer sees.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ln3d.rendering.fields import Field, triplane_field

CHANNELS, SIDE, HIDDEN = 32, 256, 64
SCALE, SHIFT = 1.0, 1.0  # EG3D's density: softplus(raw - 1)
BOXES = (  # centre and half sides
    ((0.0, -0.75, 0.0), (0.9, 0.15, 0.9)),
    ((0.4, 0.2, 0.45), (0.4, 0.7, 0.35)),
    ((-0.45, 0.5, -0.45), (0.35, 0.35, 0.35)),
)
BALLS = (((-0.35, -0.1, 0.3), 0.5), ((0.45, -0.2, -0.35), 0.4))  # centre and radius
DENSITY, SKIN = 60.0, 0.02  # inside, and over how many world units it rises to that


def depth_inside(points: Tensor) -> Tensor:
    """Return how deep points (... 3) are in the scene: the distance to its surface, negative outside."""
    depths = []
    for centre, half in BOXES:
        beyond = (points - points.new_tensor(centre)).abs() - points.new_tensor(half)
        depths.append(-beyond.clamp(min=0).norm(dim=-1) - beyond.amax(dim=-1).clamp(max=0))
    for middle, radius in BALLS:
        depths.append(radius - (points - points.new_tensor(middle)).norm(dim=-1))
    return torch.stack(depths).amax(dim=0)


def scene(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return density per world unit and colour of points (... 3): a field."""
    density = DENSITY * (depth_inside(points) / SKIN).clamp(0, 1)
    waves = points @ points.new_tensor([[3.0, 1.0, -2.0], [-1.0, 4.0, 1.0], [2.0, -2.0, 5.0]])
    return density, 0.5 + 0.4 * waves.sin()


def occupied_share(field: Field, threshold: float, points: int = 400_000) -> float:
    """Return the share of the scene box where `field` is denser than `threshold`."""
    where = 2 * torch.rand(1, points, 3, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        return float((field(where)[0] > threshold).float().mean())


def fitted(steps: int, side: int = SIDE, channels: int = CHANNELS) -> tuple[Tensor, nn.Sequential]:
    """Return planes (1 3 c side side) and a head (c -> 4) fitted to the scene at random points, coarse to fine."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    planes = 0.1 * torch.randn(1, 3, channels, side // 4, side // 4, generator=generator)
    head = nn.Sequential(nn.Linear(channels, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 4))
    with torch.no_grad():
        head[2].weight[0] *= 40  # raw density goes from far below 0 to DENSITY; a small start ends in an empty box
    for share, rate in ((0.7, 2e-2), (0.3, 5e-3)):
        planes = planes.detach().requires_grad_()
        optimiser = torch.optim.Adam([{"params": [planes], "lr": rate}, {"params": head.parameters(), "lr": rate / 4}])
        for _ in range(int(steps * share)):
            optimiser.zero_grad()
            _fit_loss(planes, head, generator).backward()
            optimiser.step()
        planes = F.interpolate(planes.detach()[0], size=(side, side), mode="bilinear", align_corners=False)[None]
    return planes.contiguous(), head.requires_grad_(False)


def _fit_loss(planes: Tensor, head: nn.Module, generator: torch.Generator) -> Tensor:
    points = 2 * torch.rand(1, 12_000, 3, generator=generator) - 1
    # As many again along the surface: candidates that are within a twentieth of it.
    near = 2 * torch.rand(1, 40_000, 3, generator=generator) - 1
    points = torch.cat([points, near[:, depth_inside(near)[0].abs() < 0.05]], dim=1)
    density, colour = triplane_field(planes, head, SCALE, SHIFT)(points)
    wanted, painted = scene(points)
    inside = depth_inside(points)
    opacity = (torch.exp(-0.05 * density) - torch.exp(-0.05 * wanted)).square().mean()
    empty = torch.where(inside < -SKIN, (density + 1e-6).log() - torch.tensor(1e-3).log(), 0).clamp(min=0)
    paint = ((colour - painted).square().mean(dim=-1) * (inside > -SKIN)).mean()
    return opacity + paint + 0.01 * empty.square().mean()


def open_fitted(path: Path | None, steps: int, side: int, channels: int) -> tuple[Tensor, nn.Sequential]:
    """Return what `fitted` does, read from the file `path` where it is there and else written to it."""
    head = nn.Sequential(nn.Linear(channels, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, 4)).requires_grad_(False)
    if path is not None and path.is_file():
        tensors = load_file(path)
        planes = tensors.pop("planes").clone()
        head.load_state_dict(tensors)
        return planes, head
    planes, head = fitted(steps, side, channels)
    if path is not None:
        save_file({"planes": planes, **head.state_dict()}, path)
    return planes, head
