"""LPIPS: the formula written out with torch's own layers, what must hold of any distance, the lpips package."""

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ln3d.backbones import perceptual
from ln3d.backbones.perceptual import Lpips, load_lpips
from ln3d.backbones.weights import LPIPS, WeightFile, tensors_sha256
from ln3d.errors import RecipeError, WeightsError

SIDES = {"alex": (11, 5, 3, 3, 3), "vgg": (3,) * 13}
COMPARED = {"alex": range(5), "vgg": (1, 3, 6, 9, 12)}


def weights(name: str, width: int = 5) -> dict[str, Tensor]:
    """Return random weights of the right layout, every layer `width` channels wide."""
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for number, side in enumerate(SIDES[name]):
        inputs = width if number else 3
        shape = (width, inputs, side, side)
        tensors[f"conv.{number}.weight"] = torch.randn(shape, generator=draw) * (2 / (inputs * side**2)) ** 0.5
        tensors[f"conv.{number}.bias"] = torch.randn(width, generator=draw) * 0.1
    return tensors | {f"head.{number}": torch.rand(width, generator=draw) for number in range(5)}


def pairs(count: int = 3, side: int = 64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(count, 3, side, side, generator=draw)
    return image, (image + 0.2 * torch.randn(image.shape, generator=draw)).clamp(0, 1)


def written_out(name: str, tensors: dict[str, Tensor], image: Tensor, reference: Tensor) -> Tensor:
    """Return LPIPS as the paper and the architectures' papers say, layer by layer."""
    alex = ["c", "p", "c", "p", "c", "c", "c"]
    vgg = ["c", "c", "p", "c", "c", "p", "c", "c", "c", "p", "c", "c", "c", "p", "c", "c", "c"]
    stride, padding = {"alex": ((4, 1, 1, 1, 1), (2, 2, 1, 1, 1)), "vgg": ((1,) * 13, (1,) * 13)}[name]
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    both = [((x * 2 - 1) - shift[:, None, None]) / scale[:, None, None] for x in (image, reference)]
    number, level, total = 0, 0, torch.zeros(len(image))
    for layer in alex if name == "alex" else vgg:
        if layer == "p":
            both = [nn.MaxPool2d(3 if name == "alex" else 2, 2)(x) for x in both]
            continue
        kernel = tensors[f"conv.{number}.weight"]
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride[number], padding[number])
        conv.load_state_dict({"weight": kernel, "bias": tensors[f"conv.{number}.bias"]})
        both = [conv(x).relu() for x in both]
        if number in COMPARED[name]:
            a, b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in both)
            head = tensors[f"head.{level}"][:, None, None]
            total = total + ((a - b) ** 2 * head).sum(dim=1).mean(dim=(1, 2))
            level += 1
        number += 1
    return total


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_it_is_the_formula(name: str) -> None:
    tensors = weights(name)
    ours = Lpips(name, tensors)(*pairs())
    torch.testing.assert_close(ours, written_out(name, tensors, *pairs()).detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_it_is_a_distance_that_learns_nothing(name: str) -> None:
    distance = Lpips(name, weights(name))
    image, other = pairs()
    assert not distance(image, image).any()
    assert (distance(image, other) > 0).all()
    torch.testing.assert_close(distance(image, other), distance(other, image))
    torch.testing.assert_close(distance(image, other)[1:2], distance(image[1:2], other[1:2]), rtol=1e-5, atol=1e-7)
    nearer = image + 0.3 * (other - image)
    assert (distance(image, nearer) < distance(image, other)).all()
    assert not list(distance.parameters()) and not distance.state_dict()


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_as_a_loss_it_has_a_finite_gradient_everywhere(name: str) -> None:
    tensors = weights(name) | {"conv.0.bias": torch.full((5,), -9.0)}  # a first layer that is all zero
    for distance in (Lpips(name, weights(name)), Lpips(name, tensors)):
        image, other = pairs(2)
        image[0] = other[0]
        image.requires_grad_()
        distance(image, other).sum().backward()
        assert image.grad is not None and image.grad.isfinite().all()
    image, other = pairs(1, 32)
    distance = Lpips(name, {key: value.double() for key, value in weights(name, 2).items()}).double()
    assert torch.autograd.gradcheck(
        lambda corner: distance(torch.cat([corner, image.double().flatten()[4:]]).view_as(image), other.double()),
        image.double().flatten()[:4].requires_grad_(),
    )


@pytest.mark.parametrize(("name", "smallest"), [("alex", 31), ("vgg", 16)])
def test_the_smallest_picture(name: str, smallest: int) -> None:
    distance = Lpips(name, weights(name))
    assert distance(*pairs(1, smallest)).isfinite().all()
    with pytest.raises(ValueError, match=f"{smallest} pixels"):
        distance(*pairs(1, smallest - 1))


def test_weights_come_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LN3D_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not here") as problem:
        load_lpips("alex")
    assert problem.value.hint == "run: ln3d fetch lpips"
    tensors = weights("alex")
    digest = tensors_sha256({key: value.numpy() for key, value in tensors.items()})
    monkeypatch.setitem(perceptual.LPIPS, "alex", WeightFile("lpips-alex.safetensors", digest, "lpips"))
    (tmp_path / "weights").mkdir()
    save_file(tensors, tmp_path / "weights" / "lpips-alex.safetensors")
    distance = load_lpips("alex")
    assert (distance.name, distance.sha256) == ("alex", digest)
    assert torch.equal(distance(*pairs()), Lpips("alex", tensors)(*pairs()))
    with pytest.raises(RecipeError, match="no LPIPS on 'squeeze'") as unknown:
        load_lpips("squeeze")
    assert "alex, vgg" in unknown.value.hint


@pytest.mark.parametrize("name", ["alex", "vgg"])
@pytest.mark.parametrize("source", ["random", "fetched"])
def test_the_lpips_package_agrees(name: str, source: str) -> None:
    from ln3d.backbones.torchvision_import import import_torchvision

    if source == "fetched" and not LPIPS[name].path.exists():
        pytest.skip("needs: ln3d fetch lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        peer = pytest.importorskip("lpips").LPIPS(net=name, pnet_rand=True, verbose=False)
    slots = {key: value for key, value in peer.state_dict().items() if key.startswith("net.")}
    order = sorted({key.rsplit(".", 1)[0] for key in slots}, key=lambda key: int(key.rsplit(".", 1)[1]))
    if source == "random":
        tensors = {f"head.{i}": peer.lins[i].model[-1].weight.detach().reshape(-1) for i in range(5)}
        for number, layer in enumerate(order):
            tensors |= {f"conv.{number}.{part}": slots[f"{layer}.{part}"] for part in ("weight", "bias")}
        distance = Lpips(name, tensors)
    else:
        distance = load_lpips(name)
        for number, layer in enumerate(order):
            for part in ("weight", "bias"):
                slots[f"{layer}.{part}"].copy_(distance.get_buffer(f"conv_{number}_{part}"))
        for i in range(5):
            assert torch.equal(peer.lins[i].model[-1].weight.reshape(-1), distance.get_buffer(f"head_{i}"))
    with torch.no_grad():
        theirs = peer(*pairs(), normalize=True).flatten()
        torch.testing.assert_close(distance(*pairs()), theirs, rtol=1e-5, atol=1e-7)
