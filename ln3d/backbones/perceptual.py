"""LPIPS: the distance of two pictures in the feature maps of a frozen network (Zhang et al. 2018), version 0.1."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ln3d.backbones.embeddings import own_file, unfit
from ln3d.backbones.weights import LPIPS
from ln3d.errors import RecipeError

_MEAN = (-0.030, -0.088, -0.188)  # of pictures in [-1, 1]
_STD = (0.458, 0.448, 0.450)
_SMALLEST_NORM = 1e-10

_ALEX = {0: (4, 2), 1: (1, 2), 2: (1, 1), 3: (1, 1), 4: (1, 1)}
"""Stride and padding of AlexNet's convolutions; VGG's are all (1, 1)."""
_LAYERS = {
    "alex": ((64, 11), (192, 5), (384, 3), (256, 3), (256, 3)),
    "vgg": tuple((width, 3) for width in (64, 64, 128, 128, *[256] * 3, *[512] * 6)),
}
"""Channels and side of each convolution."""
_POOLED_BEFORE = {"alex": (1, 2), "vgg": (2, 4, 7, 10)}
_COMPARED = {"alex": (0, 1, 2, 3, 4), "vgg": (1, 3, 6, 9, 12)}
_POOL = {"alex": 3, "vgg": 2}
_SMALLEST = {"alex": 31, "vgg": 16}


class Lpips(nn.Module):
    """LPIPS as a frozen module: differentiable in the pictures, nothing of it learns."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: Mapping[str, Tensor], sha256: str = "") -> None:
        """Build LPIPS on the network `name` (`alex` or `vgg`) from `conv.N.weight`, `conv.N.bias` and `head.N`."""
        super().__init__()
        self.name, self.sha256, self.smallest = name, sha256, _SMALLEST[name]
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        for key, value in weights.items():
            self.register_buffer(key.replace(".", "_"), value, persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Return the distance of each pair of sRGB pictures in [0, 1]; 0 for equal ones (ibid., eq. 1).

        Raises ValueError for pictures that the network's pooling would leave empty.
        """
        if min(image.shape[-2:]) < self.smallest:
            size = tuple(image.shape[-2:])
            raise ValueError(f"LPIPS on {self.name} needs pictures of {self.smallest} pixels, not {size}")
        total = image.new_zeros(len(image))
        for number, (ours, theirs) in enumerate(zip(self.maps(image), self.maps(reference), strict=True)):
            difference = (_unit(ours) - _unit(theirs)).square()
            total = total + torch.einsum("bchw,c->bhw", difference, self._of("head", number)).mean(dim=(1, 2))
        return total

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the five feature maps."""
        return tuple(len(self._of("head", number)) for number in range(len(_COMPARED[self.name])))

    def maps(self, image: Float[Tensor, "b 3 h w"]) -> Iterator[Float[Tensor, "b c i j"]]:
        """Yield the five feature maps that are compared, each after its rectification."""
        x = (2 * image - 1 - self.mean) / self.std
        for number in range(_COMPARED[self.name][-1] + 1):
            if number in _POOLED_BEFORE[self.name]:
                x = F.max_pool2d(x, _POOL[self.name], stride=2)
            stride, padding = _ALEX[number] if self.name == "alex" else (1, 1)
            weight, bias = self._of("conv", number, "weight"), self._of("conv", number, "bias")
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            if number in _COMPARED[self.name]:
                yield x

    def _of(self, *key: object) -> Tensor:
        return self.get_buffer("_".join(map(str, key)))


def load_lpips(name: str) -> Lpips:
    """Return LPIPS on the network `name`, on the CPU; move it with `.to(device)`.

    `name` is `alex` or `vgg`, or one of them with =FILE: a safetensors file of one's own, laid out like those that
    `ln3d fetch lpips` brings.

    Raises:
        RecipeError: there is no LPIPS of that name.
        WeightsError: its weights are missing (the hint is `ln3d fetch lpips`) or are not the expected ones.
    """
    name, _, file = name.partition("=")
    _check_name(name)
    if file:
        return _own_lpips(name, Path(file).expanduser())
    weights = {key: torch.from_numpy(value.copy()) for key, value in LPIPS[name].read_tensors().items()}
    return Lpips(name, weights, LPIPS[name].sha256)


def lpips_file(file: Path) -> tuple[Path, str]:
    """Return a file of LPIPS' weights and its hash; WeightsError where it is not there."""
    return own_file(file, "name another file, or none and run: ln3d fetch lpips")


def _own_lpips(name: str, file: Path) -> Lpips:
    path, sha256 = lpips_file(file)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as problem:
        raise unfit(path, f"LPIPS on {name}", problem) from None
    expected = {key: tensor.shape for key, tensor in untrained_weights(name).items()}
    wrong = sorted(key for key in expected.keys() | weights.keys() if expected.get(key) != _shape(weights.get(key)))
    if wrong:
        raise unfit(path, f"LPIPS on {name}", ValueError(f"{', '.join(wrong[:3])} is not there or has another shape"))
    return Lpips(name, {key: tensor.float() for key, tensor in weights.items()}, sha256)


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def untrained_lpips(name: str) -> Lpips:
    """Return LPIPS as `load_lpips` does, whose weights are all zero and need no file; RecipeError likewise."""
    name = name.partition("=")[0]
    _check_name(name)
    return Lpips(name, untrained_weights(name))


def untrained_weights(name: str) -> dict[str, Tensor]:
    """Return zeros in the layout of a file of weights: `conv.N.weight`, `conv.N.bias`, and `head.N`."""
    weights, inputs = {}, 3
    for number, (width, side) in enumerate(_LAYERS[name]):
        weights[f"conv.{number}.weight"] = torch.zeros(width, inputs, side, side)
        weights[f"conv.{number}.bias"] = torch.zeros(width)
        inputs = width
    compared = (_LAYERS[name][number][0] for number in _COMPARED[name])
    heads = {f"head.{number}": torch.zeros(width) for number, width in enumerate(compared)}
    return weights | heads


def _check_name(name: str) -> None:
    if name not in LPIPS:
        raise RecipeError(f"there is no LPIPS on {name!r}", f"there are: {', '.join(LPIPS)}")


def _unit(features: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
    """Return `features` with unit length along the channels, zero where they are all zero.

    The square root of zero has no gradient, so the sum is kept off it; where it is zero the quotient is, too.
    """
    norm = features.square().sum(dim=1, keepdim=True).clamp(min=_SMALLEST_NORM**2).sqrt()
    return features / (norm + _SMALLEST_NORM)
