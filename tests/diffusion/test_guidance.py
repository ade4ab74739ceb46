"""Guidance: its algebra, and one doubled batch."""

import torch
from torch import Tensor

from ln3d.diffusion.guidance import combine, guided


def test_combination_is_affine_in_the_scale() -> None:
    conditional, unconditional = torch.randn(5), torch.randn(5)
    assert torch.equal(combine(conditional, unconditional, 1.0), conditional)
    assert torch.equal(combine(conditional, unconditional, 0.0), unconditional)
    halfway = combine(conditional, unconditional, 0.5)
    assert torch.allclose(halfway, (conditional + unconditional) / 2)


def test_guided_velocity_is_the_combination_of_two_passes_in_one_batch() -> None:
    batches = []

    def network(z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        batches.append(len(z))
        return z * t[:, None] + condition

    z, t = torch.randn(3, 2), torch.tensor(0.25)
    condition, null = torch.randn(3, 2), torch.zeros(3, 2)
    result = guided(network, [condition], [null], 4.0)(z, t)
    times = t.expand(3)
    expected = combine(network(z, times, condition), network(z, times, null), 4.0)
    assert torch.allclose(result, expected, atol=1e-6)
    assert batches == [6, 3, 3]


def test_scale_one_and_no_condition_need_one_pass() -> None:
    batches = []

    def network(z: Tensor, t: Tensor, *condition: Tensor) -> Tensor:
        batches.append(len(z))
        return z

    z, t = torch.randn(3, 2), torch.tensor(0.5)
    guided(network, [torch.ones(3)], [torch.zeros(3)], 1.0)(z, t)
    guided(network, [], [], 4.0)(z, t)
    assert batches == [3, 3]
