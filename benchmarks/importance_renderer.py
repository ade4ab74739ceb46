"""Our renderer beside EG3D's importance renderer, at equal PSNR: `renderer.py --eg3d PATH` runs this.

Both see the same planes through the same head. The peer works as published: fp32, 48 + 48 jittered samples, gradients
through all of them. Of ours, the cheapest row of a ladder of sample counts is timed that comes at least as near to the
quadrature with 1024 samples. PATH is a checkout of github.com/NVlabs/eg3d; nothing of it is kept here.
"""

import contextlib
import copy
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from analytic_scene import SCALE, SHIFT, occupied_share, open_fitted, scene
from torch import Tensor, nn
from torch.nn import functional as F

from ln3d.config.render import CameraConfig
from ln3d.config.vae import RendererConfig
from ln3d.geometry.cameras import camera_set
from ln3d.geometry.rays import image_rays
from ln3d.rendering.fields import triplane_field
from ln3d.rendering.frozen import frozen_field
from ln3d.rendering.occupancy import THRESHOLD, occupancy_grid
from ln3d.rendering.volume import render_rays
from ln3d.runtime import tune_allocator
from ln3d.training.precision import autocast

QUADRATURE = RendererConfig(coarse=1024, fine=0)
PEER_SAMPLES = (48, 48)
CPU = torch.device("cpu")
LADDERS = {  # coarse and fine samples, cheapest first
    "forward": ((12, 8), (16, 8), (16, 12), (24, 12), (24, 16), (32, 16), (32, 24), (48, 24), (48, 48), (64, 64)),
    "forward_backward": ((24, 12), (24, 16), (32, 16), (32, 20), (32, 24), (48, 24), (48, 32), (48, 48), (64, 64)),
    "pruned": tuple((1, fine) for fine in (4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)),
}
Rays = tuple[Tensor, Tensor]


class Ours:
    """The three ways of rendering that are timed; each gets rays (1 r 3) and (coarse, fine), and returns colours."""

    def __init__(self, planes: Tensor, head: nn.Sequential) -> None:
        """Take the planes as a decoder gives them; the peer's mean over the planes goes into the first layer."""
        self.planes, self.head = planes.clone().requires_grad_(), copy.deepcopy(head)
        self.head[0].weight.div_(planes.shape[1])
        self.head.requires_grad_()
        self.generator = torch.Generator().manual_seed(0)
        self.frozen: Any = None
        self.grid: Any = None

    def prepare(self) -> None:
        """Make what pruned rendering keeps from one picture of an object to the next."""
        with torch.no_grad(), autocast(CPU, "bf16"):
            self.frozen = frozen_field(self.planes, self.head, SCALE, SHIFT)
            self.grid = occupancy_grid(self.frozen, 1)

    @torch.no_grad()
    def forward(self, rays: Rays, samples: tuple[int, int], chunk: int = 4096) -> Tensor:
        with autocast(CPU, "bf16"):
            field = frozen_field(self.planes, self.head, SCALE, SHIFT)
            return render_rays(field, *rays, _config(samples), chunk=chunk).colour

    def forward_backward(self, rays: Rays, samples: tuple[int, int]) -> Tensor:
        with autocast(CPU, "bf16"):
            field = triplane_field(self.planes, self.head, SCALE, SHIFT)
            search = frozen_field(self.planes, self.head, SCALE, SHIFT)
            jitter = self.generator
            colour = render_rays(field, *rays, _config(samples), generator=jitter, search=search).colour
        return _backward(colour, self.planes, self.head)

    @torch.no_grad()
    def pruned(self, rays: Rays, samples: tuple[int, int], chunk: int = 4096) -> Tensor:
        if self.grid is None:
            self.prepare()
        with autocast(CPU, "bf16"):
            return render_rays(self.frozen, *rays, _config(samples), occupancy=self.grid, chunk=chunk).colour


class Peer:
    """EG3D's `ImportanceRenderer` with a decoder of EG3D's shape: the mean over the planes, then the head."""

    def __init__(self, path: Path, planes: Tensor, head: nn.Sequential) -> None:
        """Import the renderer from the checkout `path`."""
        self.renderer = peer_renderer(path)
        # Planes xy, yz, zx, like ours: the rows of each matrix are where its own axes lie in the world.
        axes = [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]]
        self.renderer.plane_axes = torch.tensor(axes, dtype=torch.float32)
        self.planes, self.head = planes.clone().requires_grad_(), copy.deepcopy(head).requires_grad_()
        torch.manual_seed(0)

    def decode(self, features: Tensor, directions: Tensor) -> dict[str, Tensor]:
        raw = self.head(features.mean(1))
        return {"rgb": raw[..., 1:].sigmoid() * 1.002 - 0.001, "sigma": raw[..., :1]}

    def render(self, rays: Rays, samples: tuple[int, int]) -> Tensor:
        options = {"ray_start": "auto", "ray_end": "auto", "box_warp": 2, "disparity_space_sampling": False}
        options |= {"clamp_mode": "softplus", "white_back": True}
        options |= dict(zip(("depth_resolution", "depth_resolution_importance"), samples, strict=True))
        return (self.renderer(self.planes, self.decode, *rays, options)[0] + 1) / 2

    @torch.no_grad()
    def forward(self, rays: Rays, samples: tuple[int, int] = PEER_SAMPLES) -> Tensor:
        return self.render(rays, samples)

    def forward_backward(self, rays: Rays, samples: tuple[int, int] = PEER_SAMPLES) -> Tensor:
        return _backward(self.render(rays, samples), self.planes, self.head)


def peer_renderer(path: Path) -> nn.Module:
    """Return EG3D's renderer, from a checkout or from its folder `eg3d`."""
    root = next((p for p in (path, path / "eg3d") if (p / "training" / "volumetric_rendering").is_dir()), None)
    if root is None:
        raise SystemExit(f"{path} is no checkout of github.com/NVlabs/eg3d")
    sys.path.insert(0, str(root))
    from training.volumetric_rendering.renderer import ImportanceRenderer

    renderer: nn.Module = ImportanceRenderer()
    return renderer


def compare(
    path: Path, options: Any, best_of: Callable[[int, dict[str, Callable[[], object]]], dict[str, float]]
) -> Any:
    """Measure everything and return the report without the machine."""
    with tempfile.TemporaryDirectory() as folder:
        file = options.planes or Path(folder) / "planes.safetensors"
        planes, head = open_fitted(file, options.fit_steps, options.side, options.channels)
        ours, peer = Ours(planes, head), Peer(path, planes, head)
        share = occupied_share(triplane_field(planes, ours.head, SCALE, SHIFT), THRESHOLD)
        print(f"{share:.1%} of the box is occupied", flush=True)
        if not 0.3 <= share <= 0.45:
            raise SystemExit("the planes do not fit the scene: raise --fit-steps")
        views = [*_views(options.views, options.image)]
        truth = [_quadrature(ours, rays) for rays in views]
        wanted = _psnr([peer.forward(rays) for rays in views], truth)
        some = slice(None, None, 8)
        agreement = _psnr([peer.forward((views[0][0][:, some], views[0][1][:, some]), (1024, 0))], [truth[0][:, some]])
        print(f"EG3D {PEER_SAMPLES}: {wanted:.2f} dB; with 1024 samples {agreement:.2f} dB")
        chosen, reached = _climb(ours, views, truth, wanted)
        seconds = _seconds(ours, peer, views, chosen, lambda work: best_of(options.repeats, work))
        memory = {
            name: _peak_of(name, path, file, options, chosen.get(name.removeprefix("ours_"), PEER_SAMPLES))
            for name in ("eg3d_forward", "eg3d_forward_backward", *(f"ours_{way}" for way in LADDERS))
        }
        rays = options.views * options.image**2
        report = {
            "peer": "EG3D's ImportanceRenderer, 48 + 48 samples, fp32",
            "protocol": f"{options.views} views of {options.image}x{options.image} rays one after the other, planes "
            f"3x{options.channels}x{options.side}x{options.side}, best of {options.repeats}",
            "occupied": {
                "scene": round(occupied_share(scene, THRESHOLD), 3),
                "fitted": round(share, 3),
                "grid": round(float(ours.grid.occupied.float().mean()), 3),
            },
            "psnr": {"eg3d": round(wanted, 2), "eg3d_1024_samples": round(agreement, 2), **reached},
            "samples": {"eg3d": PEER_SAMPLES, **chosen},
            "gradient_cosine": _gradient_cosines(ours, peer, views[0], chosen["forward_backward"]),
            "bit_equal_chunks": _bit_equal(ours, peer, views[0], chosen),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "rays_per_second": {name: round(rays / value) for name, value in seconds.items() if name != "prepare"},
            "megabytes": memory,
            "ratios": _ratios(seconds, memory),
        }
    return report


def _config(samples: tuple[int, int]) -> RendererConfig:
    return RendererConfig(coarse=samples[0], fine=samples[1])


def _backward(colour: Tensor, planes: Tensor, head: nn.Module) -> Tensor:
    """Run the backward pass of a loss to planes and head, and leave the gradient in `planes.grad`."""
    planes.grad = None
    head.zero_grad()
    colour.square().mean().backward()
    return colour.detach()


def _views(count: int, size: int) -> Iterator[Rays]:
    poses, lenses = (torch.from_numpy(value) for value in camera_set(CameraConfig(views=count)))
    for pose, lens in zip(poses, lenses, strict=True):
        yield image_rays(pose[None], lens[None], size)


def _psnr(pictures: list[Tensor], truth: list[Tensor]) -> float:
    return float(-10 * torch.log10((torch.cat(pictures) - torch.cat(truth)).square().mean()))


@torch.no_grad()
def _quadrature(ours: Ours, rays: Rays) -> Tensor:
    return render_rays(triplane_field(ours.planes, ours.head, SCALE, SHIFT), *rays, QUADRATURE, chunk=4096).colour


def _climb(
    ours: Ours, views: list[Rays], truth: list[Tensor], wanted: float
) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Return the cheapest samples of each way that reach `wanted` dB, and what they reach."""
    chosen, reached = {}, {}
    for way, ladder in LADDERS.items():
        for samples in ladder:
            value = _psnr([getattr(ours, way)(rays, samples) for rays in views], truth)
            print(f"{way:17s} {samples[0]:3d} + {samples[1]:2d} samples: {value:.2f} dB")
            if value >= wanted:
                break
        else:
            raise SystemExit(f"{way} does not reach the {wanted:.2f} dB of the peer")
        chosen[way], reached[way] = samples, round(value, 2)
    return chosen, reached


def _seconds(
    ours: Ours,
    peer: Peer,
    views: list[Rays],
    chosen: dict[str, tuple[int, int]],
    timed: Callable[[dict[str, Callable[[], object]]], dict[str, float]],
) -> dict[str, float]:
    """Return seconds for all views, each way of ours beside the peer's."""
    work: dict[str, Callable[[], object]] = {
        "eg3d_forward": lambda: [peer.forward(rays) for rays in views],
        "eg3d_forward_backward": lambda: [peer.forward_backward(rays) for rays in views],
        "prepare": ours.prepare,
    }
    for way, samples in chosen.items():
        render = getattr(ours, way)
        work[way] = lambda render=render, samples=samples: [render(rays, samples) for rays in views]
    return timed(work)


def _ratios(seconds: dict[str, float], memory: dict[str, float]) -> dict[str, float]:
    peers = {"forward": "eg3d_forward", "forward_backward": "eg3d_forward_backward", "pruned": "eg3d_forward"}
    ratios = {way: seconds[peer] / seconds[way] for way, peer in peers.items()}
    ratios |= {f"memory_{way}": memory[peer] / memory[f"ours_{way}"] for way, peer in peers.items()}
    return {name: round(value, 2) for name, value in ratios.items()}


def _gradient_cosines(ours: Ours, peer: Peer, rays: Rays, samples: tuple[int, int]) -> dict[str, float]:
    """Return how well the gradients of one picture point along that of the quadrature."""
    planes = ours.planes.detach().clone().requires_grad_()
    field = triplane_field(planes, ours.head, SCALE, SHIFT)
    for some in torch.arange(rays[0].shape[1]).split(128):
        colour = render_rays(field, rays[0][:, some], rays[1][:, some], QUADRATURE).colour
        (colour.square().sum() / (3 * rays[0].shape[1])).backward()
    peer.forward_backward(rays)
    ours.forward_backward(rays, samples)
    return {
        name: round(float(F.cosine_similarity(one.planes.grad.flatten(), planes.grad.flatten(), dim=0)), 4)
        for name, one in (("eg3d", peer), ("ours", ours))
    }


def _bit_equal(ours: Ours, peer: Peer, rays: Rays, chosen: dict[str, tuple[int, int]]) -> dict[str, bool]:
    """Return who renders the same bits in one piece and in pieces."""
    equal = {}
    for way in ("forward", "pruned"):
        results = [getattr(ours, way)(rays, chosen[way], chunk=chunk) for chunk in (4096, 1000, 100)]
        equal[way] = all(torch.equal(results[0], other) for other in results[1:])
    torch.manual_seed(0)
    whole = peer.forward(rays)
    torch.manual_seed(0)
    halves = [peer.forward((rays[0][:, i], rays[1][:, i])) for i in torch.arange(whole.shape[1]).chunk(2)]
    return {**equal, "eg3d": torch.equal(whole, torch.cat(halves, dim=1))}


def _peak_of(name: str, path: Path, file: Path, options: Any, samples: tuple[int, int]) -> float:
    """Return the memory in MB that one run takes in a process of its own, above what the imports take."""
    ours, theirs = get_context("spawn").Pipe()
    sizes = options.threads, options.side, options.channels, options.image
    child = get_context("spawn").Process(target=_measure, args=(theirs, name, path, file, sizes, samples))
    child.start()
    theirs.close()
    try:
        return round(float(ours.recv()), 1)
    except EOFError:
        raise SystemExit(f"measuring the memory of {name} failed") from None
    finally:
        child.join()


def _measure(
    pipe: Connection, name: str, path: Path, file: Path, sizes: tuple[int, int, int, int], samples: tuple[int, int]
) -> None:
    threads, side, channels, image = sizes
    tune_allocator()
    torch.set_num_threads(threads)
    if name.startswith("eg3d"):
        peer_renderer(path)
    before = _memory("VmRSS")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    planes, head = open_fitted(file, 0, side, channels)
    (rays,) = _views(1, image)
    contestant = Peer(path, planes, head) if name.startswith("eg3d") else Ours(planes, head)
    getattr(contestant, name.split("_", 1)[1])(rays, samples)
    pipe.send((_memory("VmHWM") - before) / 1024)


def _memory(kind: str) -> int:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))
