"""What an evaluation is asked, and where it reads and writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ln3d.backbones.images import ImageBackbone, load_backbone
from ln3d.backbones.perceptual import Lpips, load_lpips
from ln3d.generation.model import DEFAULT_MODEL
from ln3d.stages.real_objects import has_real_objects
from ln3d.stages.reference import RealObjects
from ln3d.training.ranks import ALONE, Ranks

SHIPPED_RUN = Path("runs") / "shipped"
"""Where the shipped model is evaluated unless a place is named: the package itself is not written to."""


@dataclass(frozen=True)
class Networks:
    """How the frozen networks of the metrics are loaded."""

    image: Callable[[str, str], ImageBackbone] = load_backbone
    perceptual: Callable[[str], Lpips] = load_lpips


@dataclass(frozen=True)
class Request:
    """What is to be measured, and what with."""

    model: Path | None = None
    reference: Path | None = None
    meshes: Path | None = None
    renders: Path | None = None
    category: str | None = None
    count: int | None = None
    objects: Path | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    output: Path | None = None
    workspace: Path | None = None
    dry_run: bool = False
    networks: Networks = field(default_factory=Networks)
    ranks: Ranks = ALONE

    @property
    def submission(self) -> Path | None:
        """The folder of another system's files, where there is one."""
        return self.meshes or self.renders

    @property
    def real_root(self) -> Path:
        """The folder of the real objects."""
        root = self.reference or self.model
        if root is None and self.submission is not None and self.workspace is not None:
            root = self.workspace if has_real_objects(self.workspace) else None
        return root or DEFAULT_MODEL

    @property
    def kept_in(self) -> Path:
        """The workspace that reports, and what was worked out, go to."""
        root = self.real_root
        return self.workspace or (SHIPPED_RUN if root == DEFAULT_MODEL else root.absolute())

    def model_name(self, reference: RealObjects) -> str:
        """Return what tables call the model: its folder's name where it is not that of the reference."""
        if self.model is None:
            return "shipped model"
        own = self.model.resolve() == reference.artifact.path.parent.resolve()
        return "model" if own else self.model.resolve().name

    def folder(self, title: str, system: str) -> Path:
        """Return where the report of a figure, called `title`, of a system goes."""
        if self.output is not None:
            return self.output
        plain = title.replace("[", "-").replace("]", "").replace(":", "-").replace("/", "-")
        own = None if system == "model" else system.replace(" ", "-")
        return self.kept_in / "report" / "-".join(filter(None, (plain, self.category, own)))
