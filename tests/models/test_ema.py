"""The moving average of weights, in closed form."""

from math import factorial

import pytest
import torch
from torch import nn

from ln3d.models.ema import Ema


def _module(value: float) -> nn.Module:
    module = nn.BatchNorm1d(2)  # it has buffers, too
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_while_it_warms_up_the_start_fades_like_a_ratio_of_factorials() -> None:
    module = _module(1.0)
    average = Ema(module, decay=0.9999)
    with torch.no_grad():
        module.weight.fill_(0.0)
    for n in range(30):
        average.update(module, n)
        left = factorial(n + 1) * factorial(9) / factorial(n + 10)  # the product of (1 + i) / (10 + i) over i <= n
        assert average.weights["weight"][0].item() == pytest.approx(left, rel=1e-4)


def test_after_that_it_is_a_geometric_average() -> None:
    module, decay, first = _module(0.0), 0.5, 10**6
    average = Ema(module, decay)
    values = [3.0, -1.0, 4.0, 1.5]
    for n, value in enumerate(values):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update(module, first + n)
    expected = sum((1 - decay) * decay ** (len(values) - 1 - n) * value for n, value in enumerate(values))
    assert average.weights["weight"].tolist() == pytest.approx([expected] * 2)


def test_the_published_state_is_a_copy_with_the_modules_buffers() -> None:
    module = _module(1.0)
    average = Ema(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(5.0)
        module.running_mean.fill_(7.0)
    state = average.copy_to(module)
    assert state.keys() == module.state_dict().keys()
    assert state["weight"].tolist() == [1.0, 1.0]
    assert state["running_mean"].tolist() == [7.0, 7.0]
    state["weight"].fill_(9.0)
    assert average.weights["weight"].tolist() == [1.0, 1.0]


def test_it_goes_on_from_what_was_saved() -> None:
    module, moved = _module(1.0), _module(2.0)
    one, other = Ema(module, 0.9), Ema(_module(0.0), 0.9)
    one.update(moved, 0)
    other.load({name: tensor.clone() for name, tensor in one.weights.items()})
    for average in (one, other):
        average.update(moved, 1)
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    with pytest.raises(KeyError):
        other.load({})
