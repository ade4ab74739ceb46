"""Every shipped recipe builds the networks it promises, or says what is missing; sizes are pinned, without memory."""

import functools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from ln3d.config.load import load_recipe, recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.data.batches import check_views, choose_pixels, choose_views
from ln3d.data.subsets import read_object_list
from ln3d.errors import RecipeError
from ln3d.geometry.cameras import spiral
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.models.dit import build_denoiser
from ln3d.stages.estimate import discriminator_weights, estimate
from ln3d.training.optimiser import check_parts
from ln3d.training.vae_step import check_networks

FOLDER = Path(__file__).parents[1] / "recipes"
PRETRAINED = Path(__file__).parents[1] / "ln3d" / "pretrained"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHAPENET = ["shapenet_car", "shapenet_chair", "shapenet_plane"]
UNET = ["ffhq", *SHAPENET]
"""Recipes whose denoiser is not built."""
ABLATION = ["conv", "vit", "dit", "pluecker", "cross_plane", "self_plane"]
"""The rows of the paper's table, each with one idea more than the one before."""
FEW_VIEWS = ["monocular", "two_views"]
"""What the paper says of few pictures per object."""
ENCODERS = ["aligned", "distilled", "tuned"]
"""Other ways to an encoder, before the decoder of the last row."""
EVERYDAY = ["everyday", "everyday_finish"]
"""A model, and how it is trained on."""
SHAPENET_PARTS = {"encoder": 5862744, "decoder": 128144640, "upsampler": 1015168, "head": 2372}
DEFAULT_PARTS = {"encoder": 1041176, "decoder": 4039104, "upsampler": 941440, "head": 2372}
AUTOENCODERS = {
    **dict.fromkeys(EVERYDAY, {"encoder": 1154312, "decoder": 2706240, "upsampler": 245584, "head": 5508}),
    "ffhq": SHAPENET_PARTS,
    "objaverse": {"encoder": 5866776, "decoder": 454159360, "upsampler": 1047936, "head": 2372},
    "quick": {"encoder": 1154312, "decoder": 2706240, "upsampler": 245584, "head": 5508},
    "packages": DEFAULT_PARTS,  # data alone
    "reference": DEFAULT_PARTS,
    **dict.fromkeys(SHAPENET, SHAPENET_PARTS),
    "smoke": {"encoder": 297608, "decoder": 153664, "upsampler": 76296, "head": 420},
}
DEFAULT_DENOISER = 6989328
DENOISERS = {
    **dict.fromkeys(EVERYDAY, 7877952),
    "objaverse": 458642448,
    "packages": DEFAULT_DENOISER,
    "quick": 7877952,
    "reference": DEFAULT_DENOISER,
    "smoke": 257616,
}


def _recipe(name: str) -> Recipe:
    return load_recipe(FOLDER / f"{name}.yaml")


def _parts(name: str) -> dict[str, int]:
    with torch.device("meta"):
        networks = Autoencoder(_recipe(name).vae)
    return {part: count_parameters(module) for part, module in networks.named_children()}


@pytest.mark.parametrize("name", NAMES)
def test_views_that_a_recipe_renders_suffice_for_its_training(name: str) -> None:
    recipe = _recipe(name)
    check_views(recipe.vae, recipe.dataset.cameras.views)
    supervision = recipe.vae.supervision
    assert (supervision.resolution or 0) <= recipe.dataset.resolution
    if recipe.vae.encoder.kind == "image":
        assert recipe.vae.encoder.resolution <= recipe.dataset.resolution


@pytest.mark.parametrize("name", NAMES)
def test_stage_one_has_the_size_that_is_pinned(name: str) -> None:
    assert _parts(name) == AUTOENCODERS[name]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(UNET)))
def test_stage_two_has_the_size_that_is_pinned(name: str) -> None:
    recipe = _recipe(name)
    with torch.device("meta"):
        denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent)
    assert count_parameters(denoiser) == DENOISERS[name]


def test_the_general_model_has_the_papers_sizes() -> None:
    assert AUTOENCODERS["objaverse"]["decoder"] == pytest.approx(453e6, rel=0.01)
    assert DENOISERS["objaverse"] == pytest.approx(458e6, rel=0.01)
    recipe = _recipe("objaverse")
    with torch.device("meta"):
        networks = Autoencoder(recipe.vae)
    assert networks.plane_side == 128
    assert recipe.vae.field.channels == 32
    assert (recipe.vae.latent.channels, recipe.vae.latent.resolution) == (4, 32)


@pytest.mark.parametrize("name", SHAPENET)
def test_shapenet_models_see_one_picture_without_its_camera(name: str) -> None:
    recipe = _recipe(name)
    encoder, supervision = recipe.vae.encoder, recipe.vae.supervision
    assert (encoder.views, encoder.pluecker, encoder.depth) == (1, False, False)
    assert (supervision.input_views, supervision.novel_views) == (1, 1)
    assert recipe.dataset.collections[0].categories == (name.removeprefix("shapenet_"),)


@pytest.mark.parametrize("name", SHAPENET)
def test_shapenet_models_compare_a_crop_of_the_input_and_of_one_novel_view(name: str) -> None:
    recipe = _recipe(name)
    supervision = recipe.vae.supervision
    for seed in range(20):
        inputs, supervised = choose_views(np.random.default_rng(seed), spiral(recipe.dataset.cameras.views), recipe.vae)
        assert len(inputs) == 1
        assert supervised[:1] == inputs
        assert len(supervised) == 2 and supervised[1] not in inputs
    alpha = torch.zeros(2, supervision.resolution, supervision.resolution)
    chosen = choose_pixels(np.random.default_rng(0), alpha, supervision)
    views = chosen // supervision.resolution**2
    assert views.bincount().tolist() == [45 * 45, 45 * 45]


def test_the_face_model_compares_the_input_alone() -> None:
    recipe = _recipe("ffhq")
    inputs, supervised = choose_views(np.random.default_rng(0), spiral(recipe.dataset.cameras.views), recipe.vae)
    assert inputs == supervised == [0]
    assert (recipe.vae.encoder.pluecker, recipe.vae.encoder.depth) == (False, False)
    assert (recipe.vae.renderer.coarse, recipe.vae.renderer.fine) == (48, 48)


def _row(name: str) -> Recipe:
    return load_recipe(FOLDER / "ablation" / f"{name}.yaml")


def _differences(one: object, other: object, place: str = "") -> set[str]:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return set() if one == other else {place}
    return set().union(*(_differences(one[key], other[key], f"{place}.{key}".lstrip(".")) for key in one))


def test_every_row_of_the_ablation_adds_one_idea() -> None:
    rows = [_row(name).model_dump() for name in ABLATION]
    names = sorted(path.stem for path in (FOLDER / "ablation").glob("*.yaml"))
    assert names == sorted(["base", *ABLATION, *FEW_VIEWS, *ENCODERS])
    steps = [_differences(one, other) - {"name"} for one, other in zip(rows[:-1], rows[1:], strict=True)]
    assert steps == [
        {"vae.decoder.variant"},
        {"vae.decoder.variant"},
        {"vae.encoder.pluecker"},
        {"vae.decoder.cross_plane_attention"},
        {"vae.decoder.in_plane_attention"},
    ]
    assert rows[-1]["vae"] == _row("base").vae.model_dump()


def test_the_ablation_is_made_on_the_data_of_the_quick_recipe() -> None:
    quick = _recipe("quick")
    for name in [*ABLATION, *FEW_VIEWS, *ENCODERS]:
        assert _row(name).dataset == quick.dataset
        assert _row(name).vae.supervision.held_out_views == quick.vae.supervision.held_out_views
        check_views(_row(name).vae, quick.dataset.cameras.views)
        check_networks(_row(name).vae)


@pytest.mark.parametrize("name", ABLATION)
def test_rows_of_the_ablation_build_and_differ_in_size_where_they_should(name: str) -> None:
    with torch.device("meta"):
        networks = Autoencoder(_row(name).vae)
    assert len(networks.decoder.blocks) == (0 if name == "conv" else 4)
    assert networks.decoder.stacked == (name in ("conv", "vit", "dit", "pluecker"))
    assert networks.plane_side == 64


def test_encoders_are_compared_before_the_same_decoder() -> None:
    base = _row("base").model_dump()
    schedule = {"vae.losses.kl_start", "vae.losses.kl_end", "vae.training.steps"}
    rates = {"vae.training.learning_rate", "vae.training.warmup"}
    allowed = {
        "aligned": {"vae.encoder.kind", "vae.encoder.width"} | schedule,
        "distilled": {"vae.supervision.kind", "vae.training.steps", "vae.training.validate_every"},
        "tuned": schedule | rates,
    }
    for name in ENCODERS:
        assert _differences(_row(name).model_dump(), base) - {"name"} <= allowed[name]
    assert (_row("aligned").vae.encoder.kind, _row("distilled").vae.supervision.kind) == ("aligned", "latents")
    assert _row("tuned").vae.encoder == _row("distilled").vae.encoder == _row("self_plane").vae.encoder


@pytest.mark.parametrize("name", UNET)
def test_the_unet_and_ddpm_are_refused_as_not_built(name: str) -> None:
    recipe = _recipe(name)
    with pytest.raises(RecipeError, match="not built yet: .*`ddpm` and .*`unet`"):
        build_denoiser(recipe.diffusion, recipe.vae.latent)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_first_stage_is_refused(name: str) -> None:
    check_networks(_recipe(name).vae)


def test_the_discriminators_are_the_papers() -> None:
    """Frozen DINOv2 and the non-saturating loss; weights and rates of the face model as in its released training."""
    weights = {"ffhq": (0.01, 0.025), "objaverse": (0.5, 0.5), **dict.fromkeys(SHAPENET, (0, 0))}
    for name, expected in weights.items():
        config = _recipe(name).vae
        assert (config.losses.adversarial, config.losses.adversarial_novel) == expected
        assert (config.discriminators.backbone, config.discriminators.loss) == ("dinov2", "non_saturating")
        assert (config.discriminators.r1, config.discriminators.start) == (0, 0)
    face = _recipe("ffhq").vae
    assert face.imagines_views and not _recipe("objaverse").vae.imagines_views
    assert (face.discriminators.learning_rate, face.discriminators.novel_learning_rate) == (2e-4, 1e-4)
    assert face.discriminators.betas == (0, 0.999)
    heads, frozen = discriminator_weights(_recipe("ffhq"))
    assert frozen == pytest.approx(22.1e6, rel=0.03)  # DINOv2's smallest
    assert heads == 419976


SHAPENET_VALUES = {
    "dataset.cameras.views": 50,
    "dataset.cameras.radius": 2.4,  # 1.2 where the box has a side of 1.2, and 2.4 where it has 2
    "dataset.cameras.field_of_view": 51.99,
    "vae.encoder.resolution": 256,
    "vae.encoder.multipliers": (1, 2, 4, 4),
    "vae.encoder.width": 64,
    "vae.latent": {"channels": 4, "resolution": 32, "initial_log_variance": 0.0},
    "vae.upsampler.multipliers": (1, 2, 2, 4),
    "vae.field.hidden": 64,
    "vae.renderer.coarse": 64,
    "vae.renderer.fine": 64,
    "vae.supervision.kind": "crop",
    "vae.supervision.crop": 45,
    "vae.supervision.resolution": 128,
    "vae.supervision.foreground": 0.875,
    "vae.losses.l1": 1,
    "vae.losses.l2": 0,
    "vae.losses.lpips": 2,
    "vae.losses.lpips_net": "alex",
    "vae.losses.alpha": 1,
    "vae.losses.depth": 0,
    "vae.losses.smoothness": 0.1,
    "vae.losses.kl": 1e-6,
    "vae.losses.kl_initial": None,  # a ten-thousandth
    "vae.losses.kl_start": 5000,
    "vae.losses.kl_end": 30000,
    "vae.training.steps": 800_000,
    "vae.training.batch": 64,
    "vae.training.learning_rate": 5e-4,
    "vae.training.learning_rates": {"decoder": 0.2},
    "vae.training.weight_decay": 0.001,
    "vae.training.weight_decays": {},
    "vae.training.final_learning_rate": 1,
    "vae.training.betas": (0.9, 0.999),
    "vae.training.gradient_clip": 5,
    "vae.training.ema": 0.9999,
}
PAPER: dict[str, dict[str, object]] = {
    **dict.fromkeys(SHAPENET, SHAPENET_VALUES),
    "ffhq": {place: value for place, value in SHAPENET_VALUES.items() if place != "vae.supervision.crop"}
    | {
        "dataset.cameras.views": 1,
        "dataset.cameras.radius": 5.4,
        "dataset.cameras.field_of_view": 13.37,
        "vae.renderer.coarse": 48,
        "vae.renderer.fine": 48,
        "vae.supervision.kind": "full",
        "vae.losses.alpha": 0,  # there is no mask
        "vae.losses.smoothness": 0,
    },
    "objaverse": SHAPENET_VALUES
    | {
        "dataset.cameras.views": 40,
        "dataset.cameras.radius": 3.54,  # 1.77 to 1.7 where the box has a side of 0.9
        "dataset.cameras.field_of_view": 39.6,
        "vae.supervision.crop": 80,
        "vae.supervision.resolution": 192,
        "vae.losses.depth": 0.5,
        "vae.losses.depth_kind": "scale_invariant",
        "vae.losses.smoothness": 0,
        "vae.training.learning_rate": 1e-4,
        "vae.training.learning_rates": {"encoder": 2, "upsampler": 2, "head": 2},
        "vae.training.weight_decay": 0.05,
        "vae.training.weight_decays": {"encoder": 0.001, "decoder": 0.001},
    },
}
"""What the paper and its released training give stage 1; a decoder from scratch has the general model's rate."""


@pytest.mark.parametrize("name", PAPER)
def test_the_values_are_the_papers(name: str) -> None:
    values = _recipe(name).model_dump()
    found = {place: functools.reduce(lambda part, key: part[key], place.split("."), values) for place in PAPER[name]}
    assert found == PAPER[name]


@pytest.mark.parametrize("name", PAPER)
def test_rates_and_decays_are_those_of_parts_that_there_are(name: str) -> None:
    recipe = _recipe(name)
    with torch.device("meta"):
        check_parts(Autoencoder(recipe.vae), recipe.vae.training)


@pytest.mark.parametrize("name", FEW_VIEWS)
def test_few_views_are_the_only_ones_that_a_training_sees(name: str) -> None:
    config, known = _row(name).vae, {"monocular": 1, "two_views": 2}[name]
    assert config.supervision.known_views == known
    assert config.encoder.views + config.supervision.novel_views == known
    assert (config.encoder.pluecker, config.encoder.depth) == (False, False)
    assert config.losses.kl_start < config.losses.kl_end < config.training.steps
    with torch.device("meta"):
        networks = Autoencoder(config)
    assert count_parameters(networks.decoder) == _decoder("self_plane")
    assert estimate(_row(name))["operations_per_step"] > 0


def _decoder(name: str) -> int:
    with torch.device("meta"):
        return count_parameters(Autoencoder(_row(name).vae).decoder)


def test_the_monocular_recipe_is_trained_with_and_without_the_novel_view_discriminator() -> None:
    recipe = _row("monocular")
    (change,) = set(re.findall(r"--set (vae\S+)", (FOLDER / "ablation/monocular.yaml").read_text()))
    without = load_recipe(FOLDER / "ablation/monocular.yaml", [change])
    assert _differences(recipe.model_dump(), without.model_dump()) == {"vae.losses.adversarial_novel"}
    assert recipe.vae.imagines_views and not without.vae.imagines_views
    # One way to place samples for both kinds of views; of an object nothing is known but colours and an outline.
    assert recipe.vae.renderer.guided_fine == recipe.vae.losses.depth == recipe.vae.losses.surface == 0
    heads = [discriminator_weights(each) for each in (recipe, without)]
    assert heads[0].trained == 2 * heads[1].trained and heads[0].frozen == heads[1].frozen


def test_two_views_are_compared_with_all() -> None:
    recipe = _row("two_views")
    (change,) = set(re.findall(r"--set (vae\S+)", (FOLDER / "ablation/two_views.yaml").read_text()))
    every = load_recipe(FOLDER / "ablation/two_views.yaml", [change])
    assert _differences(recipe.model_dump(), every.model_dump()) == {"vae.supervision.known_views"}
    assert every.vae.supervision.known_views is None


@pytest.mark.parametrize("name", ["ffhq", "objaverse", *SHAPENET])
def test_recipes_of_the_papers_size_say_what_a_person_asks_first(name: str) -> None:
    header = (FOLDER / f"{name}.yaml").read_text().partition("\nname:")[0]
    for word in ("Command:", "Hardware:", "Hours:", "Score:"):
        assert f"# {word}" in header
    hours = float(re.search(r"# Hours:\s+about ([\d.]+) on 8 A100", header)[1])
    figures = estimate(_recipe(name))
    assert hours == pytest.approx(figures["hours_on_8_a100"], rel=0.1)
    assert figures["paper_hours_both_stages"] == 168


def test_the_everyday_model_is_scored_on_shapes_that_its_recipe_holds_out() -> None:
    lists, split = read_object_list(FOLDER / "everyday.json"), _recipe("everyday").dataset.split
    counts = {name: {group: len(ids) for group, ids in groups.items()} for name, groups in lists.items()}
    assert counts["test"] == {"furniture": 24, "plane": 12, "boat": 7, "car": 5}
    assert sum(counts["train"].values()) == 60
    held_out = [name for ids in lists["test"].values() for name in ids]
    assert list(split.held_out) == held_out
    assert split.test == 0
    assert not set(held_out) & {name for ids in lists["train"].values() for name in ids}
    collections = Counter(name.partition("/")[0] for name in held_out)
    assert set(collections) <= {"sweethome3d", "torcs", "trigger-rally", "flightgear", "0ad"}


def test_the_everyday_model_is_trained_on_as_the_network_that_it_was() -> None:
    first, second = (_recipe(name).model_dump() for name in EVERYDAY)
    changed = {name.rsplit(".", 1)[0] for name in _differences(second, first) - {"name", "vae.encoder.choice"}}
    assert changed == {"vae.losses", "vae.augmentation", "vae.training"}
    assert (second["vae"]["losses"]["kl_initial"], first["vae"]["losses"]["kl"]) == (5e-6, 1e-5)


def test_the_shipped_everyday_model_is_what_its_recipe_makes() -> None:
    manifest = json.loads((PRETRAINED / "everyday" / "vae" / "manifest.json").read_text())
    assert recipe_from_dict(manifest["recipe"]).vae == _recipe("everyday_finish").vae


@pytest.mark.parametrize("name", EVERYDAY)
def test_the_everyday_model_never_sees_the_compared_views(name: str) -> None:
    recipe = _recipe(name)
    assert recipe.vae.encoder.views == 6
    held_out = set(recipe.vae.supervision.held_out_views)
    for seed in range(50):
        inputs, supervised = choose_views(np.random.default_rng(seed), spiral(recipe.dataset.cameras.views), recipe.vae)
        assert not held_out & {*inputs, *supervised}
    losses, training = recipe.vae.losses, recipe.vae.training
    assert losses.kl_start < losses.kl_end < training.steps
