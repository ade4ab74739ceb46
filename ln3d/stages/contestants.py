"""What is evaluated: anything with a number of objects that have surfaces or pictures; a model's samples among it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ln3d.artifacts.manifest import fingerprint
from ln3d.data.shards import ObjectRecord
from ln3d.errors import DivergedError, RecipeError
from ln3d.generation.mesh import field_mesh
from ln3d.generation.model import Generator
from ln3d.generation.outer_surface import outer_points
from ln3d.geometry.clouds import normalised_cloud, thinned
from ln3d.seeding import key_seed
from ln3d.stages.evaluation_store import Pictures, Store
from ln3d.stages.real_pictures import to_uint8
from ln3d.stages.reference import Cameras, Cloud, RealObjects
from ln3d.talk import Talk

SHOWN = 16
"""Objects of a contestant that a report has pictures of."""
Result = TypeVar("Result")
_BATCH = 16  # latents that are sampled together: always the same ones, however often a run is interrupted


@dataclass
class Compared:
    """Which objects of a contestant could be compared, why others could not, and what each is nearest to."""

    places: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    nearest: list[ObjectRecord] = field(default_factory=list)
    """The nearest training object of each of the first `SHOWN`, so that copying would show."""
    ours: list[Any] = field(default_factory=list)
    """A picture of each of these."""
    theirs: list[Any] = field(default_factory=list)
    """A picture of each nearest object, from the same camera."""

    def sort(self, results: Iterable[Result | str], what: str) -> list[Result]:
        """Note the results that are reasons, and return the others. Raises DivergedError for fewer than two."""
        kept = []
        for place, result in enumerate(results):
            if isinstance(result, str):
                self.failures.append(result)
            else:
                self.places.append(place)
                kept.append(result)
        if len(kept) < 2:
            raise DivergedError(
                f"{len(self.failures)} of {len(kept) + len(self.failures)} {what}: {self.failures[0]}",
                "mend the meshes, or train for longer, or lower the guidance of the recipe",
            )
        return kept


class Contestant(Protocol):
    """A set of objects that is compared with the real ones."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def labels(self) -> list[str]:
        """One per object, for people."""

    @property
    def prompts(self) -> list[str]:
        """The words that each object was made from; empty where there were none."""

    @property
    def follows_reference(self) -> bool:
        """Whether the k-th object was made from the words of the k-th reference shape, the shapes taking turns."""

    @property
    def batch(self) -> int:
        """How many objects in a row are made together, so that processes had better not divide them."""

    def identity(self) -> object:
        """Return what a report of it depends on, for a fingerprint."""

    def facts(self) -> dict[str, Any]:
        """Return what the protocol says of it."""

    def clouds(self, reference: RealObjects, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Cloud | str]:
        """Yield the normalised outer surface of every object, or the reason why it has none.

        `places` chooses objects, in ascending order; None is all.
        """

    def pictures(self, cameras: Cameras, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Pictures | str]:
        """Yield the views of every object, or of those at `places`, or the reason why there are none."""


def check_several(metric: str, contestant: Contestant) -> None:
    """Raise RecipeError for fewer than two objects: a set of one has no distance from another set."""
    count = len(contestant.labels)
    if count < 2:
        raise RecipeError(
            f"{metric} of {count} object of {contestant.name} has no meaning: two at least are needed",
            "name a folder with more of them, or a higher --count",
        )


class Decoded(ABC):
    """Objects that a model makes of latents: drawn by volume rendering, meshed for their surfaces."""

    def __init__(self, name: str, generator: Generator, store: Store) -> None:
        """`name` is what tables call it; what is worked out goes to `store`."""
        self.name, self.generator, self.store = name, generator, store

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """One per object, for people."""

    @abstractmethod
    def latents(self, talk: Talk, places: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the number and the latent (3 c h w) of every object, or of those at `places`."""

    @abstractmethod
    def key(self, number: int) -> str:
        """Return what the latent of an object depends on."""

    @property
    def batch(self) -> int:
        """How many objects in a row are made together."""
        return _BATCH

    def identity(self) -> object:
        """Return what the latents depend on, all of them."""
        return [self.key(number) for number in range(len(self.labels))]

    def drawing(self) -> dict[str, Any]:
        """Return what the protocol says of how the objects are meshed and drawn."""
        return {
            "mesh": {"resolution": self.generator.recipe.mesh.resolution, "iso": self._iso},
            "drawing": "volume rendering, one ray per pixel, no jitter",
        }

    def clouds(self, reference: RealObjects, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Cloud | str]:
        """Yield the points that the cameras of the shards see of every object's mesh, or why there is no surface."""
        cameras, points, seed = reference.shape_cameras(), reference.recipe.evaluation.points, reference.recipe.seed
        recipe = self.generator.recipe.mesh
        protocol = [cameras.facts(), points, seed, recipe.resolution, recipe.smallest_component, self._iso]
        for number, latent in self.latents(talk, places):

            def scan(number: int = number, latent: Tensor = latent) -> dict[str, Tensor]:
                try:
                    cloud = self._cloud(latent, cameras, points, key_seed(seed, "generated", number))
                except (DivergedError, ValueError) as error:
                    return {"reason": torch.tensor(list(str(error).encode()), dtype=torch.uint8)}
                return {"points": torch.from_numpy(cloud)}

            kept = self.store.tensors("clouds", [self.key(number), fingerprint(protocol)], scan)
            if "reason" in kept:
                yield f"{self.labels[number]}: {bytes(kept['reason'].tolist()).decode()}"
            else:
                yield kept["points"].numpy()

    def pictures(self, cameras: Cameras, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Pictures | str]:
        """Yield every object seen by all cameras; empty fields are white pictures, and count."""
        poses, lenses = torch.from_numpy(cameras.camera_to_world), torch.from_numpy(cameras.intrinsics)
        how = fingerprint(cameras.facts(), self.generator.recipe.vae.renderer)
        for number, latent in self.latents(talk, places):
            key = [self.key(number), how]

            def draw(latent: Tensor = latent) -> Pictures:
                return to_uint8(self.generator.views(latent[None], poses, lenses, cameras.size)[0])

            yield self.store.pictures(key, draw)

    @property
    def _iso(self) -> float:
        return self.generator.recipe.mesh.iso or self.generator.iso

    def _cloud(self, latent: Tensor, cameras: Cameras, points: int, seed: int) -> Cloud:
        generator, recipe = self.generator, self.generator.recipe.mesh
        scene = generator.field(generator.decode(latent[None]))
        mesh = field_mesh(scene, recipe.resolution, self._iso, recipe.smallest_component, generator.device)
        seen = outer_points(mesh.vertices, mesh.faces, cameras.camera_to_world, cameras.intrinsics, cameras.size)
        return normalised_cloud(thinned(seen, points, seed)).astype(np.float32)


class Samples(Decoded):
    """The first seeds of a model, one for each prompt; an empty prompt is no condition."""

    def __init__(
        self, name: str, generator: Generator, prompts: list[str], store: Store, trained_on_reference: bool = True
    ) -> None:
        """`trained_on_reference` says for the protocol whether the model saw what it is compared with."""
        super().__init__(name, generator, store)
        self.prompts, self.trained_on_reference = prompts, trained_on_reference

    @property
    def labels(self) -> list[str]:
        """The prompt and the seed of every sample."""
        return [f"{prompt or 'no prompt'} (seed {seed})" for seed, prompt in enumerate(self.prompts)]

    @property
    def follows_reference(self) -> bool:
        """Whether the samples have prompts, which are the shapes' captions in turn."""
        return any(self.prompts)

    def identity(self) -> object:
        """Return the ids of the networks and the number of samples."""
        return [{name: artifact.id for name, artifact in self.generator.artifacts.items()}, len(self.prompts)]

    def facts(self) -> dict[str, Any]:
        """Return how the samples were made and looked at."""
        sampler = self.generator.recipe.diffusion.sampler
        return {
            "system": self.name,
            "trained_on_reference": self.trained_on_reference,
            "sampler": {"method": sampler.method, "steps": sampler.steps, "guidance": sampler.guidance},
            "prompts": "captions of the reference shapes in turn" if any(self.prompts) else "none",
            "samples": len(self.prompts),
            "seeds": [0, len(self.prompts) - 1],
            **self.drawing(),
        }

    def latents(self, talk: Talk, places: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the number and the latent (3 c h w) of every sample, or of those at `places`.

        They are drawn in batches of sixteen, unless they were drawn before.
        """
        count = len(self.prompts)
        wanted = range(count) if places is None else places
        with talk.progress("samples", len(wanted)) as progress:
            for start in range(0, count, _BATCH):
                seeds = range(start, min(start + _BATCH, count))
                chosen = [seed for seed in seeds if seed in wanted]
                latents = self._drawn(list(seeds)) if chosen else []
                for seed in chosen:
                    progress.advance()
                    yield seed, latents[seed - start]

    def key(self, number: int) -> str:
        """Return what the latent of a sample depends on."""
        networks = {name: artifact.id for name, artifact in self.generator.artifacts.items()}
        return fingerprint(networks, number, self.prompts[number], self.generator.recipe.diffusion.sampler)

    def _drawn(self, seeds: list[int]) -> list[Tensor]:
        kept = [self.store.kept_tensors("samples", self.key(seed)) for seed in seeds]
        if all(k is not None for k in kept):
            return [k["latent"] for k in kept if k is not None]
        latents = self.generator.sample([self.prompts[seed] for seed in seeds], seeds).cpu()
        for seed, latent in zip(seeds, latents, strict=True):
            self.store.keep_tensors("samples", self.key(seed), {"latent": latent})
        return list(latents)
