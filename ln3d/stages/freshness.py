"""Whether a stage still has to run."""

from ln3d.artifacts.opening import Artifact
from ln3d.artifacts.workspace import Workspace
from ln3d.errors import ArtifactError


def up_to_date(workspace: Workspace, kind: str, fingerprint: str) -> Artifact | None:
    """Return the published artifact if it was made with this fingerprint, None if there is none.

    Raises ArtifactError if there is one made otherwise: nothing is overwritten unasked.
    """
    if not workspace.has(kind):
        return None
    artifact = workspace.open(kind)
    if artifact.manifest.fingerprint == fingerprint:
        return artifact
    raise ArtifactError(
        f"{workspace.path(kind)} was made with another recipe or from other inputs",
        f"choose another workspace (-w), or remove {workspace.path(kind)} to make it again",
    )
