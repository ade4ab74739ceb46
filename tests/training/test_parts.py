"""A batch in parts: who has which samples, and random numbers and means that are those of the whole."""

import pytest
import torch

from ln3d.config.training import TrainingConfig
from ln3d.errors import RecipeError
from ln3d.geometry.sampling import guided, importance, stratified
from ln3d.losses.reconstruction import foreground_mean
from ln3d.training.parts import WHOLE, Part, own_parts
from ln3d.training.ranks import Ranks


@pytest.mark.parametrize(("count", "accumulate"), [(1, 1), (1, 4), (3, 1), (3, 2), (12, 1)])
def test_parts_are_equal_and_cover_the_batch_in_order(count: int, accumulate: int) -> None:
    config = TrainingConfig(batch=12, accumulate=accumulate)
    parts = [part for index in range(count) for part in own_parts(config, Ranks(index, count))]
    assert [sample for part in parts for sample in part] == list(range(12))
    assert {len(part) for part in parts} == {12 // (count * accumulate)}


def test_what_cannot_be_divided_evenly_is_refused() -> None:
    with pytest.raises(RecipeError, match="among 5 processes of 2 passes each") as error:
        own_parts(TrainingConfig(batch=12, accumulate=2), Ranks(0, 5))
    assert error.value.hint == "make it a multiple of 10"


def test_jitter_of_a_part_is_that_of_the_whole() -> None:
    near, far = torch.zeros(6, 5), torch.full((6, 5), 2.0)
    depth = torch.linspace(0, 1.5, 30).reshape(6, 5)
    weights = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(1))
    edges = torch.linspace(0, 2, 5).expand(6, 5, 5)

    def draw(part: Part, own: slice) -> torch.Tensor:
        numbers = part.generators(7, 3, "jitter", len(near[own]))
        drawn = [stratified(near[own], far[own], 3, numbers)]
        drawn.append(guided(near[own], far[own], depth[own], (2, 3), 0.1, numbers))
        drawn.append(importance(edges[own], weights[own], 4, numbers))
        return torch.cat(drawn, dim=-1)

    whole = draw(WHOLE, slice(None))
    parts = [draw(Part(first, 3), slice(first, first + 2)) for first in (0, 2, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(parts[0], parts[1])


@pytest.mark.parametrize("covered", [0.3, 1.0])
def test_weighted_means_of_parts_average_to_that_of_the_whole(covered: float) -> None:
    numbers = torch.Generator().manual_seed(0)
    error = torch.rand(4, 10, generator=numbers)
    mask = torch.rand(4, 10, generator=numbers) * torch.tensor([0.0, 0.1, 1.0, covered])[:, None]
    if covered < 1:
        mask = mask / mask.sum() * covered  # less than one in all: the divisor is 1
    totals = {"depth": mask.sum()}
    parts = [Part(row, 4, lambda name, weight: totals[name]) for row in range(4)]
    means = [foreground_mean(error[row], mask[row], part.denominator("depth")) for row, part in enumerate(parts)]
    torch.testing.assert_close(torch.stack(means).mean(), foreground_mean(error, mask))
    assert torch.equal(foreground_mean(error, mask, WHOLE.denominator("depth")), foreground_mean(error, mask))
