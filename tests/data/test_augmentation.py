"""Other objects out of one: what a change of colours keeps, and that views agree about changed proportions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ln3d.config.recipe import Recipe
from ln3d.config.vae import AugmentationConfig
from ln3d.data.augmentation import deformed, draw_proportions, draw_tint
from ln3d.data.batches import VaeBatches
from ln3d.data.shards import ShardSet
from ln3d.seeding import numpy_generator
from ln3d.training.reconstruction import views_of

RecipeOf = Callable[..., Recipe]
FACTORS = np.array([-0.5, 1, 0.8], dtype=np.float32)


def test_a_tint_keeps_white_white_and_grey_grey() -> None:
    config = AugmentationConfig(saturation=4, saturation_probability=0.6, permutation=0.5, until=0.7)
    tints = [draw_tint(numpy_generator(0, n), config, progress=0.0) for n in range(2000)]
    for tint in tints:
        np.testing.assert_allclose(np.full(3, 0.6, np.float32) @ tint, np.full(3, 0.6), atol=1e-5)
    plain = np.mean([(tint == np.eye(3)).all() for tint in tints])
    # Unchanged: not saturated, and not permuted or permuted to the same order (1 in 6).
    assert plain == pytest.approx(0.4 * (0.5 + 0.5 / 6), abs=0.03)


def test_saturation_multiplies_chroma_and_keeps_luma() -> None:
    config = AugmentationConfig(saturation=4, saturation_probability=1.0)
    luma = np.array([0.299, 0.587, 0.114])
    colour = np.array([0.5, 0.3, 0.4])
    factors = []
    for n in range(200):
        changed = colour @ draw_tint(numpy_generator(0, n), config, progress=0.0)
        assert changed @ luma == pytest.approx(colour @ luma, abs=1e-5)
        ratio = (changed - colour @ luma) / (colour - colour @ luma)
        assert ratio == pytest.approx(np.full(3, ratio[0]), abs=1e-3)
        factors.append(ratio[0])
    assert 1 <= min(factors) < 1.2
    assert 3.8 < max(factors) <= 4.001


def test_augmentation_ends_when_it_should() -> None:
    config = AugmentationConfig(saturation=4, saturation_probability=1.0, permutation=1.0, until=0.7)
    tints = {progress: [draw_tint(numpy_generator(n), config, progress) for n in range(20)] for progress in (0.69, 0.7)}
    assert not any((tint == np.eye(3)).all() for tint in tints[0.69])
    assert all((tint == np.eye(3)).all() for tint in tints[0.7])


def test_proportions_are_ratios_of_log_uniform_numbers_and_mirrored_as_often_as_asked() -> None:
    config = AugmentationConfig(mirror=0.3, stretch=1.5)
    factors = np.array([draw_proportions(numpy_generator(0, n), config, 0.0) for n in range(4000)])
    assert (factors[:, 0] < 0).mean() == pytest.approx(0.3, abs=0.03)
    assert (factors[:, 1:] > 0).all()
    assert (np.abs(factors).max(axis=1) == 1).all()
    for one, other in ((0, 1), (1, 2), (2, 0)):
        ratio = np.log(np.abs(factors[:, one] / factors[:, other])) / np.log(1.5)
        assert np.abs(ratio).max() <= 1 + 1e-6
        # The difference of two uniform numbers: triangular on [-1, 1], of mean 0 and variance 1 / 6.
        assert ratio.mean() == pytest.approx(0, abs=0.03)
        assert ratio.var() == pytest.approx(1 / 6, abs=0.01)


def test_proportions_stay_where_nothing_asks_for_others_and_after_the_end() -> None:
    plain, busy = AugmentationConfig(), AugmentationConfig(mirror=1, stretch=2, until=0.7)
    assert all((draw_proportions(numpy_generator(n), plain, 0.0) == 1).all() for n in range(20))
    assert all((draw_proportions(numpy_generator(n), busy, 0.69) != 1).any() for n in range(20))
    assert all((draw_proportions(numpy_generator(n), busy, 0.7) == 1).all() for n in range(20))


def _sample(shards: ShardSet, recipe: Recipe) -> dict[str, Tensor]:
    batch = VaeBatches(shards, range(len(shards)), recipe.vae, seed=0)(0, 0, range(1))
    return {name: value[0] for name, value in batch.items()}


def _batched(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value[None] for name, value in sample.items()}


def test_whatever_a_deformed_sample_sees_lies_where_the_deformation_puts_it(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    sample = _sample(tiny_shards, tiny_recipe())
    changed, factor = deformed(sample, FACTORS), torch.from_numpy(FACTORS)
    assert (sample["input_depth"] > 0).any()
    points = [views_of(_batched(each)).points() for each in (sample, changed)]
    torch.testing.assert_close(points[1], points[0] * factor, rtol=0, atol=1e-5)
    assert (sample["depth"] > 0).any()
    for distance in ("depth", "hint"):
        before, after = (each["origins"] + each[distance][:, None] * each["directions"] for each in (sample, changed))
        torch.testing.assert_close(after, before * factor, rtol=0, atol=1e-5)
    torch.testing.assert_close(changed["directions"].norm(dim=-1), torch.ones(len(changed["directions"])))
    for same in ("input_colour", "input_intrinsics", "colour", "alpha"):
        assert torch.equal(changed[same], sample[same])


def test_a_deformed_sphere_is_seen_as_the_ellipsoid_that_it_becomes(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    """The closed form of where the ray o + t d first meets |x / f| = r, asked of the deformed rays alone."""
    sample, radius = _sample(tiny_shards, tiny_recipe()), 0.4
    origins, directions = sample["origins"], sample["directions"]
    along = (origins * directions).sum(dim=-1)
    inside = along**2 - origins.square().sum(dim=-1) + radius**2
    sample["depth"] = torch.where(inside > 0, -along - inside.clamp(min=0).sqrt(), 0)
    changed, factor = deformed(sample, FACTORS), torch.from_numpy(FACTORS)
    points = changed["origins"] + changed["depth"][:, None] * changed["directions"]
    hit = changed["depth"] > 0
    assert 0 < hit.sum() < len(hit)
    torch.testing.assert_close((points / factor)[hit].norm(dim=-1), torch.full((int(hit.sum()),), radius))


def test_a_mirrored_sample_mirrored_again_is_the_sample(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    sample, mirror = _sample(tiny_shards, tiny_recipe()), np.array([-1, 1, 1], dtype=np.float32)
    once = deformed(sample, mirror)
    assert not torch.equal(once["origins"], sample["origins"])
    for name, value in deformed(once, mirror).items():
        torch.testing.assert_close(value, sample[name], rtol=0, atol=1e-6)


def test_batches_deform_every_object_by_its_own_factors_until_the_end(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    own = tiny_recipe("vae.augmentation.mirror=1", "vae.augmentation.stretch=2", "vae.augmentation.until=0.5").vae
    plain = VaeBatches(tiny_shards, range(len(tiny_shards)), tiny_recipe("vae.augmentation.until=0.5").vae, seed=0)
    busy = VaeBatches(tiny_shards, range(len(tiny_shards)), own, seed=0)
    steps = own.training.steps
    origins = [each(0, 0, range(4))["origins"] for each in (plain, busy)]
    ratio = (origins[1] / origins[0])[:, 0]
    torch.testing.assert_close(origins[1], origins[0] * ratio[:, None], rtol=1e-4, atol=1e-5)
    assert (ratio[:, 0] < 0).all()
    assert (ratio[:, 1:] > 0).all()
    assert len({tuple(row) for row in ratio.tolist()}) == 4
    late = [each(steps // 2, 0, range(4)) for each in (plain, busy)]
    assert late[0].keys() == late[1].keys()
    assert all(torch.equal(late[0][name], late[1][name]) for name in late[0])
