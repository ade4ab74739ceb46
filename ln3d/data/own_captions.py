"""Captions that a person wrote for a folder of meshes: captions.csv or captions.jsonl beside them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ln3d.data.collections.tables import MOST_CAPTIONS, contents, is_there
from ln3d.errors import RecipeError

CSV, JSONL = "captions.csv", "captions.jsonl"
COLUMNS = ("path", "caption", "category", "licence", "author")
Rows = dict[str, list[dict[str, str]]]
"""Mesh (path relative to the folder) -> its rows in the order of the file, every column a text, maybe empty."""


def read_own_captions(root: Path, meshes: frozenset[str]) -> Rows:
    """Return what captions.csv or captions.jsonl in the folder `root` says about its `meshes`; {} without such a file.

    Raises RecipeError, with file and line, where a line is malformed or names a mesh that is not there or that has a
    thousand captions already, where both files exist, and where the file leads out of the folder.
    """
    there = [name for name in (CSV, JSONL) if is_there(root / name)]
    if len(there) > 1:
        raise RecipeError(f"{root}: both {CSV} and {JSONL}", "Keep one of them.")
    rows: Rows = {}
    for name in there:
        path = root / name
        for line, row in (_csv_rows if name == CSV else _json_rows)(path, _text(path, root)):
            mesh = PurePosixPath(row["path"]).as_posix()
            if mesh not in meshes:
                raise RecipeError(f"{path}:{line}: no mesh {mesh!r}", f"Paths are relative to the folder of {name}.")
            rows.setdefault(mesh, []).append(row)
            if len(rows[mesh]) > MOST_CAPTIONS:
                raise RecipeError(f"{path}:{line}: more than {MOST_CAPTIONS} captions of {mesh!r}", "Leave some out.")
    return rows


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = reader.fieldnames or ()
        missing = [column for column in COLUMNS[:2] if column not in columns]
        if missing:
            raise RecipeError(f"{path}:1: no column {missing[0]!r}", "The first line should be: path,caption")
        for row in reader:
            if None in row:
                raise RecipeError(
                    f"{path}:{reader.line_num}: more than {len(columns)} columns",
                    "Write a caption with a comma in quotes.",
                )
            if row["path"] is None or row["caption"] is None:
                raise RecipeError(f"{path}:{reader.line_num}: no caption", "A line is: path,caption")
            yield reader.line_num, {key: (row.get(key) or "").strip() for key in COLUMNS}
    except csv.Error as error:
        raise RecipeError(f"{path}:{reader.line_num + 1}: not CSV ({error})", "Save it as UTF-8 CSV.") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"{path}:{number}: not JSON ({error})", _JSON_HINT) from None
        captions = _captions(document) if isinstance(document, dict) else None
        if captions is None or not all(isinstance(document.get(key, ""), str) for key in COLUMNS):
            raise RecipeError(f"{path}:{number}: no object with path and caption", _JSON_HINT)
        told = {key: str(document.get(key, "")).strip() for key in COLUMNS}
        for caption in captions:
            yield number, {**told, "caption": caption.strip()}


_JSON_HINT = 'A line is: {"path": "chair/oak.glb", "caption": "an oak chair"}, or "captions": [...] for several.'


def _captions(document: dict[str, Any]) -> list[str] | None:
    """Return the captions of a line, None where it has no path or not just one of `caption` and `captions`."""
    if "path" not in document or ("caption" in document) == ("captions" in document):
        return None
    captions = document["captions"] if "captions" in document else [document["caption"]]
    whole = isinstance(captions, list) and captions and all(isinstance(caption, str) for caption in captions)
    return captions if whole else None


def _text(path: Path, root: Path) -> str:
    data = contents(path, root)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text", "Save it as UTF-8.") from None
