"""One question to an evaluation, and its report: there already, or measured and published."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ln3d.artifacts.manifest import fingerprint
from ln3d.artifacts.opening import Artifact
from ln3d.runtime import tune_allocator
from ln3d.stages import image_scores
from ln3d.stages.evaluation_reports import Sheet, keep_report, published, siblings
from ln3d.stages.evaluation_request import Request
from ln3d.stages.real_objects import pictures_of
from ln3d.stages.reference import RealObjects
from ln3d.stages.score_tables import table
from ln3d.talk import Talk

_SCORING_VERSION = 2  # raise it when the same objects give another figure

Measure = Callable[[], tuple[dict[str, Any], Sheet]]
"""Works out the scores, and pictures of what was compared."""


@dataclass(frozen=True)
class Question:
    """A figure of a system, compared with real objects."""

    title: str
    """What the figure is called."""
    request: Request
    reference: RealObjects
    system: str
    """What tables call what is evaluated."""
    inputs: dict[str, Artifact]
    mark: object
    """What else the figure depends on, for a fingerprint."""
    count: int
    """How many objects of the system there are."""
    listed: str | None = None
    """A hash of the list of objects, where there is one."""

    def answer(self, measure: Measure, talk: Talk) -> dict[str, Any]:
        """Return the report that is there already, or `measure` and publish it; with --dry-run, only say which.

        Raises what `measure` does.
        """
        request = self.request
        folder = request.folder(self.title, self.listed)
        if request.dry_run:
            return self._plan(talk) | {"report": str(folder)}
        known = self._fingerprint()
        with request.ranks.together():
            report = published(folder, known) if request.ranks.first else None
        report = request.ranks.of_first(report)
        fresh = report is None
        if report is None:
            tune_allocator()
            scores, sheet = measure()
            said = {"metric": self.title, "system": self.system, "category": request.category}
            report = said | scores | {"inputs": self._ids()}
            with request.ranks.together():
                if request.ranks.first:
                    keep_report(folder, report, sheet, self.reference.recipe, self.inputs, known)
        for line in table(report, siblings(folder, report)):
            talk.say(line)
        talk.say(f"published {folder}" if fresh else f"{folder} is up to date")
        return {**report, "report": str(folder)}

    def _ids(self) -> dict[str, str]:
        return {name: artifact.id for name, artifact in self.inputs.items()}

    def _fingerprint(self) -> str:
        recipe = self.reference.recipe
        protocol = [recipe.evaluation, recipe.seed]
        return fingerprint(_SCORING_VERSION, self.title, self.request.category, *protocol, self._ids(), self.mark)

    def _plan(self, talk: Talk) -> dict[str, Any]:
        plan = {"stage": "eval", "metric": self.title, "system": self.system, "category": self.request.category}
        return {**plan, "count": self.count, "inputs": self._ids(), "cameras": self._cameras(talk)}

    def _cameras(self, talk: Talk) -> dict[str, Any]:
        """Return where a metric looks from, for whoever draws other systems' objects."""
        if self.title.partition("[")[0] in image_scores.METRICS:
            return pictures_of(self.reference, self.request.category, talk).facts()
        return self.reference.shape_cameras().facts()
