"""The Python API of a trained model: load it, sample, decode, render.

generator = Generator.load(None)                      # the model that ships with the package
latents = generator.sample(["a red car"], seeds=[0])
pictures = generator.views(latents, camera_to_world, intrinsics, size=128)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

import ln3d
from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.tensors import load_into, load_tensors
from ln3d.artifacts.workspace import Workspace
from ln3d.backbones.token_embeddings import TextEncoder, open_text_encoder
from ln3d.config.load import recipe_from_dict
from ln3d.config.recipe import Recipe
from ln3d.errors import ArtifactError, RecipeError, WeightsError
from ln3d.generation.sampling import noise_of, sample_standardised
from ln3d.geometry.cameras import orbit
from ln3d.models.autoencoder import Autoencoder
from ln3d.models.dit import Denoiser, build_denoiser
from ln3d.rendering.fields import Field
from ln3d.rendering.frozen import frozen_field
from ln3d.rendering.occupancy import occupancy_grid
from ln3d.rendering.volume import render_images

DEFAULT_MODEL = Path(ln3d.__file__).parent / "pretrained" / "default"
"""The model that ships with the package."""

_ORBIT_RADIUS, _ORBIT_ELEVATION, _ORBIT_FIELD_OF_VIEW = 3.2, 20.0, 36.0  # world units and degrees


@dataclass
class Generator:
    """A VAE, the denoiser of its latents, and what both were made with."""

    recipe: Recipe
    """The denoiser's recipe, with the `vae` section of the VAE itself."""
    autoencoder: Autoencoder
    denoiser: Denoiser | None
    statistics: dict[str, Tensor]
    """`mean` and `std` (3 c 1 1) that standardise a latent."""
    iso: float
    """Density of the surface, per world unit."""
    device: torch.device
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    """`vae` and, where it was loaded, `denoiser`: for the lineage of what is made with them."""
    _text_encoder: TextEncoder | None = None

    @classmethod
    def load(
        cls, path: Path | None = None, device: torch.device | str = "cpu", *, sampling: bool = True
    ) -> "Generator":
        """Read the `vae` and `denoiser` of a workspace or model folder, by default of the shipped model.

        With `sampling` False the denoiser is left aside and only decoding works. Raises ArtifactError
        where one is missing or damaged, or where the denoiser belongs to another VAE.
        """
        if path is None and not DEFAULT_MODEL.is_dir():
            raise WeightsError("this installation has no shipped model", "name a workspace with --model")
        device = torch.device(device)
        workspace = Workspace(DEFAULT_MODEL if path is None else path)
        vae = workspace.open("vae", verify=["weights.safetensors"])
        autoencoder, iso = read_autoencoder(vae, device)
        recipe = recipe_from_dict(vae.manifest.recipe)
        if not sampling:
            return cls(recipe, autoencoder, None, {}, iso, device, {"vae": vae})
        artifact = workspace.open("denoiser", verify=["weights.safetensors", "statistics.safetensors"])
        _check_lineage(artifact, vae)
        recipe = recipe_from_dict(artifact.manifest.recipe).model_copy(update={"vae": recipe.vae})
        denoiser = build_denoiser(recipe.diffusion, recipe.vae.latent).to(device).eval().requires_grad_(False)
        weights = load_tensors(artifact.file("weights.safetensors"), device)
        load_into(denoiser, weights, f"the denoiser {artifact.path}")
        statistics = load_tensors(artifact.file("statistics.safetensors"), device)
        inputs = {"vae": vae, "denoiser": artifact}
        return cls(recipe, autoencoder, denoiser, statistics, iso, device, inputs)

    @property
    def conditional(self) -> bool:
        """Whether the model listens to a text."""
        return self.denoiser is not None and self.denoiser.conditioner is not None

    def sample(
        self,
        prompts: Sequence[str | None],
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        method: str | None = None,
    ) -> Float[Tensor, "n 3 c h w"]:
        """Return one latent per prompt and seed; None or an empty prompt is sampled without a condition.

        A sample depends on its own prompt and seed only. What is None comes from the recipe's sampler.
        Raises RecipeError for a prompt that the model cannot listen to.
        """
        if self.denoiser is None:
            raise RecipeError("this generator was loaded for decoding only", "load it with sampling=True")
        if any(prompts) and not self.conditional:
            raise RecipeError("this model is unconditional: it cannot follow a text", "leave out --text")
        defaults, latent = self.recipe.diffusion.sampler, self.recipe.vae.latent
        shape = (3, latent.channels, latent.resolution, latent.resolution)
        standardised = sample_standardised(
            self.denoiser,
            torch.stack([noise_of(seed, shape) for seed in seeds]).to(self.device),
            self._encode(prompts) if self.conditional else None,
            steps=defaults.steps if steps is None else steps,
            guidance=defaults.guidance if guidance is None else guidance,
            method=method or defaults.method,
        )
        return standardised * self.statistics["std"] + self.statistics["mean"]

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "n 3 c h w"]) -> Float[Tensor, "n 3 f H W"]:
        """Return the feature planes of latents."""
        return self.autoencoder.decode(latents.to(self.device))

    def field(self, planes: Float[Tensor, "n 3 f H W"]) -> Field:
        """Return the radiance field of feature planes: density per world unit and colour at points (n p 3).

        It has no gradients: `ln3d.rendering.frozen`.
        """
        config = self.recipe.vae.field
        return frozen_field(planes, self.autoencoder.head, config.density_scale, config.density_shift)

    @torch.no_grad()
    def views(
        self,
        latents: Float[Tensor, "n 3 c h w"],
        camera_to_world: Float[Tensor, "v 4 4"],
        intrinsics: Float[Tensor, "v 3 3"],
        size: int,
    ) -> Float[Tensor, "n v h w 3"]:
        """Return every latent seen by every camera, `size` pixels a side, in [0, 1] on white, on the CPU.

        Empty space is skipped by an occupancy grid of every object; see `ln3d.rendering.occupancy`.
        """
        rows = []
        for latent in latents:
            scene = self.field(self.decode(latent[None]))
            grid = occupancy_grid(scene, 1, device=self.device)
            for pose, lens in zip(camera_to_world, intrinsics, strict=True):
                pose, lens = pose[None].to(self.device), lens[None].to(self.device)
                colour, _, _ = render_images(scene, pose, lens, size, self.recipe.vae.renderer, occupancy=grid)
                rows.append(colour[0].clamp(0, 1).cpu())
        return rearrange(torch.stack(rows), "(n v) h w c -> n v h w c", n=len(latents))

    def _encode(self, prompts: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        if self._text_encoder is None:
            self._text_encoder = open_text_encoder(self.recipe.diffusion.condition)
        tokens, mask = self._text_encoder.encode([prompt or "" for prompt in prompts])
        return tokens.to(self.device), mask.to(self.device)


def read_autoencoder(vae: Artifact, device: torch.device) -> tuple[Autoencoder, float]:
    """Return the frozen networks of a vae artifact, and the density of the surface measured with them."""
    autoencoder = Autoencoder(recipe_from_dict(vae.manifest.recipe).vae).to(device).eval().requires_grad_(False)
    load_into(autoencoder, load_tensors(vae.file("weights.safetensors"), device), f"the VAE {vae.path}")
    if "iso" not in vae.manifest.details:
        raise ArtifactError(f"{vae.path} does not say at which density its surfaces lie", "train the VAE again")
    return autoencoder, float(vae.manifest.details["iso"])


def views_around(count: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
    """Return a ring of `count` cameras around the scene, from a three-quarter view of the front on."""
    poses, lenses = orbit(8 * count, _ORBIT_RADIUS, _ORBIT_ELEVATION, _ORBIT_FIELD_OF_VIEW)
    start = count  # an eighth of a turn, since the ring has eight times as many
    chosen = [(start + 8 * turn) % (8 * count) for turn in range(count)]
    return torch.from_numpy(poses[chosen]), torch.from_numpy(lenses[chosen])


def _check_lineage(denoiser: Artifact, vae: Artifact) -> None:
    expected = denoiser.manifest.inputs.get("vae")
    if expected is None or expected.id != vae.id:
        trained_on = "an unknown VAE" if expected is None else f"the VAE {expected.name} ({expected.id[:12]})"
        raise ArtifactError(
            f"{denoiser.path} was trained on the latents of {trained_on}, not of {vae.path} ({vae.id[:12]})",
            "run `ln3d encode RECIPE` and `ln3d train-diffusion RECIPE` again, or put back the VAE",
        )
