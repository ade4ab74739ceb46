"""Captions and categories that others made for objects with a uid, in the files in which they are published."""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ln3d.data.collections.tables import LARGEST, MOST_CAPTIONS, check_inside, opened
from ln3d.errors import RecipeError


def captions_by_uid(path: Path, uids: Collection[str]) -> dict[str, list[str]]:
    """Return the captions of `uids` from a CSV or JSON file.

    CSV: uid and caption in the first two columns, with or without a header (Cap3D publishes it without). JSON: an
    object of uid: caption, or of uid: list of captions (G-Objaverse's `text_captions_cap3d.json`).

    Raises:
        RecipeError: the file is missing, damaged, or neither, or has thousands of captions of one uid.
    """
    found: dict[str, list[str]] = {}
    if ".csv" in path.suffixes:
        try:
            with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
                for row in csv.reader(text):
                    if len(row) >= 2 and row[0].strip() in uids:
                        found.setdefault(row[0].strip(), []).append(row[1])
                        _check_count(path, row[0], found[row[0].strip()])
        except (csv.Error, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from None
        return found
    for uid, said in _document(path).items():
        texts = said if isinstance(said, list) else [said]
        if uid in uids and all(isinstance(text, str) for text in texts):
            _check_count(path, uid, texts)
            found[uid] = texts
    return found


def categories_by_uid(path: Path) -> dict[str, str]:
    """Return the category of every uid from a JSON file {category: [uid, ...]} (Objaverse's LVIS annotations).

    Categories come in words: `pirate_ship` is "pirate ship", `bow_(weapon)` "bow". Of several, the first counts.

    Raises:
        RecipeError: the file is missing, damaged, or something else.
    """
    categories: dict[str, str] = {}
    for name, uids in _document(path).items():
        if not isinstance(uids, list):
            raise RecipeError(f"{path}: {name!r} has no list of uids", 'It should be: {"chair": ["<uid>", ...], ...}')
        word = " ".join(name.partition("(")[0].replace("_", " ").split()).lower() or name
        for uid in uids:
            categories.setdefault(str(uid), word)
    return categories


def told_or_beside(told: str | None, root: Path, *patterns: str) -> Path | None:
    """Return the file that a recipe names, or else the first in `root` that fits a pattern; None where none does.

    Raises:
        RecipeError: the one in `root` is a link that leads out of it.
    """
    if told is not None:
        return Path(os.path.expandvars(os.path.expanduser(told)))
    found = next((path for pattern in patterns for path in sorted(root.glob(pattern))), None)
    if found is not None:
        check_inside(found, root)
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        with opened(path) as file:
            data = gzip.GzipFile(fileobj=file).read(LARGEST + 1) if path.suffix == ".gz" else file.read()
        if len(data) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        document = json.loads(data)
    except (EOFError, zlib.error, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: not a JSON object", 'It should be: {"<uid>": "<caption>"} or {"chair": ["<uid>"]}')
    return document


def _check_count(path: Path, uid: str, captions: list[str]) -> None:
    if len(captions) > MOST_CAPTIONS:
        raise RecipeError(f"{path}: more than {MOST_CAPTIONS} captions of {uid!r}", "Is it another table?")


def _unreadable(path: Path, error: Exception) -> RecipeError:
    return RecipeError(f"{path}: cannot be read ({error})", "Check dataset.collections: captions, annotations.")
