"""The posteriors of a dataset, in memory."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.tensors import load_tensors
from ln3d.errors import ArtifactError


@dataclass(frozen=True)
class LatentSet:
    """All posteriors of a `latents` artifact, and what is known of their objects."""

    mean: Float[Tensor, "n 3 c h w"]
    std: Float[Tensor, "n 3 c h w"]
    statistics: dict[str, Tensor]
    """`mean` and `std` (3 c 1 1) of posterior samples."""
    objects: list[dict[str, Any]]
    """One record per latent: `split`, `category`, `captions` and more."""

    @classmethod
    def read(cls, artifact: Artifact) -> "LatentSet":
        """Return the content of an artifact; ArtifactError where its files do not belong together."""
        posteriors = load_tensors(artifact.file("latents.safetensors"))
        objects = json.loads(artifact.file("objects.json").read_text(encoding="utf-8"))
        if len(objects) != len(posteriors["mean"]):
            raise ArtifactError(
                f"{artifact.path} has {len(posteriors['mean'])} latents of {len(objects)} objects",
                "make it again with: ln3d encode RECIPE",
            )
        std = torch.exp(0.5 * posteriors["log_variance"].float())
        statistics = load_tensors(artifact.file("statistics.safetensors"))
        return cls(posteriors["mean"].float(), std, statistics, objects)

    def of_split(self, *splits: str) -> list[int]:
        """Return the indices of the objects in any of `splits`."""
        return [index for index, record in enumerate(self.objects) if record["split"] in splits]

    def draw(self, index: int, noise: Float[Tensor, "3 c h w"]) -> Float[Tensor, "3 c h w"]:
        """Return a standardised sample of one object's posterior, made of standard normal `noise`."""
        sample = self.mean[index] + self.std[index] * noise
        return (sample - self.statistics["mean"]) / self.statistics["std"]


def balanced(categories: Sequence[str], balance: float) -> Float[np.ndarray, "n"]:
    """Return how likely each object is drawn; the numbers sum to 1.

    An object of a category of n has weight n^-balance: with 0 all objects are alike, with 1 all categories.
    """
    counts = Counter(categories)
    weights = np.array([counts[category] ** -balance for category in categories])
    return weights / weights.sum()
