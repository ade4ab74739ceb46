"""What an evaluation is asked, and where it reads and writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ln3d.artifacts.manifest import fingerprint
from ln3d.backbones.images import ImageBackbone, load_backbone
from ln3d.backbones.perceptual import Lpips, load_lpips
from ln3d.generation.model import DEFAULT_MODEL
from ln3d.stages.real_objects import has_real_objects
from ln3d.stages.reference import RealObjects
from ln3d.training.ranks import ALONE, Ranks

Subject = Literal["samples", "reconstructions", "training-objects"]
"""What of a model is compared with the real objects."""
_DIGITS = 8  # of a hash in the name of a folder
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
    of: Subject = "samples"
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
        return self.workspace or (SHIPPED_RUN if _is_shipped(root) else root.absolute())

    @property
    def shipped(self) -> bool:
        """Whether the model that comes with the package is evaluated."""
        return self.submission is None and (self.model is None or _is_shipped(self.model))

    def model_name(self, reference: RealObjects) -> str:
        """Return what tables call the model: its folder's name where it is not that of the reference."""
        if self.model is None or self.shipped:
            return "shipped model"
        own = self.model.resolve() == reference.artifact.path.parent.resolve()
        return "model" if own else self.model.resolve().name

    def folder(self, title: str, listed: str | None = None) -> Path:
        """Return where the report of a figure called `title` goes; `listed` is a hash of the list of objects, if any.

        Every question has a folder of its own, always the same one, whose next report replaces the last. How many
        objects and what `evaluation.*` make no other question. Folders of a system or of real objects are told apart
        by their whole paths.
        """
        if self.output is not None:
            return self.output
        plain = title.replace("[", "-").replace("]", "").replace(":", "-").replace("/", "-")
        shown, paths = ["shipped-model"] if self.shipped else [], self._named_folders()
        shown += [self.of] if self.of != "samples" else []
        shown += [path.name.replace(" ", "-") for path in paths.values() if path != self.kept_in.resolve()]
        digests = [f"list-{listed[:_DIGITS]}" if listed else None, fingerprint(paths)[:_DIGITS] if paths else None]
        return self.kept_in / "report" / "-".join(filter(None, (plain, self.category, *shown, *digests)))

    def _named_folders(self) -> dict[str, Path]:
        """Return the folders, by role, that make this another question than one about the workspace's own model."""
        found = {name: path.resolve() for name in ("meshes", "renders") if (path := getattr(self, name)) is not None}
        if self.model is not None and not self.shipped and self.model.resolve() != self.kept_in.resolve():
            found["model"] = self.model.resolve()
        usual = replace(self, reference=None).real_root.resolve()
        if self.reference is not None and self.reference.resolve() != usual:
            found["reference"] = self.reference.resolve()
        return found


def _is_shipped(root: Path) -> bool:
    return root.resolve() == DEFAULT_MODEL.resolve()
