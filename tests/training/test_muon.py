"""Muon's updates beside the singular values that they replace, beside PyTorch's own, and in closed form."""

import pytest
import torch
from torch import Tensor, nn

from ln3d.config.training import TrainingConfig
from ln3d.training.muon import MOMENTUM, NARROWEST, Muon, matrices_of, orthogonalised
from ln3d.training.optimiser import build_optimiser, load_optimiser, optimiser_tensors, set_learning_rate

MUON = TrainingConfig(optimiser="muon", learning_rate=0.1, weight_decay=0, precision="fp32")


def _networks() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"entry": nn.Conv2d(4, 32, 1), "middle": nn.Conv2d(32, 48, 3), "exit": nn.Linear(48, 40)})


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _gradients(networks: nn.Module, seed: int) -> None:
    for index, parameter in enumerate(networks.parameters()):
        parameter.grad = _random(*parameter.shape, seed=100 * seed + index)


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (32, 80), (80, 32)])
def test_directions_stay_and_singular_values_become_about_one(rows: int, columns: int) -> None:
    matrix = _random(rows, columns) @ torch.diag(torch.logspace(0, -1, columns))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalised(matrix) @ right.T
    values = turned.diagonal()
    torch.testing.assert_close(turned, values.diag(), atol=2e-5, rtol=0)
    assert 0.6 < float(values.min()) and float(values.max()) < 1.2


def test_only_the_direction_of_a_matrix_counts() -> None:
    matrix = _random(24, 40)
    torch.testing.assert_close(orthogonalised(1e4 * matrix), orthogonalised(matrix), atol=1e-5, rtol=0)
    torch.testing.assert_close(orthogonalised(matrix.T), orthogonalised(matrix).T)
    assert not orthogonalised(torch.zeros(24, 40)).any()


def test_entries_exits_and_vectors_are_left_to_adamw() -> None:
    networks = _networks()
    assert list(matrices_of(networks)) == ["middle.weight", "exit.weight"]
    assert list(matrices_of(nn.Sequential(nn.Linear(NARROWEST, NARROWEST), nn.Embedding(64, 64)))) == ["0.weight"]
    assert not matrices_of(nn.Linear(64, NARROWEST - 1))
    assert isinstance(build_optimiser(nn.Linear(4, 4), MUON), torch.optim.AdamW)


def test_two_steps_in_closed_form() -> None:
    """Without decay; with the schedule's rate, its factor for matrices, and 0.2 of root mean square per unit."""
    networks = _networks()
    optimiser = build_optimiser(networks, MUON.model_copy(update={"muon_factor": 0.5}))
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    moments = {name: torch.zeros_like(p) for name, p in networks.named_parameters()}
    for step, rate in enumerate((0.04, 0.02)):
        set_learning_rate(optimiser, rate)
        _gradients(networks, step)
        optimiser.step()
        for name, parameter in matrices_of(networks).items():
            assert parameter.grad is not None
            moments[name] = MOMENTUM * moments[name] + (1 - MOMENTUM) * parameter.grad
            ahead = MOMENTUM * moments[name] + (1 - MOMENTUM) * parameter.grad
            rows, columns = ahead.flatten(1).shape
            update = orthogonalised(ahead.flatten(1)).view_as(parameter)
            before[name] -= 0.5 * rate * 0.2 * max(rows, columns) ** 0.5 * update
            torch.testing.assert_close(parameter, before[name], atol=1e-6, rtol=1e-5)
    assert set(optimiser.state[networks.get_parameter("middle.weight")]) == {"momentum_buffer"}


def test_the_rest_gets_adamws_steps() -> None:
    mine, theirs = _networks(), _networks()
    optimiser = build_optimiser(mine, MUON)
    adamw = build_optimiser(theirs, MUON.model_copy(update={"optimiser": "adamw"}))
    for step in range(2):
        for networks, each in ((mine, optimiser), (theirs, adamw)):
            _gradients(networks, step)
            set_learning_rate(each, 0.01)
            each.step()
    for name, parameter in mine.named_parameters():
        assert torch.equal(parameter, theirs.get_parameter(name)) == (name not in matrices_of(mine))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_pytorchs_own_takes_the_same_steps_as_far_as_it_is_precise() -> None:
    mine, theirs = (nn.Linear(48, 96, bias=True) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    optimiser = build_optimiser(mine, MUON.model_copy(update={"weight_decay": 0.5}))
    peer = torch.optim.Muon([theirs.weight], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    set_learning_rate(optimiser, 0.1)
    start = mine.weight.detach().clone()
    for step in range(3):
        _gradients(mine, step)
        theirs.weight.grad = mine.weight.grad
        optimiser.step()
        peer.step()
    apart, moved = mine.weight.detach() - theirs.weight.detach(), mine.weight.detach() - start
    assert float(apart.norm() / moved.norm()) < 0.02  # it computes in bf16


def test_what_has_no_gradient_stays_and_what_decays_shrinks() -> None:
    networks = _networks()
    optimiser = build_optimiser(networks, MUON.model_copy(update={"weight_decay": 0.5}))
    set_learning_rate(optimiser, 0.1)
    before = {name: p.detach().clone() for name, p in networks.named_parameters()}
    middle = networks.get_parameter("middle.weight")
    middle.grad = torch.zeros_like(middle)
    optimiser.step()
    for name, parameter in networks.named_parameters():
        torch.testing.assert_close(parameter, before[name] * (0.95 if name == "middle.weight" else 1))


def test_state_goes_through_tensors_unchanged() -> None:
    one, other = _networks(), _networks()
    optimisers = [build_optimiser(networks, MUON) for networks in (one, other)]
    for step in range(2):
        _gradients(one, step)
        optimisers[0].step()
    tensors = {name: tensor.clone() for name, tensor in optimiser_tensors(optimisers[0], one).items()}
    assert tensors.keys() > {"middle.weight/momentum_buffer", "middle.bias/exp_avg_sq", "entry.weight/step"}
    other.load_state_dict(one.state_dict())
    load_optimiser(optimisers[1], other, tensors)
    for networks, optimiser in zip((one, other), optimisers, strict=True):
        _gradients(networks, 2)
        optimiser.step()
    assert all(torch.equal(mine, yours) for mine, yours in zip(one.parameters(), other.parameters(), strict=True))


def test_every_group_gets_the_rate_and_parts_keep_their_own() -> None:
    config = MUON.model_copy(update={"learning_rates": {"exit": 0.5}, "muon_factor": 3.0})
    networks = _networks()
    optimiser = build_optimiser(networks, config)
    assert isinstance(optimiser, Muon)
    set_learning_rate(optimiser, 0.25)
    rates = {parameter: group["lr"] for group in optimiser.param_groups for parameter in group["params"]}
    expected = {"entry": (0.25, 0.25), "middle": (0.75, 0.25), "exit": (0.375, 0.125)}
    for part, (weight, bias) in expected.items():
        assert rates[networks.get_parameter(f"{part}.weight")] == pytest.approx(weight)
        assert rates[networks.get_parameter(f"{part}.bias")] == pytest.approx(bias)
