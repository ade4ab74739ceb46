"""Training batches of stage 1: which objects, views and rays a step sees."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from ln3d.config.vae import SupervisionConfig, VaeConfig
from ln3d.data.augmentation import deformed, draw_proportions, draw_tint
from ln3d.data.lacking import check_lacks, encodes_depth
from ln3d.data.pictures import Pictures
from ln3d.data.shards import ShardSet
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import views_apart
from ln3d.geometry.rays import pixel_rays
from ln3d.seeding import numpy_generator

_NEAR, _BORDER = 0.42, 1.0  # weights of pixels close to the object and on its outline; the object itself has 1
_NEAR_REACH, _BORDER_REACH = 1 / 16, 1 / 64  # how far that is, in picture sides
_HINT_REACHES = (1 / 128, 1 / 42, _NEAR_REACH)
_DRAWN = 2.5  # times as many views as the encoder sees: few enough that the farthest of them are others every time

Batch = dict[str, Tensor]


@dataclass
class VaeBatches:
    """The batch of step n as a pure function of (seed, n, retries); callable from any worker or rank.

    `objects` are indices into the shards. Keys of a batch: `input_colour` (b v 3 h w), `input_depth` (b v h w),
    `input_cameras` (b v 4 4), `input_intrinsics` (b v 3 3), and for r rays per object `origins`, `directions`,
    `colour` (b r 3), `alpha`, `depth`, `hint` (b r): the depth to look at closely. Where a recipe imagines views, also
    the rays of one, `imagined_origins` and `imagined_directions` (b r 3): as many as of one supervised view. Where
    latents are compared there are no rays, but `object` (b), the indices.
    """

    shards: ShardSet
    objects: Sequence[int]
    config: VaeConfig
    seed: int

    def __post_init__(self) -> None:
        """Refuse a recipe that asks for more views than there are, or for what they lack. Raises RecipeError."""
        check_views(self.config, self.shards.views)
        check_lacks(self.config, self.shards.lacks)
        self.pictures = Pictures(self.shards)
        self._order: tuple[tuple[int, int], np.ndarray] = ((-1, 0), np.empty(0, dtype=np.int64))

    def __call__(self, step: int, retries: int, samples: range) -> Batch:
        """Return the part `samples` of the batch of `step`; `retries` counts roll-backs after a non-finite loss."""
        parts = [self._sample(step * self.config.training.batch + sample, step, retries) for sample in samples]
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}

    def _object(self, position: int, retries: int) -> int:
        epoch, place = divmod(position, len(self.objects))
        if self._order[0] != (epoch, retries):
            random = numpy_generator(self.seed, "order", epoch, *([retries] if retries else []))
            self._order = ((epoch, retries), random.permutation(len(self.objects)))
        return self.objects[int(self._order[1][place])]

    def _sample(self, position: int, step: int, retries: int) -> Batch:
        index = self._object(position, retries)
        random = numpy_generator(self.seed, "vae", position, retries)
        inputs, supervised = choose_views(random, self.shards.eyes(index), self.config, self._known(index))
        progress = step / self.config.training.steps
        tint = draw_tint(random, self.config.augmentation, progress)
        batch = input_views(self.pictures, index, inputs, self.config, tint, random)
        if self.config.supervision.kind == "latents":
            return batch | {"object": torch.tensor(index)}
        batch.update(self.rays(index, supervised, random, tint))
        proportions = numpy_generator(self.seed, "proportions", position, retries)
        batch = deformed(batch, draw_proportions(proportions, self.config.augmentation, progress))
        if self.config.imagines_views:
            batch.update(self._imagined(numpy_generator(self.seed, "imagined", position, retries)))
        return batch

    def _known(self, index: int) -> Collection[int]:
        """Return the views of an object that may be chosen."""
        count, held_out = self.config.supervision.known_views, self.config.supervision.held_out_views
        if count is None:
            return range(self.shards.views)
        order = numpy_generator(self.seed, "known", index).permutation(self.shards.views)
        return [int(view) for view in order if view not in held_out][:count]

    def _imagined(self, random: np.random.Generator) -> Batch:
        """Return rays through a known view of any training object: a camera from which this one may not be known."""
        index = self.objects[int(random.integers(len(self.objects)))]
        inputs, _ = choose_views(random, self.shards.eyes(index), self.config, self._known(index))
        rays = self.rays(index, inputs[:1], random, np.eye(3, dtype=np.float32))
        return {f"imagined_{name}": rays[name] for name in ("origins", "directions")}

    def rays(self, index: int, views: Sequence[int], random: np.random.Generator, tint: np.ndarray) -> Batch:
        """Return the rays to compare of an object's `views`, without an axis for the batch; colours times `tint`."""
        supervision = self.config.supervision
        colour, alpha, depth = self.pictures.stack(index, views, supervision.resolution)
        side = alpha.shape[-1]
        chosen = choose_pixels(random, torch.from_numpy(alpha), supervision)
        view, row, column = chosen // (side * side), chosen // side % side, chosen % side
        pixels = torch.stack([column, row], dim=-1).float() + 0.5
        camera_to_world, intrinsics = self.pictures.cameras(index, views)
        origins, directions = pixel_rays(camera_to_world[view], intrinsics[view], pixels[:, None], side)
        return {
            "origins": origins[:, 0],
            "directions": directions[:, 0],
            "colour": torch.from_numpy(np.clip(colour.reshape(-1, 3)[chosen.numpy()] @ tint, 0, 1)),
            "alpha": torch.from_numpy(alpha.reshape(-1))[chosen],
            "depth": torch.from_numpy(depth.reshape(-1))[chosen],
            "hint": torch.from_numpy(_hints(depth).reshape(-1))[chosen],
        }


def check_views(config: VaeConfig, views: int) -> None:
    """Raise RecipeError unless `views` per object suffice for the inputs and the novel views."""
    held_out = [v for v in config.supervision.held_out_views if v < views]
    needed = config.encoder.views + config.supervision.novel_views
    if needed > views - len(held_out):
        raise RecipeError(
            f"the recipe takes {config.encoder.views} input and {config.supervision.novel_views} novel views, "
            f"but only {views - len(held_out)} of {views} views per object are not held out",
            "render more views (dataset.cameras.views) or lower vae.encoder.views",
        )
    if config.supervision.input_views + config.supervision.novel_views == 0:
        raise RecipeError("no view is supervised", "raise vae.supervision.input_views or vae.supervision.novel_views")
    if config.supervision.input_views > config.encoder.views:
        raise RecipeError("vae.supervision.input_views exceeds vae.encoder.views", "supervise at most the input views")


def choose_views(
    random: np.random.Generator,
    eyes: Float[np.ndarray, "v 3"],
    config: VaeConfig,
    known: Collection[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Return input views and supervised views of one object: of those that are `known`, held-out ones excluded.

    `eyes` are unit vectors, one for each view, to where its camera stands.
    """
    held_out, known = set(config.supervision.held_out_views), range(len(eyes)) if known is None else known
    order = [int(v) for v in random.permutation(len(eyes)) if v not in held_out and v in known]
    if config.encoder.choice == "spread":
        order = _spread_first(order, eyes, config.encoder.views)
    inputs, rest = order[: config.encoder.views], order[config.encoder.views :]
    return inputs, inputs[: config.supervision.input_views] + rest[: config.supervision.novel_views]


def _spread_first(order: list[int], eyes: Float[np.ndarray, "v 3"], count: int) -> list[int]:
    """Return `order` with those `count` views in front that are farthest apart, of the first few times as many."""
    drawn = order[: round(_DRAWN * count)]
    first = [drawn[place] for place in views_apart(eyes[drawn], count)]
    return first + [view for view in order if view not in first]


def input_views(
    pictures: Pictures,
    index: int,
    views: Sequence[int],
    config: VaeConfig,
    tint: np.ndarray,
    random: np.random.Generator | None = None,
) -> Batch:
    """Return what the encoder sees of object `index`, colours multiplied by the 3x3 matrix `tint`.

    The image encoder gets averaged pixels. The aligned encoder gets single ones, since an average across an outline
    is a point of no surface: which of each square is drawn with `random`, and fixed without. Raises ArtifactError
    where the encoder wants depth and the object has none.
    """
    side = config.encoder.resolution
    if encodes_depth(config):
        pictures.shards.require(index, "depth")
    camera_to_world, intrinsics = pictures.cameras(index, views)
    if config.encoder.kind == "image":
        colour, _, depth = pictures.stack(index, views, side)
    else:
        stride = stride_of(pictures.shards.resolution, side)
        row, column = (stride // 2, stride // 2) if random is None else random.integers(0, stride, size=2)
        colour, depth, intrinsics = pictures.picked(index, views, stride, (int(row), int(column)))
    return {
        "input_colour": torch.from_numpy(np.clip(colour @ tint, 0, 1).transpose(0, 3, 1, 2).copy()),
        "input_depth": torch.from_numpy(depth),
        "input_cameras": camera_to_world,
        "input_intrinsics": intrinsics,
    }


def stride_of(stored: int, wanted: int) -> int:
    """Return the step between pixels that makes `wanted` of `stored`, or 1 where it would not be whole."""
    return stored // wanted if stored % wanted == 0 else 1


def choose_pixels(
    random: np.random.Generator, alpha: Float[Tensor, "v h w"], config: SupervisionConfig
) -> Int[Tensor, "r"]:
    """Return flat indices into (v, h, w) of the rays to compare.

    `rays`: independent draws; with probability `foreground` by closeness to the object, else anywhere. `crop`:
    one square window per view, around a foreground pixel with that probability. `full`: every pixel.
    """
    views, side = alpha.shape[0], alpha.shape[-1]
    if config.kind == "full":
        return torch.arange(alpha.numel())
    weights = _closeness(alpha, config.near_miss)
    if config.kind == "rays":
        weights = config.foreground * weights / weights.sum() + (1 - config.foreground) / weights.numel()
        cumulative = np.cumsum(weights.reshape(-1).numpy().astype(np.float64))
        draws = np.searchsorted(cumulative, random.random(config.rays) * cumulative[-1], side="right")
        return torch.from_numpy(np.minimum(draws, weights.numel() - 1))
    window = min(config.crop, side)
    return torch.cat([_window(random, weights[v], window, config.foreground) + v * side * side for v in range(views)])


def _window(
    random: np.random.Generator, weights: Float[Tensor, "h w"], window: int, foreground: float
) -> Int[Tensor, "r"]:
    side = weights.shape[-1]
    corner = random.integers(0, side - window + 1, size=2)
    if random.random() < foreground:
        cumulative = np.cumsum(weights.reshape(-1).numpy().astype(np.float64))
        centre = int(np.searchsorted(cumulative, random.random() * cumulative[-1]))
        corner = np.clip(np.array([centre // side, centre % side]) - window // 2, 0, side - window)
    rows, columns = torch.arange(window) + int(corner[0]), torch.arange(window) + int(corner[1])
    return (rows[:, None] * side + columns).reshape(-1)


def _closeness(alpha: Float[Tensor, "v h w"], near_miss: float) -> Float[Tensor, "v h w"]:
    solid = (alpha > 0.5).numpy()
    border, near = (_window_side(reach, solid.shape[-1]) for reach in (_BORDER_REACH, _NEAR_REACH))
    grown, around = (maximum_filter(solid, (1, side, side), mode="constant", cval=False) for side in (border, near))
    shrunk = minimum_filter(solid, (1, border, border), mode="constant", cval=True)
    weights = solid + _BORDER * (grown ^ shrunk) + _NEAR * (around ^ grown)
    weights += (near_miss - _BORDER) * (grown & ~solid)
    return torch.from_numpy(weights.astype(np.float32)) + 1e-6  # an empty view still has somewhere to look


def _hints(depth: Float[np.ndarray, "v h w"]) -> Float[np.ndarray, "v h w"]:
    """Return where along each ray to look closely: at the surface, and beside an object at its outline's depth.

    A ray that just misses must be searched as closely as one that just hits, or density grows beyond the outline
    where training hardly looks. Far from the object it is 0.
    """
    hint = depth
    for reach in _HINT_REACHES:  # from close by to further away, so that the nearest outline counts
        side = _window_side(reach, depth.shape[-1])
        hint = np.where(hint > 0, hint, maximum_filter(depth, (1, side, side), mode="constant", cval=0.0))
    return hint


def _window_side(reach: float, side: int) -> int:
    return 2 * max(1, round(reach * side)) + 1
