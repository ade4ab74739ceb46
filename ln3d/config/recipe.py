"""A recipe: everything that decides what a run produces."""

from pydantic import Field

from ln3d.config.diffusion import DiffusionConfig
from ln3d.config.evaluation import EvaluationConfig, MeshConfig
from ln3d.config.render import DatasetConfig
from ln3d.config.section import Section
from ln3d.config.vae import VaeConfig


class Recipe(Section):
    """One run from meshes to reports; each stage reads its own section."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Name of the run and of its default workspace, runs/<name>."""
    seed: int = Field(0, ge=0)
    """Every random number of the run is a pure function of this seed."""
    dataset: DatasetConfig = DatasetConfig()
    vae: VaeConfig = VaeConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    mesh: MeshConfig = MeshConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
