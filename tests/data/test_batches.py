"""Batches of stage 1 as pure functions of their key: which objects, views, pixels and colours."""

import shutil
from collections import Counter
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ln3d.artifacts.opening import open_artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.config.vae import SupervisionConfig, VaeConfig
from ln3d.data.batches import VaeBatches, check_views, choose_pixels, choose_views, input_views, stride_of
from ln3d.data.loader import batches
from ln3d.data.pictures import Pictures
from ln3d.data.shard_files import shard_name
from ln3d.data.shards import ShardSet
from ln3d.errors import ArtifactError, RecipeError
from ln3d.geometry.cameras import spiral

RecipeOf = Callable[..., Recipe]
PLAIN = ("vae.augmentation.saturation=1", "vae.augmentation.permutation=0")


def _batches(shards: ShardSet, config: VaeConfig, seed: int = 0) -> VaeBatches:
    return VaeBatches(shards, range(len(shards)), config, seed)


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def _inputs(shards: ShardSet, batch: dict[str, Tensor]) -> list[list[tuple[int, int]]]:
    """Return (object, view) of every input of every sample, found by their picked pixels, which all differ."""
    pictures, places = Pictures(shards), [(i, v) for i in range(len(shards)) for v in range(shards.views)]
    stride = shards.resolution // batch["input_depth"].shape[-1]
    known = {}
    for place in places:
        for first in product(range(stride), repeat=2):
            colour, depth, _ = pictures.picked(place[0], [place[1]], stride, first)
            known[colour.tobytes() + depth.tobytes()] = place
    assert len(known) == stride**2 * len(places)
    colours = batch["input_colour"].permute(0, 1, 3, 4, 2).contiguous().numpy()
    return [
        [known[colour.tobytes() + depth.tobytes()] for colour, depth in zip(*views, strict=True)]
        for views in zip(colours, batch["input_depth"].numpy(), strict=True)
    ]


def test_a_batch_is_a_pure_function_of_its_key_and_made_of_its_parts(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    config = tiny_recipe().vae
    make = _batches(tiny_shards, config)
    whole = make(7, 0, range(4))
    assert _equal(whole, _batches(tiny_shards, config)(7, 0, range(4)))
    parts = [make(7, 0, range(0, 1)), make(7, 0, range(1, 4))]
    assert _equal(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})
    for other in (make(8, 0, range(4)), make(7, 1, range(4)), _batches(tiny_shards, config, 1)(7, 0, range(4))):
        assert not torch.equal(whole["directions"], other["directions"])


def test_it_is_the_same_for_any_number_of_workers(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    make = _batches(tiny_shards, tiny_recipe().vae)
    alone, together = (list(batches(make, range(2, 6), 1, range(2), workers)) for workers in (0, 2))
    assert all(_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_shapes_and_ranges(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    batch = _batches(tiny_shards, tiny_recipe().vae)(0, 0, range(3))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_colour": (3, 2, 3, 8, 8),
        "input_depth": (3, 2, 8, 8),
        "input_cameras": (3, 2, 4, 4),
        "input_intrinsics": (3, 2, 3, 3),
        "origins": (3, 48, 3),
        "directions": (3, 48, 3),
        "colour": (3, 48, 3),
        "alpha": (3, 48),
        "depth": (3, 48),
        "hint": (3, 48),
    }
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in batch.values())
    for name in ("input_colour", "colour", "alpha"):
        assert 0 <= batch[name].min() <= batch[name].max() <= 1
    torch.testing.assert_close(batch["directions"].norm(dim=-1), torch.ones(3, 48))


def test_an_epoch_meets_every_object_once_and_the_next_one_in_another_order(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    make = _batches(tiny_shards, tiny_recipe("vae.training.batch=3", *PLAIN).vae)
    assert len(tiny_shards) == 9
    met = [views[0][0] for step in range(6) for views in _inputs(tiny_shards, make(step, 0, range(3)))]
    assert sorted(met[:9]) == sorted(met[9:]) == list(range(9))
    assert met[:9] != met[9:]


def test_a_retry_meets_other_objects(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    plain = ("vae.augmentation.saturation=1", "vae.augmentation.permutation=0", "vae.training.batch=9")
    recipe = tiny_recipe("vae.supervision.kind=latents", *plain)  # batches say which objects are in them
    batches = VaeBatches(tiny_shards, range(9), recipe.vae, 0)
    orders = [batches(0, retries, range(9))["object"].tolist() for retries in (0, 1, 0, 2)]
    assert orders[0] == orders[2]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(9)) for order in orders)


def test_held_out_views_are_neither_seen_nor_supervised(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    config = tiny_recipe(*PLAIN).vae
    make = _batches(tiny_shards, config)
    eyes = {tuple(pose[:3, 3].tolist()): v for v, pose in enumerate(tiny_shards.camera_to_world(0))}
    inputs, supervised = Counter(), Counter()
    for step in range(12):
        batch = make(step, 0, range(2))
        for views, origins in zip(_inputs(tiny_shards, batch), batch["origins"], strict=True):
            taken = [view for _, view in views]
            compared = {eyes[tuple(origin.tolist())] for origin in origins}
            assert len(set(taken)) == 2
            assert len(compared) <= 3
            assert len(compared - set(taken)) <= 2  # novel views
            inputs.update(taken)
            supervised.update(compared)
    assert set(inputs) == set(supervised) == {0, 1, 2, 3, 5}


def test_inputs_and_novel_views_are_different_and_as_many_as_asked_for(tiny_recipe: RecipeOf) -> None:
    config = tiny_recipe().vae
    for seed in range(50):
        inputs, supervised = choose_views(np.random.default_rng(seed), spiral(6), config)
        assert len(set(inputs)) == 2
        assert supervised[:1] == inputs[:1]
        assert len(set(supervised[1:])) == 2
        assert not set(supervised[1:]) & set(inputs)
        assert 4 not in inputs + supervised


def test_spread_inputs_leave_less_unseen_than_any_and_are_others_every_time(tiny_recipe: RecipeOf) -> None:
    eyes, every = spiral(24), spiral(500)
    unseen, sets = {}, {}
    for choice in ("any", "spread"):
        config = tiny_recipe("vae.encoder.views=6", f"vae.encoder.choice={choice}").vae
        chosen = [choose_views(np.random.default_rng(seed), eyes, config) for seed in range(200)]
        for inputs, supervised in chosen:
            assert len(set(inputs)) == 6
            assert not {*supervised[1:]} & {*inputs}
            assert 4 not in inputs + supervised
        unseen[choice] = np.mean([(every @ eyes[inputs].T).max(axis=1).min() for inputs, _ in chosen])
        sets[choice] = {tuple(sorted(inputs)) for inputs, _ in chosen}
    assert np.degrees(np.arccos(unseen["any"])) > np.degrees(np.arccos(unseen["spread"])) + 10
    assert len(sets["spread"]) > 100


def test_known_views_alone_are_spread(tiny_recipe: RecipeOf) -> None:
    config = tiny_recipe("vae.encoder.choice=spread").vae
    for seed in range(20):
        inputs, supervised = choose_views(np.random.default_rng(seed), spiral(24), config, known=[1, 5, 7, 20])
        assert {*inputs, *supervised} <= {1, 5, 7, 20}


@pytest.mark.parametrize("known", [4, 5])
def test_of_every_object_the_same_few_views_are_known(tiny_shards: ShardSet, tiny_recipe: RecipeOf, known: int) -> None:
    make = _batches(tiny_shards, tiny_recipe(*PLAIN, f"vae.supervision.known_views={known}").vae)
    eyes = {tuple(pose[:3, 3].tolist()): v for v, pose in enumerate(tiny_shards.camera_to_world(0))}
    met: dict[int, set[int]] = {}
    for step in range(27):
        batch = make(step, 0, range(2))
        for views, origins in zip(_inputs(tiny_shards, batch), batch["origins"], strict=True):
            met.setdefault(views[0][0], set()).update(v for _, v in views)
            met[views[0][0]] |= {eyes[tuple(origin.tolist())] for origin in origins}
    assert {len(views) for views in met.values()} == {known}
    assert all(4 not in views for views in met.values())  # it is held out
    assert (len({frozenset(views) for views in met.values()}) > 1) == (known == 4)
    plain = _batches(tiny_shards, tiny_recipe(*PLAIN).vae)
    assert _equal(
        plain(3, 0, range(2)),
        _batches(tiny_shards, tiny_recipe(*PLAIN, "vae.supervision.known_views=5").vae)(3, 0, range(2)),
    )


def test_fewer_known_views_than_a_step_takes_are_refused(tiny_recipe: RecipeOf) -> None:
    with pytest.raises(RecipeError, match="2 input and 2 novel views need as many known ones") as error:
        tiny_recipe("vae.supervision.known_views=3")
    assert "raise supervision.known_views to at least 4" in error.value.message


@pytest.mark.parametrize("kind", ["crop", "full"])
def test_imagined_views_are_seen_from_cameras_of_other_objects(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, kind: str
) -> None:
    few = ("vae.encoder.views=1", "vae.supervision.novel_views=0", "vae.supervision.known_views=1")
    pictures = (f"vae.supervision.kind={kind}", "vae.supervision.crop=8", *PLAIN)
    config = tiny_recipe(*few, *pictures, "vae.losses.adversarial_novel=1").vae
    make = _batches(tiny_shards, config)
    eyes = {tuple(pose[:3, 3].tolist()): v for v, pose in enumerate(tiny_shards.camera_to_world(0))}
    whole = make(7, 0, range(4))
    assert whole["imagined_origins"].shape == whole["origins"].shape == (4, 64 if kind == "crop" else 256, 3)
    parts = [make(7, 0, range(0, 1)), make(7, 0, range(1, 4))]
    assert _equal(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})
    own, imagined = set(), set()
    for step in range(30):
        batch = make(step, 0, range(4))
        rows = zip(batch["origins"][:, 0], batch["imagined_origins"][:, 0], strict=True)
        for (index, _), (seen, unseen) in zip([v[0] for v in _inputs(tiny_shards, batch)], rows, strict=True):
            own.add((index, eyes[tuple(seen.tolist())]))
            imagined.add((index, eyes[tuple(unseen.tolist())]))
        assert torch.allclose(batch["imagined_directions"].norm(dim=-1), torch.ones(1))
    assert len(own) == 9  # one view each, always the same
    assert {view for _, view in imagined} == {view for _, view in own}  # whoever's they are, they are known
    assert len(imagined) > 18
    without = _batches(tiny_shards, tiny_recipe(*few, *pictures).vae)(7, 0, range(4))
    assert _equal(without, {name: whole[name] for name in without}) and len(whole) == len(without) + 2


def test_a_ray_carries_what_its_pixel_shows_and_ends_where_the_depth_says(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    batch = _batches(tiny_shards, tiny_recipe(*PLAIN).vae)(0, 0, range(2))
    for sample, views in enumerate(_inputs(tiny_shards, batch)):
        index = views[0][0]
        poses, matrices = tiny_shards.camera_to_world(index), tiny_shards.intrinsics(index)
        eyes = {tuple(pose[:3, 3].tolist()): v for v, pose in enumerate(poses)}
        for ray in range(48):
            origin, direction = (batch[name][sample, ray].numpy() for name in ("origins", "directions"))
            view = eyes[tuple(origin.tolist())]
            pixel = matrices[view] @ (poses[view][:3, :3].T @ direction)
            place = 16 * pixel[:2] / pixel[2]
            column, row = np.floor(place).astype(int)
            np.testing.assert_allclose(place, [column + 0.5, row + 0.5], atol=1e-4)
            rgba = tiny_shards.colour(index, view)[row, column] / np.float32(255)
            blended = rgba[:3] * rgba[3] + 1 - rgba[3]
            np.testing.assert_allclose(batch["colour"][sample, ray].numpy(), blended, atol=1e-6)
            assert batch["alpha"][sample, ray].item() == pytest.approx(rgba[3])
            assert batch["depth"][sample, ray].item() == tiny_shards.depth(index, view)[row, column]
            if batch["depth"][sample, ray] > 0:  # on the surface, in front of its own pixel
                point = origin + batch["depth"][sample, ray].item() * direction
                assert np.linalg.norm(point) < 0.92


def test_rays_that_just_miss_are_looked_at_as_closely_as_rays_that_hit(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    batch = _batches(tiny_shards, tiny_recipe("vae.supervision.rays=2000").vae)(0, 0, range(2))
    hit, hint = batch["depth"] > 0, batch["hint"]
    torch.testing.assert_close(hint[hit], batch["depth"][hit], rtol=0, atol=0)
    missed = hint[~hit & (hint > 0)]
    assert len(missed) > 50 and set(missed.tolist()) <= set(hint[hit].tolist())
    assert (hint == 0).sum() > 50


def _disc(side: int = 32) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((rows - 12) ** 2 + (columns - 18) ** 2 < 36).float()[None]


@pytest.mark.parametrize(("foreground", "near_miss"), [(0.0, 1), (0.875, 1), (1.0, 1), (0.875, 2), (1.0, 0.5)])
def test_rays_prefer_the_object_as_often_as_they_should(foreground: float, near_miss: float) -> None:
    alpha, rays = _disc(), 40_000
    config = SupervisionConfig(rays=rays, foreground=foreground, near_miss=near_miss)
    chosen = choose_pixels(np.random.default_rng(0), alpha, config)
    assert chosen.shape == (rays,)
    # The object weighs 1, its outline 1 more, what just misses it `near_miss`, and its surroundings up to 1/16 of the
    # side away 0.42.
    solid = alpha[0].numpy() > 0
    grown, near, shrunk = (_spread(solid, 1), _spread(solid, 2), ~_spread(~solid, 1))
    weights = solid + 1.0 * (solid & ~shrunk) + near_miss * (grown & ~solid) + 0.42 * (near & ~grown)
    expected = foreground * weights / weights.sum() + (1 - foreground) / weights.size
    for region in (solid, grown & ~shrunk, grown & ~solid, near & ~grown, ~near):
        share = np.isin(chosen.numpy(), np.flatnonzero(region)).mean()
        assert share == pytest.approx(expected[region].sum(), abs=4 * 0.5 / rays**0.5)


def _spread(mask: np.ndarray, reach: int) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    grid = np.indices(mask.shape)
    distance = np.maximum(
        np.abs(grid[0][..., None] - rows), np.abs(grid[1][..., None] - columns)
    )  # Chebyshev, as square windows measure
    return distance.min(axis=-1) <= reach


@pytest.mark.parametrize("foreground", [0.0, 1.0])
def test_crops_are_whole_squares_that_prefer_the_object(foreground: float) -> None:
    alpha = torch.cat([_disc(), _disc().flip(1)])
    config = SupervisionConfig(kind="crop", crop=8, foreground=foreground)
    corners = []
    for seed in range(100):
        chosen = choose_pixels(np.random.default_rng(seed), alpha, config)
        for view, window in enumerate(chosen.reshape(2, 64)):
            inside = window - view * 32 * 32
            rows, columns = inside // 32, inside % 32
            assert 0 <= inside.min() <= inside.max() < 32 * 32
            assert torch.equal(rows.reshape(8, 8), (rows[0] + torch.arange(8))[:, None].expand(8, 8))
            assert torch.equal(columns.reshape(8, 8), (columns[0] + torch.arange(8)).expand(8, 8))
            near = alpha[view, max(rows[0] - 4, 0) : rows[0] + 12, max(columns[0] - 4, 0) : columns[0] + 12]
            corners.append((int(rows[0]), int(columns[0]), bool(near.any())))
    assert foreground == 0.0 or all(near for *_, near in corners)
    if foreground == 0.0:
        assert {corner[0] for corner in corners} == set(range(25))


def test_full_supervision_is_every_pixel_and_an_empty_view_has_rays_too() -> None:
    alpha = torch.zeros(2, 8, 8)
    everything = choose_pixels(np.random.default_rng(0), alpha, SupervisionConfig(kind="full"))
    assert everything.tolist() == list(range(128))
    some = choose_pixels(np.random.default_rng(0), alpha, SupervisionConfig(rays=500, foreground=1.0))
    assert some.min() < 32 < 96 < some.max() < 128


def test_all_views_of_an_object_have_the_same_tint(tiny_shards: ShardSet, tiny_recipe: RecipeOf) -> None:
    coloured = tiny_recipe("vae.augmentation.permutation=1", "vae.augmentation.saturation=1").vae
    plain, tinted = (_batches(tiny_shards, config)(0, 0, range(2)) for config in (tiny_recipe(*PLAIN).vae, coloured))
    for sample in range(2):
        seen, drawn = plain["input_colour"][sample], tinted["input_colour"][sample]
        orders = [list(order) for order in permutations(range(3)) if torch.equal(seen[:, list(order)], drawn)]
        assert any(torch.equal(plain["colour"][sample][:, order], tinted["colour"][sample]) for order in orders)


def test_the_aligned_encoder_sees_single_pixels_drawn_anew_in_training(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf
) -> None:
    config, pictures = tiny_recipe().vae, Pictures(tiny_shards)
    identity = np.eye(3, dtype=np.float32)
    assert (tiny_shards.resolution, config.encoder.resolution) == (16, 8)
    fixed = [input_views(pictures, 0, [1, 2], config, identity) for _ in range(2)]
    assert _equal(*fixed)
    drawn = [input_views(pictures, 0, [1, 2], config, identity, np.random.default_rng(s)) for s in range(20)]
    assert len({batch["input_depth"].numpy().tobytes() for batch in drawn}) == 4
    assert {stride_of(128, side) for side in (128, 64, 48, 256)} == {1, 2}


@pytest.mark.parametrize("kind", ["image", "aligned"])
@pytest.mark.parametrize("side", [8, 16])
def test_the_encoder_sees_its_own_resolution(
    tiny_shards: ShardSet, tiny_recipe: RecipeOf, kind: str, side: int
) -> None:
    own = (f"vae.encoder.kind={kind}", f"vae.encoder.resolution={side}")
    config = tiny_recipe(*own, "vae.supervision.resolution=8").vae
    batch = _batches(tiny_shards, config)(0, 0, range(1))
    assert batch["input_colour"].shape == (1, 2, 3, side, side)
    assert batch["input_depth"].shape == (1, 2, side, side)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("vae.encoder.views=4",), "takes 4 input and 2 novel views, but only 5 of 6 views per object are not held"),
        (("vae.supervision.input_views=3",), "input_views exceeds vae.encoder.views"),
        (("vae.supervision.input_views=0", "vae.supervision.novel_views=0"), "no view is supervised"),
    ],
)
def test_views_that_are_not_there_are_refused(tiny_recipe: RecipeOf, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        check_views(tiny_recipe(*overrides).vae, views=6)
    assert error.value.hint


def test_a_damaged_shard_is_named_even_by_a_worker(tiny_run: Workspace, tiny_recipe: RecipeOf, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path("shards"), tmp_path / "shards")
    shard = tmp_path / "shards" / shard_name(0)
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDAX"))
    damaged = ShardSet(open_artifact(tmp_path / "shards"))
    source = batches(VaeBatches(damaged, [0], tiny_recipe().vae, 0), range(2), 0, range(1), workers=2)
    with pytest.raises(ArtifactError, match="is damaged") as error:
        next(source)
    assert "Traceback" not in error.value.message
    assert "ln3d render-dataset" in error.value.hint
