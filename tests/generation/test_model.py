"""The Python API: what is loaded, and that a sample depends on its own seed and prompt alone."""

from pathlib import Path

import pytest
import torch

from ln3d.artifacts.publish import publish
from ln3d.artifacts.tensors import save_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError, WeightsError
from ln3d.generation import model
from ln3d.generation.model import Generator, views_around
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.dit import build_denoiser

STATISTICS = {"mean": torch.full((3, 2, 1, 1), 0.5), "std": torch.full((3, 2, 1, 1), 2.0)}


def _recipe(kind: str = "text") -> Recipe:
    vae = {
        "encoder": {"resolution": 16, "width": 8, "multipliers": [1, 2]},
        "latent": {"channels": 2, "resolution": 8},
        "decoder": {"width": 16, "depth": 2, "heads": 2},
        "upsampler": {"width": 8, "multipliers": [1, 2]},
        "field": {"channels": 8, "hidden": 8},
        "renderer": {"coarse": 8, "fine": 4},
    }
    condition = {"kind": kind, "depth": 1, "tokens": 6}
    diffusion = {"dit": {"width": 16, "depth": 1, "heads": 2}, "condition": condition, "sampler": {"steps": 4}}
    return Recipe.model_validate({"name": "tiny", "vae": vae, "diffusion": diffusion})


def _vae(workspace: Workspace, recipe: Recipe, seed: int = 0) -> None:
    torch.manual_seed(seed)
    weights = Autoencoder(recipe.vae).state_dict()
    with publish(workspace.path("vae"), "vae", recipe=recipe, details={"iso": 3.0}, replace=True) as scratch:
        save_tensors(scratch / "weights.safetensors", weights)


def _denoiser(workspace: Workspace, recipe: Recipe) -> None:
    torch.manual_seed(1)
    denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent)
    torch.nn.init.normal_(denoiser.network.leave.weight, std=0.3)
    for block in denoiser.network.blocks:
        torch.nn.init.normal_(block.cross.out.weight, std=0.3) if block.cross else None
    inputs = {"vae": workspace.open("vae")}
    with publish(workspace.path("denoiser"), "denoiser", recipe=recipe, inputs=inputs) as scratch:
        save_tensors(scratch / "weights.safetensors", denoiser.state_dict())
        save_tensors(scratch / "statistics.safetensors", STATISTICS)


def _workspace(root: Path, kind: str = "text") -> Path:
    workspace = Workspace(root)
    _vae(workspace, _recipe(kind))
    _denoiser(workspace, _recipe(kind))
    return root


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.load(_workspace(tmp_path_factory.mktemp("model") / "tiny"))


def test_loading_keeps_recipe_level_and_statistics(generator: Generator) -> None:
    assert generator.iso == 3.0
    assert generator.recipe == _recipe()
    assert generator.conditional
    assert torch.equal(generator.statistics["std"], STATISTICS["std"])
    assert set(generator.artifacts) == {"vae", "denoiser"}
    assert not any(p.requires_grad for p in generator.autoencoder.parameters())


def test_a_sample_is_the_same_in_any_batch(generator: Generator) -> None:
    prompts = ["red car", None, "wooden boat", "a chair", "red car"]
    seeds = [3, 4, 5, 6, 7]
    together = generator.sample(prompts, seeds)
    alone = [generator.sample([prompt], [seed]) for prompt, seed in zip(prompts, seeds, strict=True)]
    assert together.shape == (5, 3, 2, 8, 8)
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    assert torch.equal(generator.sample(prompts, seeds), together)


def test_seed_prompt_steps_guidance_and_method_all_matter(generator: Generator) -> None:
    reference = generator.sample(["red car"], [0])
    others = [
        generator.sample(["red car"], [1]),
        generator.sample(["a chair"], [0]),
        generator.sample(["red car"], [0], steps=2),
        generator.sample(["red car"], [0], guidance=6.0),
        generator.sample(["red car"], [0], method="heun"),
    ]
    for other in others:
        assert (other - reference).abs().max() > 1e-3


def test_guidance_leaves_a_sample_without_prompt_as_it_is(generator: Generator) -> None:
    one = generator.sample([None], [0], guidance=1.0)
    assert torch.allclose(one, generator.sample([""], [0], guidance=5.0), atol=1e-4)


def test_a_denoiser_that_predicts_noise_minus_mean_lands_on_the_mean(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For data that are one point, zero after standardisation, the true velocity is z / t.
    assert generator.denoiser is not None
    monkeypatch.setattr(generator.denoiser, "forward", lambda z, t, *condition: z / t[:, None, None, None, None])
    latents = generator.sample(["a", "b"], [0, 1], method="euler")
    assert torch.allclose(latents, torch.full_like(latents, 0.5), atol=1e-5)


def test_views_are_pictures_of_the_decoded_field(generator: Generator) -> None:
    latents = generator.sample([None, None], [0, 1])
    pictures = generator.views(latents, *views_around(2), 10)
    assert pictures.shape == (2, 2, 10, 10, 3)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    single = generator.views(latents[1:], *views_around(2), 10)
    assert torch.allclose(single[0], pictures[1], atol=1e-6)
    density, colour = generator.field(generator.decode(latents))(torch.zeros(2, 7, 3))
    assert density.shape == (2, 7)
    assert colour.shape == (2, 7, 3)


def test_views_around_start_at_three_quarters_and_close_the_ring() -> None:
    poses, _ = views_around(4)
    eyes = poses[:, :3, 3]
    assert torch.allclose(eyes[0, 0], eyes[0, 2], atol=1e-5)  # between front (+z) and right (+x)
    assert eyes[0, 0] > 0
    assert torch.allclose(eyes[:2, [0, 2]], -eyes[2:, [0, 2]], atol=1e-5)


def test_decoding_needs_no_denoiser(tmp_path: Path) -> None:
    _vae(Workspace(tmp_path), _recipe())
    generator = Generator.load(tmp_path, sampling=False)
    assert generator.decode(torch.zeros(1, 3, 2, 8, 8)).ndim == 5
    with pytest.raises(RecipeError, match="decoding only"):
        generator.sample([None], [0])
    with pytest.raises(ArtifactError, match="denoiser") as problem:
        Generator.load(tmp_path)
    assert "ln3d train-diffusion" in problem.value.hint


def test_a_denoiser_of_another_vae_is_refused(tmp_path: Path) -> None:
    _workspace(tmp_path)
    _vae(Workspace(tmp_path), _recipe(), seed=1)
    with pytest.raises(ArtifactError, match="was trained on the latents of the VAE tiny") as problem:
        Generator.load(tmp_path)
    assert "ln3d encode" in problem.value.hint


@pytest.mark.parametrize("kind", ["vae", "denoiser"])
def test_a_flipped_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    weights = Workspace(_workspace(tmp_path)).path(kind) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged"):
        Generator.load(tmp_path)


def test_text_for_an_unconditional_model_is_an_error(tmp_path: Path) -> None:
    generator = Generator.load(_workspace(tmp_path, kind="none"))
    assert not generator.conditional
    assert generator.sample([None], [0]).shape == (1, 3, 2, 8, 8)
    with pytest.raises(RecipeError, match="unconditional"):
        generator.sample(["red car"], [0])


def test_missing_default_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "DEFAULT_MODEL", tmp_path / "default")
    with pytest.raises(WeightsError, match="no shipped model") as problem:
        Generator.load(None)
    assert "--model" in problem.value.hint
