"""The KL divergence in closed form, and the paper's ramp."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ln3d.losses.kl import divergence_from, kl_divergence, kl_weight


def test_a_standard_normal_has_no_divergence_from_itself() -> None:
    zeros = torch.zeros(2, 3, 4, 5, 5)
    assert kl_divergence(zeros, zeros).item() == 0.0


@given(mean=st.floats(-5, 5), log_variance=st.floats(-8, 4))
def test_it_is_the_closed_form_and_positive(mean: float, log_variance: float) -> None:
    mu, s = torch.tensor([[mean]], dtype=torch.float64), torch.tensor([[log_variance]], dtype=torch.float64)
    normal = torch.distributions.Normal
    twin = torch.distributions.kl_divergence(normal(mu, torch.exp(s / 2)), normal(torch.zeros(1).double(), 1.0))
    assert kl_divergence(mu, s).item() == pytest.approx(twin.item(), rel=1e-9, abs=1e-12)
    assert kl_divergence(mu, s).item() > -1e-15


def test_it_is_the_expected_log_ratio_of_samples() -> None:
    mean, log_variance = torch.tensor([[0.8, -0.3]]).double(), torch.tensor([[-1.0, 0.5]]).double()
    deviation = torch.exp(log_variance / 2)
    drawn = mean + deviation * torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0)).double()
    ratio = -((drawn - mean) / deviation).square() / 2 - torch.log(deviation) + drawn.square() / 2
    assert kl_divergence(mean, log_variance).item() == pytest.approx(ratio.sum(dim=1).mean().item(), rel=0.01)


def test_it_is_summed_over_the_latent_and_averaged_over_the_batch() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 5, 5), torch.randn(2, 3, 4, 5, 5)
    whole = kl_divergence(mean, log_variance)
    each = [kl_divergence(mean[i : i + 1], log_variance[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(whole, torch.stack(each).mean())
    planes = [kl_divergence(mean[:, p], log_variance[:, p]) for p in range(3)]
    torch.testing.assert_close(whole, torch.stack(planes).sum())


def test_the_ramp_has_the_papers_values() -> None:
    paper = {"final": 1e-6, "start": 5000, "end": 30000}
    assert kl_weight(0, **paper) == kl_weight(5000, **paper) == 1e-9
    assert kl_weight(30000, **paper) == kl_weight(800000, **paper) == pytest.approx(1e-6, rel=1e-12)
    assert kl_weight(17500, **paper) == pytest.approx((1e-9 + 1e-6) / 2, rel=1e-12)
    steps = [kl_weight(step, **paper) for step in range(5000, 30001, 500)]
    rises = [after - before for before, after in zip(steps[:-1], steps[1:], strict=True)]
    assert rises == pytest.approx([(1e-6 - 1e-9) / 50] * 50, rel=1e-6)


def test_the_ramp_begins_where_it_is_told_and_never_above_its_end() -> None:
    assert kl_weight(0, 1e-5, 10, 20, initial=1e-6) == 1e-6
    assert kl_weight(15, 1e-5, 10, 20, initial=1e-6) == pytest.approx(5.5e-6)
    assert kl_weight(0, 1e-12, 10, 20) == 1e-12
    assert [kl_weight(step, 0.0, 10, 20) for step in (0, 15, 30)] == [0, 0, 0]
    assert [kl_weight(step, 1e-3, 7, 7, initial=0.0) for step in (6, 7)] == [0, 1e-3]


def test_two_posteriors_have_the_divergence_of_their_normals() -> None:
    drawn = torch.Generator().manual_seed(0)
    mean, log_variance, mu, s = torch.randn(4, 2, 3, 5, generator=drawn, dtype=torch.float64)
    ours, theirs = (torch.distributions.Normal(m, torch.exp(v / 2)) for m, v in ((mean, log_variance), (mu, s)))
    twin = torch.distributions.kl_divergence(ours, theirs)
    torch.testing.assert_close(divergence_from(mean, log_variance, mu, s), twin.mean())
    assert divergence_from(mu, s, mu, s).item() == 0.0
    zeros = torch.zeros_like(mean)
    standard = divergence_from(mean, log_variance, zeros, zeros) * mean[0].numel()
    torch.testing.assert_close(standard, kl_divergence(mean, log_variance))
