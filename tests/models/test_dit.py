"""The diffusion transformer: its size, its start, its symmetries."""

import pytest
import torch
from pydantic import ValidationError

from ln3d.config.diffusion import ConditionConfig, DiffusionConfig, DitConfig
from ln3d.config.training import TrainingConfig
from ln3d.config.vae import LatentConfig
from ln3d.errors import RecipeError
from ln3d.models.conditioners import Condition
from ln3d.models.decoder import count_parameters
from ln3d.models.dit import Denoiser, build_denoiser

LATENT = LatentConfig(channels=2, resolution=8)
TEXT = ConditionConfig(kind="text", tokens=5, depth=1)


def _denoiser(**changes: object) -> Denoiser:
    """Return a small denoiser without any zeros left, so that every path carries a signal."""
    dit = DitConfig(**({"patch": 2, "width": 32, "depth": 2, "heads": 2} | changes))
    torch.manual_seed(0)
    denoiser = build_denoiser(DiffusionConfig(dit=dit, condition=TEXT), LATENT).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return denoiser


def _condition(denoiser: Denoiser, batch: int) -> Condition:
    assert denoiser.conditioner is not None
    return denoiser.conditioner(torch.randn(batch, 5, 256), torch.arange(5).expand(batch, 5) < 3)


def test_large_recipe_has_the_papers_size() -> None:
    dit = DitConfig(patch=2, width=1024, depth=24, heads=16, modulation="zero", context="joint")
    condition = ConditionConfig(kind="text", text_encoder="clip", tokens=77, depth=0)
    with torch.device("meta"):
        denoiser = build_denoiser(DiffusionConfig(dit=dit, condition=condition), LatentConfig(resolution=32))
    assert count_parameters(denoiser) == pytest.approx(458e6, rel=0.005)
    blocks = count_parameters(denoiser.network.blocks)
    assert blocks == pytest.approx(24 * 18 * 1024**2, rel=0.001)


@pytest.mark.parametrize("modulation", ["zero", "single"])
@pytest.mark.parametrize("context", ["cross", "joint"])
def test_velocity_starts_at_zero_and_then_every_weight_learns(modulation: str, context: str) -> None:
    dit = DitConfig(patch=2, width=32, depth=2, heads=2, modulation=modulation, context=context)
    denoiser = build_denoiser(DiffusionConfig(dit=dit, condition=TEXT), LATENT)
    latents, t = torch.randn(3, 3, 2, 8, 8), torch.rand(3)
    assert not denoiser(latents, t, *_condition(denoiser, 3)).any()
    denoiser = _denoiser(modulation=modulation, context=context)
    tokens, mask = torch.randn(3, 5, 256), torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [False] * 5])
    denoiser(latents, t, *denoiser.conditioner(tokens, mask)).square().sum().backward()
    silent = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("context", ["cross", "joint"])
def test_a_sample_does_not_depend_on_its_batch(context: str) -> None:
    denoiser = _denoiser(context=context)
    latents, t, condition = torch.randn(4, 3, 2, 8, 8), torch.rand(4), _condition(denoiser, 4)
    together = denoiser(latents, t, *condition)
    alone = [denoiser(latents[i : i + 1], t[i : i + 1], *(field[i : i + 1] for field in condition)) for i in range(4)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_it_listens_to_time_text_and_plane() -> None:
    denoiser = _denoiser()
    latents, t, condition = torch.randn(1, 3, 2, 8, 8), torch.tensor([0.3]), _condition(denoiser, 1)
    velocity = denoiser(latents, t, *condition)
    assert not torch.allclose(velocity, denoiser(latents, t + 0.1, *condition), atol=1e-3)
    assert not torch.allclose(velocity, denoiser(latents, t, *_condition(denoiser, 1)), atol=1e-3)
    turned = denoiser(latents.roll(1, dims=1), t, *condition).roll(-1, dims=1)
    assert not torch.allclose(velocity, turned, atol=1e-3)


def test_planes_differ_by_their_embedding_alone() -> None:
    denoiser = _denoiser()
    with torch.no_grad():
        denoiser.network.planes.zero_()
    latents, t, condition = torch.randn(2, 3, 2, 8, 8), torch.rand(2), _condition(denoiser, 2)
    turned = denoiser(latents.roll(1, dims=1), t, *condition).roll(-1, dims=1)
    assert torch.allclose(denoiser(latents, t, *condition), turned, atol=1e-5)


def test_output_is_fp32_under_autocast_and_checkpointing_changes_no_gradient() -> None:
    latents, t = torch.randn(2, 3, 2, 8, 8), torch.rand(2)
    gradients = []
    for saving in (False, True):
        denoiser = _denoiser().train()
        denoiser.network.gradient_checkpointing = saving
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = denoiser(latents, t, *_condition(denoiser, 2))
        assert velocity.dtype == torch.float32
        velocity.square().sum().backward()
        gradients.append(denoiser.network.enter.weight.grad)
    assert torch.equal(*gradients)


def test_unconditional_model_has_no_conditioner() -> None:
    denoiser = build_denoiser(DiffusionConfig(dit=DitConfig(patch=2, width=32, depth=1, heads=2)), LATENT)
    assert denoiser.conditioner is None
    assert denoiser(torch.randn(2, 3, 2, 8, 8), torch.rand(2)).shape == (2, 3, 2, 8, 8)


def test_what_is_not_built_is_said_all_at_once() -> None:
    with pytest.raises(RecipeError, match=r"not built yet: diffusion.framework `ddpm` and diffusion.network `unet`"):
        build_denoiser(DiffusionConfig(framework="ddpm", network="unet"), LATENT)
    with pytest.raises(RecipeError, match=r"diffusion.condition.kind `image` is not built yet"):
        build_denoiser(DiffusionConfig(condition=ConditionConfig(kind="image")), LATENT)


def test_patches_must_tile_the_planes() -> None:
    with pytest.raises(RecipeError, match="patches of 3 do not tile planes of 8 x 8"):
        build_denoiser(DiffusionConfig(dit=DitConfig(patch=3)), LATENT)


def test_recipe_takes_checkpointing_from_the_training_section() -> None:
    training = TrainingConfig(gradient_checkpointing=True)
    assert build_denoiser(DiffusionConfig(training=training), LATENT).network.gradient_checkpointing
    with pytest.raises(ValidationError):
        DitConfig(modulation="double")
