"""What a model's samples are held against: its own reconstructions, a ceiling, and the real training objects."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ln3d.artifacts.manifest import fingerprint
from ln3d.data.pictures import Pictures as ShardPictures
from ln3d.data.shards import ObjectRecord
from ln3d.errors import RecipeError
from ln3d.generation.model import Generator
from ln3d.stages.contestants import Decoded
from ln3d.stages.evaluation_store import Pictures
from ln3d.stages.real_pictures import RealPictures, to_uint8
from ln3d.stages.reconstruction_scores import chosen_objects
from ln3d.stages.reference import Cameras, Cloud, RealObjects, Reference
from ln3d.talk import Talk
from ln3d.training.reconstruction import encode_object, evaluation_views


def training_shapes(reference: Reference, category: str | None, count: int) -> list[ObjectRecord]:
    """Return the first object of at most `count` training shapes, always the same: in the order of a hash.

    Raises RecipeError where there are fewer than two.
    """
    shapes = chosen_objects(reference.shapes(category), "train", category, count)
    if len(shapes) < 2:
        raise RecipeError(f"only {len(shapes)} training shape: two at least are needed", "choose another --category")
    return shapes


class _Recorded:
    """Real objects that something is made of, and no words."""

    follows_reference = False
    records: list[ObjectRecord]

    @property
    def labels(self) -> list[str]:
        """The name of every object."""
        return [record.name for record in self.records]

    @property
    def prompts(self) -> list[str]:
        """None: no object was made from words."""
        return [""] * len(self.records)


class Reconstructions(_Recorded, Decoded):
    """Training objects as the VAE gives them back: what the samples of its latents can reach at best."""

    def __init__(self, name: str, generator: Generator, reference: Reference, records: list[ObjectRecord]) -> None:
        """Prepare; nothing is encoded yet."""
        super().__init__(name, generator, reference.store)
        self.records = records
        self._pictures = ShardPictures(reference.shards)
        self._inputs, _ = evaluation_views(generator.autoencoder.config, reference.shards)

    def facts(self) -> dict[str, Any]:
        """Return how the objects were encoded and looked at."""
        return {
            "system": self.name,
            "objects": len(self.records),
            "of": "training shapes, in the order of sha256 of the source id",
            "latent": "posterior mean",
            "input_views": self._inputs,
            **self.drawing(),
        }

    def latents(self, talk: Talk, places: Sequence[int] | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield the number and the posterior mean (3 c h w) of every object, or of those at `places`."""
        wanted = range(len(self.records)) if places is None else places
        with talk.progress("encode", len(wanted)) as progress:
            for number in wanted:
                index = self.records[number].index
                posterior = encode_object(self.generator.autoencoder, self._pictures, index, self._inputs)
                progress.advance()
                yield number, posterior.mean[0].cpu()

    def key(self, number: int) -> str:
        """Return what the latent of an object depends on."""
        shards = self._pictures.shards.artifact.id
        return fingerprint(self.generator.artifacts["vae"].id, shards, self.records[number].key, self._inputs)


class TrainingObjects(_Recorded):
    """Real training objects as they are: a sanity row, since what was trained on must score best."""

    batch = 1

    def __init__(self, reference: Reference, records: list[ObjectRecord]) -> None:
        """Prepare; nothing is drawn yet."""
        self.name, self.reference, self.records = "training objects", reference, records

    def identity(self) -> object:
        """Return which objects they are."""
        return ["training objects", [record.key for record in self.records]]

    def facts(self) -> dict[str, Any]:
        """Return which objects they are, in words."""
        return {
            "system": self.name,
            "objects": len(self.records),
            "of": "training shapes, in the order of sha256 of the source id; the reference has them too",
            "drawing": "as the reference",
        }

    def clouds(self, reference: RealObjects, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Cloud | str]:
        """Yield the outer surface of every object."""
        yield from (reference.cloud(record) for record in self._wanted(places))

    def pictures(self, cameras: Cameras, talk: Talk, places: Sequence[int] | None = None) -> Iterator[Pictures | str]:
        """Yield every object from the reference's cameras; from others, which are those of the shards, as stored."""
        wanted = self._wanted(places)
        real = RealPictures(self.reference, wanted, Talk(0))
        if cameras.facts() == real.cameras.facts():
            real.draw(talk)
            yield from (real.views(record) for record in wanted)
            return
        shards = ShardPictures(self.reference.shards)
        for record in wanted:
            yield to_uint8(shards.stack(record.index, range(len(cameras.camera_to_world)))[0])

    def _wanted(self, places: Sequence[int] | None) -> list[ObjectRecord]:
        return self.records if places is None else [self.records[place] for place in places]
