"""Time the renderer beside a plain one written from the definition (EG3D, section 4), or beside EG3D's own.

    python benchmarks/renderer.py [--threads 2] [--repeats 5]
    python benchmarks/renderer.py --eg3d CHECKOUT [--planes FILE]

The plain peer evaluates the field at all coarse and all fine samples in fp32, with gradients through both, and
composites between mid-points; it knows nothing of depth. `--eg3d` takes EG3D's published renderer instead, on planes
fitted to an analytic scene (kept in FILE, where named), with sample counts that give equal PSNR: see
importance_renderer.py. Same fields, rays, threads, process and tuned allocator for both.

The last line is one JSON object; its `ratios` are peer / ours, of seconds and of memory (above 1: ours takes less).
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import box_interval, image_rays
from ln3d.rendering.fields import triplane_field
from ln3d.rendering.volume import Rendered, render_rays
from ln3d.runtime import available_cores, tune_allocator
from ln3d.training.precision import autocast, precision_on

OBJECTS, RAYS, CHANNELS, SIDE, IMAGE = 8, 1536, 16, 64, 64
SCALE, SHIFT = 20.0, 3.0
CONFIG = RendererConfig()
CPU = torch.device("cpu")


def plain_field(planes: Tensor, head: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Density (b n 1) and colour (b n 3) at points (b n 3), plane by plane."""
    features = 0
    for plane, axes in enumerate(((0, 1), (1, 2), (2, 0))):
        grid = points[..., axes].unsqueeze(2)
        features = features + F.grid_sample(planes[:, plane], grid, align_corners=False)[..., 0].transpose(1, 2)
    raw = head(features)
    return SCALE * F.softplus(raw[..., :1] - SHIFT), raw[..., 1:].sigmoid() * 1.002 - 0.001


def plain_march(colour: Tensor, density: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Composite (b r s c) samples by mid-points; return colour, depth and the weights of the s - 1 intervals."""
    step = distance[:, :, 1:] - distance[:, :, :-1]
    density, colour = (density[:, :, 1:] + density[:, :, :-1]) / 2, (colour[:, :, 1:] + colour[:, :, :-1]) / 2
    alpha = 1 - torch.exp(-density * step)
    left = torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha + 1e-10], dim=-2)
    weights = alpha * torch.cumprod(left, dim=-2)[:, :, :-1]
    middle = (distance[:, :, 1:] + distance[:, :, :-1]) / 2
    return (weights * colour).sum(-2) + 1 - weights.sum(-2), (weights * middle).sum(-2), weights


def plain_fine(distance: Tensor, weights: Tensor, count: int) -> Tensor:
    """Draw `count` distances (b r s 1) by inverting the cumulative weights (NeRF, section 5.2)."""
    weights = F.max_pool1d(weights.squeeze(-1), 2, 1, padding=1)
    weights = F.avg_pool1d(weights, 2, 1) + 0.01
    cumulative = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    cumulative = torch.cat([torch.zeros_like(cumulative[..., :1]), cumulative], -1)
    quantile = torch.rand(*cumulative.shape[:-1], count)
    above = torch.searchsorted(cumulative, quantile, right=True).clamp(1, weights.shape[-1])
    edges = distance.squeeze(-1)
    low, high = cumulative.gather(-1, above - 1), cumulative.gather(-1, above)
    start, end = edges.gather(-1, above - 1), edges.gather(-1, above)
    return (start + (quantile - low) / (high - low).clamp(min=1e-5) * (end - start)).unsqueeze(-1)


def plain_render(planes: Tensor, head: nn.Module, origins: Tensor, directions: Tensor) -> Rendered:
    """Render rays with all samples differentiable."""
    near, far = (value[..., None, None] for value in box_interval(origins, directions))

    def shade(distance: Tensor) -> tuple[Tensor, Tensor]:
        points = origins.unsqueeze(2) + distance * directions.unsqueeze(2)
        density, colour = plain_field(planes, head, points.flatten(1, 2))
        return density.view(distance.shape), colour.view(*distance.shape[:3], 3)

    share = (torch.arange(CONFIG.coarse)[:, None] + torch.rand(*near.shape[:2], CONFIG.coarse, 1)) / CONFIG.coarse
    coarse = near + (far - near) * share
    density, colour = shade(coarse)
    with torch.no_grad():
        fine = plain_fine(coarse, plain_march(colour, density, coarse)[2], CONFIG.fine)
    fine_density, fine_colour = shade(fine)
    distance, order = torch.cat([coarse, fine], 2).sort(dim=2)
    density = torch.cat([density, fine_density], 2).gather(2, order)
    colour = torch.cat([colour, fine_colour], 2).gather(2, order.expand(-1, -1, -1, 3))
    colour, depth, weights = plain_march(colour, density, distance)
    return Rendered(colour, weights.sum((-2, -1)), depth.squeeze(-1))


def best_of(repeats: int, contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Run the contestants in turns; return the best wall time of each, in seconds, after one round of warm-up."""
    seconds = dict.fromkeys(contestants, float("inf"))
    for turn in range(repeats + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def compare_with_plain(options: argparse.Namespace) -> dict[str, Any]:
    """Measure a training step and an image; return the report without the machine."""
    torch.manual_seed(0)
    poses, matrices = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=OBJECTS)))
    origins, directions = image_rays(poses, matrices, IMAGE)
    chosen = torch.randperm(IMAGE * IMAGE)[:RAYS]
    some = origins[:, chosen], directions[:, chosen]
    near, far = box_interval(*some)
    hint = torch.where(torch.rand(OBJECTS, RAYS) < 0.75, near + (far - near) * torch.rand(OBJECTS, RAYS), 0)
    planes = torch.randn(OBJECTS, 3, CHANNELS, SIDE, SIDE, requires_grad=True)
    hidden = [nn.Linear(CHANNELS, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU()]
    head = nn.Sequential(*hidden, nn.Linear(64, 4))
    generator = torch.Generator().manual_seed(0)

    def ours(hint: Tensor | None) -> Rendered:
        with autocast(CPU, "bf16"):
            field = triplane_field(planes, head, SCALE, SHIFT)
            return render_rays(field, *some, CONFIG, generator=generator, depth_hint=hint)

    def step(rendered: Rendered) -> None:
        sum(value.square().mean() for value in rendered).backward()

    @torch.no_grad()
    def image() -> None:
        with autocast(CPU, "bf16"):
            field = triplane_field(planes[:1], head, SCALE, SHIFT)
            render_rays(field, origins[:1], directions[:1], CONFIG, chunk=IMAGE * IMAGE)

    seconds = best_of(
        options.repeats,
        {
            "step_plain": lambda: step(plain_render(planes, head, *some)),
            "step_depth_guided": lambda: step(ours(hint)),
            "step_coarse_to_fine": lambda: step(ours(None)),
            "image_plain": torch.no_grad()(lambda: plain_render(planes[:1], head, origins[:1], directions[:1])),
            "image": image,
        },
    )
    ratios = {
        "step_depth_guided": seconds["step_plain"] / seconds["step_depth_guided"],
        "step_coarse_to_fine": seconds["step_plain"] / seconds["step_coarse_to_fine"],
        "image": seconds["image_plain"] / seconds["image"],
    }
    return {
        "peer": "plain tri-plane renderer (EG3D's definition), fp32, all samples differentiable",
        "protocol": f"{OBJECTS} objects x {RAYS} rays; {IMAGE}x{IMAGE} image; best of {options.repeats}",
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratios": {name: round(value, 2) for name, value in ratios.items()},
    }


def main() -> None:
    """Measure beside the chosen peer, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--eg3d", type=Path, help="a checkout of github.com/NVlabs/eg3d to compare with")
    parser.add_argument("--planes", type=Path, help="file of the fitted planes: read, or written where it is not there")
    for name, default in {"views": 2, "image": 64, "side": 256, "channels": 32, "fit-steps": 600}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"with --eg3d; default {default}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_allocator()
    if options.eg3d:
        from importance_renderer import compare

        report = compare(options.eg3d, options, best_of)
    else:
        report = compare_with_plain(options)
    for name, value in report["seconds"].items():
        print(f"{name:22s} {value * 1e3:8.1f} ms")
    threads, precision = f"{options.threads} threads", precision_on(CPU, "bf16")
    machine = f"{platform.machine()}, {threads}, torch {torch.__version__}, ours in {precision}"
    print(json.dumps({"benchmark": "renderer", "machine": machine, **report}))


if __name__ == "__main__":
    main()
