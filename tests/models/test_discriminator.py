"""Vision-aided discriminators: only the heads learn, they can learn, and each sees the right pictures."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import Maps
from ln3d.losses.adversarial import discriminator_loss, r1_penalty
from ln3d.models.discriminator import VIEW_KINDS, Discriminator, Shown, ViewDiscriminators


class Filters(nn.Module):
    """Stands for a frozen network: two levels of fixed random filters, and the mean of the second as summary."""

    widths = (6, 8)
    summary_width = 8
    smallest = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.two = nn.Conv2d(3, 6, 4, stride=4), nn.Conv2d(6, 8, 1)
        self.requires_grad_(False)
        self.asked: list[bool] = []

    def forward(self, pictures: Tensor, *, twice: bool = False) -> Maps:
        self.asked.append(twice)
        first = torch.tanh(self.one(pictures))
        second = torch.tanh(self.two(first))
        return Maps([first, second], second.mean(dim=(2, 3)))


def _judge() -> tuple[Filters, Discriminator]:
    maps = Filters()
    torch.manual_seed(0)
    return maps, Discriminator(maps, hidden=8)


def test_there_is_one_logit_per_level_and_one_for_the_summary() -> None:
    maps, discriminator = _judge()
    assert discriminator(maps(torch.rand(5, 3, 16, 16))).shape == (5, 3)


def test_every_picture_is_judged_by_itself() -> None:
    (maps, discriminator), pictures = _judge(), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        together, alone = discriminator(maps(pictures)), discriminator(maps(pictures[2:3]))
    torch.testing.assert_close(together[2:3], alone, atol=1e-6, rtol=1e-5)


def test_all_heads_learn() -> None:
    maps, discriminator = _judge()
    assert {name.split(".")[0] for name in discriminator.state_dict()} == {"levels", "summary"}
    discriminator(maps(torch.rand(2, 3, 16, 16))).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in discriminator.parameters())


def test_a_few_steps_tell_two_kinds_of_pictures_apart() -> None:
    (maps, discriminator), random = _judge(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(discriminator.parameters(), 1e-2, betas=(0.0, 0.99))

    def drawn() -> tuple[Maps, Maps]:
        noise = torch.rand(2, 8, 3, 16, 16, generator=random)
        return maps(0.3 + 0.4 * noise[0]), maps(0.7 * noise[1])  # the fakes are darker on average

    for _ in range(80):
        real, fake = drawn()
        loss = discriminator_loss(discriminator(real), discriminator(fake), "hinge")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    real, fake = drawn()
    with torch.no_grad():
        assert discriminator(real).mean(dim=1).min() > discriminator(fake).mean(dim=1).max()


def _shown() -> Shown:
    draw = torch.Generator().manual_seed(5)
    inputs, renders, novel = (torch.rand(count, 3, 16, 16, generator=draw) for count in (2, 2, 3))
    return Shown(inputs, renders.requires_grad_(), novel.requires_grad_())


def _both(kinds: Sequence[str] = VIEW_KINDS) -> ViewDiscriminators:
    torch.manual_seed(0)
    return ViewDiscriminators(Filters(), 8, kinds)


def test_two_of_them_share_one_frozen_network_and_no_head() -> None:
    both = _both()
    one, other = dict(both["input_view"].named_parameters()), dict(both["novel_view"].named_parameters())
    assert one.keys() == other.keys() and not {id(p) for p in one.values()} & {id(p) for p in other.values()}
    assert sum(p.numel() for p in both.parameters()) == 2 * sum(p.numel() for p in one.values())
    assert {name.partition(".")[0] for name in both.state_dict()} == {"input_view", "novel_view"}


def test_the_frozen_network_sees_every_picture_once_and_moves_along() -> None:
    both = _both()
    both.lessons(seen := both.look(_shown()))
    both.judged(seen)
    assert len(both.maps.asked) == 3
    both.double()
    assert {p.dtype for p in (*both.parameters(), *both.maps.parameters())} == {torch.float64}


@pytest.mark.parametrize("kinds", [("input_view",), ("novel_view",), VIEW_KINDS], ids=["input", "novel", "both"])
def test_each_compares_what_it_should(kinds: tuple[str, ...]) -> None:
    """Renders of input views are the fakes of the one and, detached, the real pictures of the other."""
    shown, group = _shown(), _both(kinds)
    expected = {
        "input_view": (shown.pictures, shown.input_renders),
        "novel_view": (shown.input_renders, shown.novel_renders),
    }
    seen = group.look(shown)
    assert seen.keys() == set(kinds)
    lessons = group.lessons(seen)
    for kind in kinds:
        for pictures, maps, logits in zip(expected[kind], seen[kind], lessons[kind], strict=True):
            torch.testing.assert_close(maps.summary, group.maps(pictures).summary)
            torch.testing.assert_close(logits, group[kind](group.maps(pictures)))
        assert not any(tensor.requires_grad for tensor in (*seen[kind].real.levels, seen[kind].real.summary))
        assert all(tensor.requires_grad for tensor in (*seen[kind].fake.levels, seen[kind].fake.summary))


def test_lessons_have_no_way_back_to_the_renders_and_judgements_none_to_the_heads() -> None:
    shown, both = _shown(), _both()
    seen = both.look(shown)
    for lesson in both.lessons(seen).values():
        discriminator_loss(lesson.real, lesson.fake, "non_saturating").backward()
    assert shown.input_renders.grad is None and shown.novel_renders.grad is None
    assert all(p.grad is not None and p.grad.any() for p in both.parameters() if p.ndim > 1)
    both.zero_grad(set_to_none=True)
    judged = both.judged(seen)
    judged["input_view"].sum().backward(retain_graph=True)
    assert shown.input_renders.grad.any() and shown.novel_renders.grad is None
    judged["novel_view"].sum().backward()
    assert shown.novel_renders.grad.any()
    assert all(p.grad is None and p.requires_grad for p in both.parameters())
    assert all(p.grad is None for p in both.maps.parameters())


def test_slopes_are_those_at_real_pictures_and_reach_the_heads() -> None:
    shown, both = _shown(), _both()
    slopes = both.slopes(shown)
    assert both.maps.asked == [True, True]
    assert torch.equal(slopes["input_view"].pictures, shown.pictures)
    assert torch.equal(slopes["novel_view"].pictures, shown.input_renders)
    penalty = torch.stack([r1_penalty(logits, pictures, 1.0) for pictures, logits in slopes.values()]).sum()
    penalty.backward()
    assert penalty.item() > 0
    assert all(p.grad is not None and p.grad.any() for name, p in both.named_parameters() if name.endswith("weight"))
    assert shown.input_renders.grad is None


def test_the_slope_of_a_linear_discriminator_is_known() -> None:
    """With one linear head on a network that shows the picture itself, R1 is gamma / 2 |w|^2 whatever the pictures."""

    class Itself(nn.Module):
        widths, summary_width, smallest = (), 3 * 16 * 16, 1

        def forward(self, pictures: Tensor, *, twice: bool = False) -> Maps:
            return Maps([], pictures.flatten(1))

    group = ViewDiscriminators(Itself(), 8, ["novel_view"])
    linear = nn.Linear(3 * 16 * 16, 1)
    group["novel_view"].summary = nn.Sequential(linear, nn.Flatten(0))
    ((pictures, logits),) = group.slopes(_shown()).values()
    penalty = r1_penalty(logits, pictures, 10.0)
    torch.testing.assert_close(penalty, 5.0 * linear.weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(linear.weight.grad, 10.0 * linear.weight.detach())


def test_heads_compute_in_fp32_whatever_the_rest_does() -> None:
    _, discriminator = _judge()
    seen = Maps([torch.randn(4, 6, 1, 1), torch.randn(4, 8, 1, 1)], torch.randn(4, 8))
    gradients = []
    for enabled in (False, True):
        discriminator.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = discriminator(seen)
        assert logits.dtype == torch.float32
        logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in discriminator.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
