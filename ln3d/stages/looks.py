"""What a frozen network makes of objects that cameras look at: a feature vector for every view that was looked at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from ln3d.geometry.vectors import unit


@dataclass(frozen=True)
class Looks:
    """Features of n objects in v views; where only some views were looked at, the others' features are zero."""

    features: Float[np.ndarray, "n v d"]
    seen: Bool[np.ndarray, "n v"]

    @classmethod
    def whole(cls, features: Float[np.ndarray, "n v d"]) -> "Looks":
        """Return looks at every view of every object."""
        return cls(features, np.ones(features.shape[:2], dtype=bool))

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.features)

    @property
    def rows(self) -> Float[np.ndarray, "r d"]:
        """Return the features of all views that were looked at, object after object."""
        rows: Float[np.ndarray, "r d"] = self.features[self.seen]
        return rows

    def chosen(self, objects: Sequence[int] | Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> "Looks":
        """Return the looks at some of the objects."""
        return Looks(self.features[objects], self.seen[objects])

    def cosines(self, others: "Looks") -> Float[np.ndarray, "n m"]:
        """Return the cosine of the same views of every pair of objects, mean over the views of the other one."""
        a, b = unit(self.features), unit(others.features)
        views = others.seen.sum(axis=1).astype(np.float32)
        cosines: Float[np.ndarray, "n m"] = a.reshape(len(a), -1) @ b.reshape(len(b), -1).T / views
        return cosines
