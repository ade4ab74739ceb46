"""Vision-aided discriminators: only the heads learn, they can learn, and each sees the right pictures."""

import pytest
import torch
from torch import Tensor, nn

from ln3d.backbones.frozen_maps import Maps
from ln3d.losses.adversarial import discriminator_loss, r1_penalty
from ln3d.models.discriminator import Discriminator, ViewDiscriminators


class Filters(nn.Module):
    """Stands for a frozen network: two levels of fixed random filters, and the mean of the second as summary."""

    widths = (6, 8)
    summary_width = 8

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


def _discriminator() -> Discriminator:
    maps = Filters()
    torch.manual_seed(0)
    return Discriminator(maps, hidden=8)


def test_there_is_one_logit_per_level_and_one_for_the_summary() -> None:
    assert _discriminator()(torch.rand(5, 3, 16, 16)).shape == (5, 3)


def test_every_picture_is_judged_by_itself() -> None:
    discriminator, pictures = _discriminator(), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        together, alone = discriminator(pictures), discriminator(pictures[2:3])
    torch.testing.assert_close(together[2:3], alone, atol=1e-6, rtol=1e-5)


def test_the_frozen_network_is_neither_saved_nor_trained_nor_moved_into_training() -> None:
    discriminator = _discriminator()
    names = {name.split(".")[0] for name in discriminator.state_dict()}
    assert names == {"levels", "summary"}
    assert all(p.requires_grad for p in discriminator.parameters())
    discriminator(torch.rand(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in discriminator.parameters())


def test_two_of_them_share_one_frozen_network_and_no_head() -> None:
    maps = Filters()
    both = ViewDiscriminators(maps, hidden=8)
    one, other = dict(both.input_view.named_parameters()), dict(both.novel_view.named_parameters())
    assert one.keys() == other.keys() and not {id(p) for p in one.values()} & {id(p) for p in other.values()}
    assert sum(p.numel() for p in both.parameters()) == 2 * sum(p.numel() for p in one.values())
    both.judged(torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16))
    assert len(maps.asked) == 2


def test_a_few_steps_tell_two_kinds_of_pictures_apart() -> None:
    discriminator, random = _discriminator(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(discriminator.parameters(), 1e-2, betas=(0.0, 0.99))

    def drawn() -> tuple[Tensor, Tensor]:
        noise = torch.rand(2, 8, 3, 16, 16, generator=random)
        return 0.3 + 0.4 * noise[0], 0.7 * noise[1]  # the fakes are darker on average

    for _ in range(80):
        real, fake = drawn()
        loss = discriminator_loss(discriminator(real), discriminator(fake), "hinge")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    real, fake = drawn()
    with torch.no_grad():
        assert discriminator(real).mean(dim=1).min() > discriminator(fake).mean(dim=1).max()


def test_the_gradient_penalty_reaches_the_heads() -> None:
    discriminator, maps = _discriminator(), Filters()
    discriminator._maps = (maps,)
    pictures = torch.rand(2, 3, 16, 16, requires_grad=True)
    penalty = r1_penalty(discriminator(pictures, twice=True), pictures, gamma=1.0)
    assert maps.asked == [True]
    penalty.backward()
    assert penalty.item() > 0
    weights = [p for name, p in discriminator.named_parameters() if name.endswith("weight")]
    assert all(p.grad is not None and p.grad.any() for p in weights)


def test_renders_of_input_views_are_the_real_pictures_of_the_novel_ones() -> None:
    both = ViewDiscriminators(Filters(), hidden=8)
    pictures = torch.rand(2, 3, 16, 16)
    shown, novel = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(2))
    of_input, of_novel = both.lessons(pictures, shown, novel)
    assert torch.equal(of_input.real, pictures) and torch.equal(of_input.fake, shown)
    assert torch.equal(of_novel.real, shown) and torch.equal(of_novel.fake, novel)
    assert not any(picture.requires_grad for pair in (of_input, of_novel) for picture in pair)


@pytest.mark.parametrize("kind", ["input", "novel"])
def test_the_generator_is_judged_on_each_kind_by_its_own_discriminator(kind: str) -> None:
    both = ViewDiscriminators(Filters(), hidden=8)
    shown, novel = (torch.rand(2, 3, 16, 16, requires_grad=True) for _ in range(2))
    of_input, of_novel = both.judged(shown, novel)
    torch.testing.assert_close(of_input, both.input_view(shown))
    torch.testing.assert_close(of_novel, both.novel_view(novel))
    (of_input if kind == "input" else of_novel).sum().backward()
    assert (shown.grad is not None, novel.grad is not None) == (kind == "input", kind == "novel")
