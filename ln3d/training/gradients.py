"""The gradient of a batch, put together from its parts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ln3d.training.parts import Part, Total
from ln3d.training.ranks import Ranks

Figures = dict[str, Tensor]
Loss = Callable[[dict[str, Tensor], Part], tuple[Tensor, Figures]]


def batch_gradient(
    loss_of: Loss,
    batch: dict[str, Tensor],
    parts: Sequence[range],
    ranks: Ranks,
    networks: nn.Module,
    *,
    counted: bool,
) -> tuple[float, Figures]:
    """Add the gradient of a whole batch's loss to `networks`; return the loss and its figures, on every process alike.

    `batch` holds this process's samples, on the first axis of every tensor; `parts` says which of the whole batch
    they are, a range for each pass. `counted` says that the loss divides by sums over the whole batch: several passes
    are then preceded by as many without gradient, in which these sums are found out.
    """
    count = ranks.count * len(parts)
    if count == 1:
        loss, figures = loss_of(batch, Part())
        loss.backward()
        return float(loss.detach()), figures
    pieces = [_cut(batch, part, parts[0].start) for part in parts] if len(parts) > 1 else [batch]
    total = _counted(loss_of, pieces, parts, ranks) if counted and len(parts) > 1 else _summed(ranks)
    outcomes = []
    for piece, part in zip(pieces, parts, strict=True):
        loss, figures = loss_of(piece, Part(part.start, count, total))
        (loss / len(parts)).backward()
        outcomes.append({"loss": loss.detach()} | figures)
    ranks.average(p.grad for p in networks.parameters() if p.grad is not None)
    mean = _mean(outcomes, ranks)
    return float(mean.pop("loss")), mean


def _cut(batch: dict[str, Tensor], part: range, start: int) -> dict[str, Tensor]:
    return {name: tensor[part.start - start : part.stop - start] for name, tensor in batch.items()}


def _summed(ranks: Ranks) -> Total:
    """Return the total of parts that all processes work on at the same time."""
    return lambda _name, weight: ranks.sum(weight.detach())


@torch.no_grad()
def _counted(loss_of: Loss, pieces: Sequence[dict[str, Tensor]], parts: Sequence[range], ranks: Ranks) -> Total:
    """Return the totals over all passes of all processes, known beforehand."""
    sums: dict[str, Tensor] = {}

    def note(name: str, weight: Tensor) -> Tensor:
        sums[name] = sums[name] + weight if name in sums else weight
        return weight

    for piece, part in zip(pieces, parts, strict=True):
        loss_of(piece, Part(part.start, ranks.count * len(parts), note))
    totals = {name: ranks.sum(weight) for name, weight in sums.items()}
    return lambda name, _weight: totals[name]


def _mean(outcomes: Sequence[Figures], ranks: Ranks) -> Figures:
    """Return the mean of every figure over all parts, in double precision."""
    names = list(outcomes[0])
    rows = torch.stack([torch.stack([outcome[name].detach().double().cpu() for name in names]) for outcome in outcomes])
    mean = ranks.sum(rows.sum(dim=0)) / (len(outcomes) * ranks.count)
    return dict(zip(names, mean, strict=True))
