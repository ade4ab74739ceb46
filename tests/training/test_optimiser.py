"""The learning rate in closed form, what decays, and the optimiser's state as tensors."""

import math

import pytest
import torch
from torch import nn

from ln3d.config.training import TrainingConfig
from ln3d.errors import RecipeError
from ln3d.training.optimiser import (
    build_optimiser,
    check_parts,
    learning_rate,
    load_optimiser,
    optimiser_tensors,
    set_learning_rate,
)

CONFIG = TrainingConfig(steps=1000, warmup=99, learning_rate=2.0, final_learning_rate=0.1)


def _networks() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(4, 3))


def _gradients(networks: nn.Module, scale: float) -> None:
    for parameter in networks.parameters():
        parameter.grad = scale * torch.ones_like(parameter)


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine() -> None:
    assert [learning_rate(step, CONFIG) for step in (0, 49, 99)] == pytest.approx([0.02, 1.0, 2.0])
    for step in range(99, 1000, 53):
        progress = (step - 99) / 901
        expected = 2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
        assert learning_rate(step, CONFIG) == pytest.approx(expected)
    assert learning_rate(1000, CONFIG) == learning_rate(5000, CONFIG) == pytest.approx(0.2)


def test_it_can_be_constant_and_without_a_warm_up() -> None:
    constant = TrainingConfig(steps=10, warmup=0, learning_rate=0.5, final_learning_rate=1)
    assert [learning_rate(step, constant) for step in (0, 5, 9)] == pytest.approx([0.5] * 3)
    short = TrainingConfig(steps=5, warmup=100, learning_rate=1.0)
    assert learning_rate(4, short) == pytest.approx(5 / 101)


def test_only_what_has_two_or_more_axes_decays() -> None:
    networks = _networks()
    optimiser = build_optimiser(networks, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    _gradients(networks, 0.0)
    optimiser.step()
    for name, parameter in networks.named_parameters():
        share = 1 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter, before[name] * share)
    assert {name for name, p in networks.named_parameters() if p.ndim >= 2} == {"0.weight", "3.weight"}


def test_every_group_gets_the_rate() -> None:
    optimiser = build_optimiser(_networks(), TrainingConfig())
    set_learning_rate(optimiser, 0.125)
    assert [group["lr"] for group in optimiser.param_groups] == [0.125, 0.125]


def test_a_part_of_the_networks_has_a_rate_of_its_own() -> None:
    """Without decay AdamW's first step is the rate itself, so it shows which rate each parameter has."""
    networks = nn.ModuleDict({"encoder": _networks(), "decoder": _networks(), "decoder_head": nn.Linear(2, 2)})
    config = TrainingConfig(weight_decay=0, learning_rates={"encoder": 0.5, "decoder": 0.0})
    optimiser = build_optimiser(networks, config)
    held = [p for group in optimiser.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(networks.parameters()))
    set_learning_rate(optimiser, 0.25)
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    _gradients(networks, 1.0)
    optimiser.step()
    expected = {"encoder": 0.125, "decoder": 0.0, "decoder_head": 0.25}
    for name, parameter in networks.named_parameters():
        moved = before[name] - parameter
        torch.testing.assert_close(moved, torch.full_like(moved, expected[name.split(".")[0]]))


def test_a_part_of_the_networks_has_a_decay_of_its_own() -> None:
    """Without a gradient AdamW's step is the decay itself, at the rate of the part."""
    networks = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("encoder", "decoder", "head")})
    own = {"learning_rates": {"encoder": 2.0, "head": 0.5}, "weight_decays": {"encoder": 0.25, "decoder": 0.0}}
    optimiser = build_optimiser(networks, TrainingConfig(weight_decay=0.5, **own))
    set_learning_rate(optimiser, 0.1)
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    _gradients(networks, 0.0)
    optimiser.step()
    shares = {"encoder.weight": 1 - 0.2 * 0.25, "head.weight": 1 - 0.05 * 0.5}
    for name, parameter in networks.named_parameters():
        torch.testing.assert_close(parameter, before[name] * shares.get(name, 1.0))


@pytest.mark.parametrize("value", ["learning_rates", "weight_decays"])
def test_a_part_that_there_is_not_is_named_with_the_nearest(value: str) -> None:
    networks = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    with pytest.raises(RecipeError, match=f"{value}: there is no sub-network 'encodr'; did you mean encoder") as error:
        check_parts(networks, TrainingConfig(**{value: {"encodr": 2.0}}))
    assert error.value.hint == "the sub-networks are encoder, decoder"


def test_state_goes_through_tensors_unchanged() -> None:
    one, other = _networks(), _networks()
    optimisers = [build_optimiser(networks, TrainingConfig()) for networks in (one, other)]
    for scale in (1.0, -3.0):
        _gradients(one, scale)
        optimisers[0].step()
    tensors = {name: tensor.clone() for name, tensor in optimiser_tensors(optimisers[0], one).items()}
    assert {name.rsplit("/", 1)[1] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(tensors) == 3 * len(list(one.parameters()))
    other.load_state_dict(one.state_dict())
    load_optimiser(optimisers[1], other, tensors)
    for networks, optimiser in zip((one, other), optimisers, strict=True):
        _gradients(networks, 0.5)
        optimiser.step()
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(mine, yours) for mine, yours in pairs)
    again = optimiser_tensors(optimisers[1], other)
    assert all(torch.equal(tensor, again[name]) for name, tensor in optimiser_tensors(optimisers[0], one).items())


def test_moments_and_counts_lie_beside_their_parameters() -> None:
    """As fused AdamW has them on an accelerator, for which the device without contents stands here."""
    networks = _networks()
    optimiser = build_optimiser(networks, TrainingConfig())
    _gradients(networks, 1.0)
    optimiser.step()
    tensors = optimiser_tensors(optimiser, networks)
    elsewhere = _networks().to("meta")
    moved = build_optimiser(elsewhere, TrainingConfig())
    load_optimiser(moved, elsewhere, tensors)
    devices = {name: {state[name].device.type for state in moved.state.values()} for name in ("step", "exp_avg")}
    assert devices == {"step": {"meta"}, "exp_avg": {"meta"}}
