"""One step of stage 1: the terms of its loss, its randomness, and what it refuses."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from vae_tasks import STEP, losses_of, task_of

from ln3d.config.recipe import Recipe
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.losses.kl import kl_weight
from ln3d.rendering.volume import render_rays
from ln3d.training import vae_step
from ln3d.training.reconstruction import reconstruct

RecipeOf = Callable[..., Recipe]


def test_the_total_is_the_weighted_sum_of_the_terms(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    total, terms = losses_of(tiny_shards, tiny_recipe())
    assert terms.keys() == {"colour", "alpha", "depth", "kl", "surface"}
    assert all(value > 0 for value in terms.values())
    kl = kl_weight(STEP, 1e-4, 2, 6)
    expected = terms["colour"] + 0.5 * terms["alpha"] + 0.5 * terms["depth"] + kl * terms["kl"] + terms["surface"]
    assert total == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "weight"), [("alpha", 0.5), ("depth", 0.5), ("surface", 1.0), ("kl", None)])
def test_a_weight_of_zero_takes_its_term_away(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, name: str, weight: float | None
) -> None:
    total, terms = losses_of(tiny_shards, tiny_recipe())
    without, others = losses_of(tiny_shards, tiny_recipe(f"vae.losses.{name}=0"))
    factor = kl_weight(STEP, 1e-4, 2, 6) if weight is None else weight
    assert without == pytest.approx(total - factor * terms[name], rel=1e-5)
    assert others.items() <= terms.items()


def test_absolute_and_squared_colour_errors_add_up(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    both, absolute, squared = (
        losses_of(tiny_shards, tiny_recipe(*off))[1]["colour"]
        for off in ((), ("vae.losses.l2=0",), ("vae.losses.l1=0",))
    )
    assert both == pytest.approx(absolute + squared, rel=1e-5)
    assert min(absolute, squared) > 0


def test_networks_come_from_the_seed_alone(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    torch.manual_seed(1)
    one = task_of(tiny_shards, tiny_recipe())
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    other, third = task_of(tiny_shards, tiny_recipe()), task_of(tiny_shards, tiny_recipe("seed=1"))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [list(task.networks.parameters()) for task in (one, other, third)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_the_decoder_starts_from_the_blocks_that_the_recipe_names(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(vae_step, "check_start", lambda config, name: asked.append((config.width, name)))
    monkeypatch.setattr(vae_step, "start_from_blocks", lambda decoder, name: asked.append((decoder, name)) or "hash")
    plain = task_of(tiny_shards, tiny_recipe())
    assert asked == [] and plain.decoder_start is None
    task = task_of(tiny_shards, tiny_recipe("vae.decoder.initial=dinov2=FILE"))
    assert asked == [(16, "dinov2=FILE"), (task.networks.decoder, "dinov2=FILE")]
    assert task.decoder_start == "hash"


def test_the_loss_is_a_pure_function_of_batch_and_step(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    first = losses_of(tiny_shards, tiny_recipe())
    torch.manual_seed(7)
    assert losses_of(tiny_shards, tiny_recipe()) == first
    _, later = losses_of(tiny_shards, tiny_recipe(), step=STEP + 1)
    assert later["kl"] == first[1]["kl"]
    assert later["colour"] != first[1]["colour"]  # another posterior sample, other samples along the rays


def test_every_weight_learns_and_a_few_steps_lower_the_loss(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = task_of(tiny_shards, tiny_recipe())
    batch = task.batch(0, 0, range(2))
    optimiser = torch.optim.AdamW(task.networks.parameters(), 1e-2)
    seen: set[str] = set()
    totals: list[Tensor] = []
    for _ in range(12):
        total, _ = task.loss(batch, STEP)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(total.detach())
        seen |= {name for name, p in task.networks.named_parameters() if p.grad is not None and p.grad.any()}
    assert seen == {name for name, _ in task.networks.named_parameters()}
    assert totals[-1] < 0.8 * totals[0]


def test_validation_is_the_psnr_of_held_out_views(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = task_of(tiny_shards, tiny_recipe())
    task.networks.eval()
    figures = task.validate()
    assert figures.keys() == {"psnr_train", "psnr_validation"}
    assert figures == task.validate()
    pictures, errors = Pictures(tiny_shards), []
    for index in list(task.validation[:: max(1, len(task.validation) // 4)])[:4]:
        image, _, _ = reconstruct(task.networks, pictures, index, [0, 1], [4])
        errors.append(np.square(image.numpy() - pictures.stack(index, [4])[0]).mean())
    assert figures["psnr_validation"] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-3)


def test_the_kind_of_depth_error_is_a_choice(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    _, absolute = losses_of(tiny_shards, tiny_recipe())
    kept, forgotten = (
        losses_of(
            tiny_shards,
            tiny_recipe("vae.losses.depth_kind=scale_invariant", f"vae.losses.depth_invariance={invariance}"),
        )[1]
        for invariance in (0, 1)
    )
    assert 0 < forgotten["depth"] < kept["depth"]
    assert kept["depth"] != absolute["depth"]
    assert {name: v for name, v in kept.items() if name != "depth"} == {
        name: v for name, v in absolute.items() if name != "depth"
    }


UNGUIDED, SEARCH = "vae.renderer.guided_fine=0", "vae.renderer.search=true"


def test_a_search_says_where_fine_samples_go_and_learns_nothing(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    task = task_of(tiny_shards, tiny_recipe(UNGUIDED, SEARCH))
    torch.manual_seed(0)
    planes = torch.randn(2, 3, 4, 8, 8, requires_grad=True)
    batch = task.batch(0, 0, range(2))
    rays = batch["origins"], batch["directions"]
    seen = task.look(planes, *rays, torch.Generator().manual_seed(1), batch["hint"])
    field = vae_step.radiance(task.networks, planes)
    twin = render_rays(field, *rays, task.config.renderer, generator=torch.Generator().manual_seed(1), search=field)
    torch.testing.assert_close(seen, twin, atol=1e-5, rtol=1e-5)
    both = [torch.autograd.grad(each.colour.sum(), planes)[0] for each in (seen, twin)]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)
    # Another way to place samples is another loss, but only where no depth places them.
    assert losses_of(tiny_shards, tiny_recipe(UNGUIDED))[0] != losses_of(tiny_shards, tiny_recipe(UNGUIDED, SEARCH))[0]
    assert losses_of(tiny_shards, tiny_recipe())[0] == losses_of(tiny_shards, tiny_recipe(SEARCH))[0]
