"""Reports of evaluations on disk: figures, pictures, a page; and those of other systems beside them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ln3d.artifacts.manifest import MANIFEST_NAME
from ln3d.artifacts.opening import Artifact, open_artifact
from ln3d.artifacts.publish import publish
from ln3d.config.recipe import Recipe
from ln3d.report.html import write_page
from ln3d.report.sheets import contact_sheet
from ln3d.stages.contestants import Compared, Contestant
from ln3d.stages.score_tables import rows_of


@dataclass(frozen=True)
class Sheet:
    """Pictures of a report: rows of equal length, their labels, the headings of the columns; more such by name."""

    rows: list[list[Any]]
    labels: list[str]
    columns: list[str]
    others: dict[str, "Sheet"] = field(default_factory=dict)


def set_sheet(contestant: Contestant, compared: Compared) -> Sheet:
    """Return the first objects of a contestant beside the nearest training object of each, where that is known."""
    if not compared.nearest:
        labels = [contestant.labels[place] for place in compared.places[: len(compared.ours)]]
        return Sheet([[ours] for ours in compared.ours], labels, ["sample"])
    shown = list(zip(compared.places, compared.ours, compared.theirs, compared.nearest, strict=False))
    rows = [[ours, theirs] for _, ours, theirs, _ in shown]
    labels = [f"{contestant.labels[place]}  |  {record.name} ({record.split})" for place, _, _, record in shown]
    return Sheet(rows, labels, ["sample", "nearest training object"])


def published(folder: Path, mark: str) -> dict[str, Any] | None:
    """Return the report in `folder` if it was made from the same inputs with the same options."""
    if not (folder / MANIFEST_NAME).is_file():
        return None
    artifact = open_artifact(folder, "report", verify=True)
    if artifact.manifest.fingerprint != mark:
        return None
    report: dict[str, Any] = json.loads(artifact.file("report.json").read_text(encoding="utf-8"))
    return report


def siblings(folder: Path, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the reports of other systems beside `folder` that were made under the same protocol."""
    found = []
    for path in sorted(folder.parent.glob(f"*/{MANIFEST_NAME}")):
        try:
            other = json.loads((path.parent / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if path.parent == folder or not isinstance(other, dict) or _evaluated(other) == _evaluated(report):
            continue
        if _comparable(report) == _comparable(other):
            found.append(other)
    return found


def keep_report(
    folder: Path,
    report: dict[str, Any],
    sheet: Sheet,
    recipe: Recipe,
    inputs: dict[str, Artifact],
    mark: str,
) -> None:
    """Publish a report: report.json, contact.png, and report.html, which has all of it and can be sent alone."""
    metric = report["metric"]
    details = {key: report[key] for key in ("metric", metric, "unit", "interval", "category", "system")}
    with publish(folder, "report", recipe=recipe, inputs=inputs, details=details, fingerprint=mark, replace=True) as to:
        text = json.dumps(report, indent=1, allow_nan=False)
        (to / "report.json").write_text(text + "\n", encoding="utf-8")
        title = f"{metric} {report[metric]:.2f} {report['unit']}".rstrip()
        contact_sheet(sheet.rows, sheet.labels, to / "contact.png", title=title, columns=sheet.columns)
        for name, other in sheet.others.items():
            place = to / f"contact-{name.replace('/', '-')}.png"
            contact_sheet(other.rows, other.labels, place, title=name, columns=other.columns)
        rows = rows_of(report, siblings(folder, report))
        facts = {"protocol": report["protocol"], "inputs": report["inputs"]}
        write_page(to / "report.html", title, rows, sheet.rows, sheet.labels, sheet.columns, facts)


def _evaluated(report: dict[str, Any]) -> Any:
    return report.get("system"), report.get("protocol", {}).get("evaluated")


def _comparable(report: dict[str, Any]) -> Any:
    """Return what two reports have in common when they differ in the evaluated system alone.

    The size of kid's subsets follows from the number of pictures, and its mean does not depend on it.
    """
    counted = ("evaluated", "pictures", "subset_size")
    protocol = {k: v for k, v in report.get("protocol", {}).items() if k not in counted}
    real = [report.get("inputs", {}).get(role) for role in ("shards", "reference")]
    return report.get("metric"), report.get("category"), real, protocol
