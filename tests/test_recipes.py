"""Every shipped recipe builds the networks it promises, or says what is missing; sizes are pinned, without memory."""

from pathlib import Path

import pytest
import torch

from ln3d.config.load import load_recipe
from ln3d.config.recipe import Recipe
from ln3d.data.batches import check_views
from ln3d.errors import RecipeError
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.decoder import count_parameters
from ln3d.models.dit import build_denoiser
from ln3d.training.vae_step import check_losses

FOLDER = Path(__file__).parents[1] / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SHAPENET = ["shapenet_car", "shapenet_chair", "shapenet_plane"]
BUILT = ["quick", "reference", "smoke"]
"""Recipes that can be run as they are."""
SHAPENET_PARTS = {"encoder": 5862744, "decoder": 128144640, "upsampler": 1015168, "head": 2372}
AUTOENCODERS = {
    "objaverse": {"encoder": 5866776, "decoder": 454159360, "upsampler": 1047936, "head": 2372},
    "quick": {"encoder": 1154312, "decoder": 2706240, "upsampler": 245584, "head": 5508},
    "reference": {"encoder": 1041176, "decoder": 4039104, "upsampler": 941440, "head": 2372},
    **dict.fromkeys(SHAPENET, SHAPENET_PARTS),
    "smoke": {"encoder": 297608, "decoder": 153664, "upsampler": 76296, "head": 420},
}
DENOISERS = {"objaverse": 458642448, "quick": 7877952, "reference": 6989328, "smoke": 257616}


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


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SHAPENET)))
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
    assert name.removeprefix("shapenet_") in str(recipe.dataset.collections[0].path)


@pytest.mark.parametrize("name", SHAPENET)
def test_the_unet_and_ddpm_are_refused_as_not_built(name: str) -> None:
    recipe = _recipe(name)
    with pytest.raises(RecipeError, match="not built yet: .*`ddpm` and .*`unet`"):
        build_denoiser(recipe.diffusion, recipe.vae.latent)


@pytest.mark.parametrize("name", NAMES)
def test_losses_that_are_not_built_are_refused_and_the_others_run(name: str) -> None:
    losses = _recipe(name).vae.losses
    unbuilt = [loss for loss in ("lpips", "adversarial") if getattr(losses, loss)]
    assert (unbuilt == []) == (name in BUILT)
    if not unbuilt:
        check_losses(_recipe(name).vae)
        return
    with pytest.raises(RecipeError, match="not built yet") as error:
        check_losses(_recipe(name).vae)
    for loss in unbuilt:
        assert loss in error.value.message
        assert f"vae.losses.{loss}=0" in error.value.hint
