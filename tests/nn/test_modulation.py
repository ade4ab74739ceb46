"""Adaptive layer normalisation."""

import torch
from torch import nn

from ln3d.nn.modulation import modulate, plain_norm, zeroed


def test_nothing_to_say_changes_nothing() -> None:
    x, nothing = torch.randn(2, 3, 4), torch.zeros(2, 1, 4)
    assert torch.equal(modulate(x, nothing, nothing), x)


def test_shift_and_scale_are_per_sample_or_per_token() -> None:
    x, shift, scale = torch.randn(2, 3, 4), torch.randn(2, 1, 4), torch.randn(2, 1, 4)
    expanded = modulate(x, shift.expand(2, 3, 4), scale.expand(2, 3, 4))
    assert torch.equal(modulate(x, shift, scale), expanded)
    assert torch.allclose(expanded, x + x * scale + shift, atol=1e-6)


def test_zeroed_layers_are_silent_and_plain_norms_have_no_weights() -> None:
    assert not zeroed(nn.Linear(4, 5))(torch.randn(3, 4)).any()
    assert not list(plain_norm(8).parameters())
