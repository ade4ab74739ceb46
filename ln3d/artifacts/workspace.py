"""A workspace: the folder that holds one run's artifacts, one sub-folder per kind."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ln3d.artifacts.locks import hold
from ln3d.artifacts.manifest import MADE_BY, MANIFEST_NAME, SCHEMA_VERSIONS
from ln3d.artifacts.opening import Artifact, Sealed, open_artifact
from ln3d.artifacts.remote import open_at
from ln3d.artifacts.swap import recover
from ln3d.errors import ArtifactError


class Workspace:
    """Where the artifacts of a run lie: `<root>/<kind>`, and `<root>/<kind>.partial` for unfinished work.

    The shards of a run may lie elsewhere: `shards_place` is a folder or an fsspec address. Only `shards` looks there.
    """

    def __init__(self, root: Path | str, shards_place: str | Path | None = None) -> None:
        self.root = Path(root)
        self.shards_place = shards_place

    def path(self, kind: str) -> Path:
        """Return where the artifact of this kind is or will be."""
        if kind not in SCHEMA_VERSIONS:
            raise KeyError(kind)
        return self.root / kind

    def partial(self, kind: str) -> Path:
        """Return the folder of work in progress: checkpoints of a training, finished shards of a rendering."""
        return self.root / f"{kind}.partial"

    def has(self, kind: str) -> bool:
        """Return whether there is a published artifact of this kind (it may still prove damaged)."""
        recover(self.path(kind).absolute())
        return (self.path(kind) / MANIFEST_NAME).is_file()

    def open(self, kind: str, verify: Iterable[str] | bool = ()) -> Artifact:
        """Open the artifact of this kind; ArtifactError names the stage to run where there is none."""
        if not self.root.is_dir():
            raise ArtifactError(f"there is no workspace {self.root}", f"start one with: {MADE_BY['shards']}")
        if not self.has(kind):
            raise ArtifactError(f"{self.root} has no {kind} yet", f"run: {MADE_BY[kind]} -w {self.root}")
        return open_artifact(self.path(kind), kind, verify=verify)

    def shards(self) -> Sealed:
        """Open the shards that the run reads, wherever they lie. Raises ArtifactError; RecipeError for an address."""
        if self.shards_place is not None:
            return open_at(self.shards_place, "shards")
        try:
            return self.open("shards")
        except ArtifactError as error:
            if self.has("shards"):
                raise
            raise ArtifactError(error.message, f"{error.hint}, or say where shards are: --shards PLACE") from None

    def has_shards(self) -> bool:
        """Return whether the shards that the run reads can be opened. Raises RecipeError for an address."""
        try:
            self.shards()
        except ArtifactError:
            return False
        return True

    @contextmanager
    def lock(self, stage: str) -> Iterator[None]:
        """Let one process run `stage` in this workspace; ArtifactError for a second one."""
        with hold(self.root / ".locks" / stage, f"{stage} of {self.root}"):
            yield
