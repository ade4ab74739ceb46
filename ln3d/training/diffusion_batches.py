"""Batches of stage 2: latents, noise, times and captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ln3d.backbones.token_embeddings import TextEncoder
from ln3d.config.diffusion import DiffusionConfig
from ln3d.data.latents import LatentSet, balanced
from ln3d.diffusion.flow import logit_normal
from ln3d.seeding import generator, numpy_generator

Batch = dict[str, Tensor]


@dataclass
class DiffusionBatches:
    """The batch of step n as a pure function of (seed, n, retries); `objects` are indices into the latents.

    Keys: `data` (standardised) and `noise` (b 3 c h w), `t` (b) in (0, 1), and for a text model `tokens`
    (b l d) and `mask` (b l), which is False throughout for a sample whose condition is dropped.
    """

    latents: LatentSet
    objects: Sequence[int]
    config: DiffusionConfig
    seed: int
    encoder: TextEncoder | None = None

    def __post_init__(self) -> None:
        """Work out how likely each object is drawn."""
        categories = [self.latents.objects[index]["category"] for index in self.objects]
        self._cumulative = np.cumsum(balanced(categories, self.config.balance))

    def __call__(self, step: int, retries: int, samples: range) -> Batch:
        """Return the part `samples` of the batch of `step`; `retries` counts roll-backs after a non-finite loss."""
        return self._collate([self._sample(step, retries, sample) for sample in samples])

    def fixed(self, count: int) -> Batch:
        """Return `count` samples that never change, objects in turn and times spread evenly: for validation."""
        parts = []
        for sample in range(count):
            quantile = torch.tensor((sample + 0.5) / count)
            numbers = generator(self.seed, "validation", sample)
            index = self.objects[sample % len(self.objects)]
            parts.append(self._draw(index, numbers, torch.special.ndtri(quantile), caption=0))
        return self._collate(parts)

    def _sample(self, step: int, retries: int, sample: int) -> dict[str, Any]:
        random = numpy_generator(self.seed, "diffusion", step, sample, retries)
        place = int(np.searchsorted(self._cumulative, random.random(), side="right"))
        caption = int(random.integers(1 << 30))
        dropped = random.random() < self.config.condition.drop
        numbers = generator(self.seed, "diffusion", step, sample, retries)
        index = self.objects[min(place, len(self.objects) - 1)]  # the sum may end a rounding error below 1
        return self._draw(index, numbers, torch.randn((), generator=numbers), None if dropped else caption)

    def _draw(self, index: int, numbers: torch.Generator, normal: Tensor, caption: int | None) -> dict[str, Any]:
        shape = self.latents.mean.shape[1:]
        captions = self.latents.objects[index]["captions"]
        return {
            "data": self.latents.draw(index, torch.randn(shape, generator=numbers)),
            "noise": torch.randn(shape, generator=numbers),
            "t": logit_normal(normal),
            "prompt": captions[caption % len(captions)] if captions and caption is not None else "",
        }

    def _collate(self, parts: list[dict[str, Any]]) -> Batch:
        batch = {name: torch.stack([part[name] for part in parts]) for name in ("data", "noise", "t")}
        if self.encoder is not None:
            batch["tokens"], batch["mask"] = self.encoder.encode([part["prompt"] for part in parts])
        return batch
