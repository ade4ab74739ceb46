"""One line of a catalogue: what an object is called, where it comes from, and how to load it."""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

Arguments = dict[str, str | list[str]]


@dataclass(frozen=True)
class CatalogueEntry:
    """One object of one collection."""

    source_id: str
    """Unique name of the object: collection, then the object's own name there."""
    shape_id: str
    """The same for all liveries of one geometry; splits never divide a shape."""
    name: str
    """What the object is, in lower-case words."""
    category: str
    """One word: car, plane, chair, boat, ..."""
    captions: tuple[str, ...]
    """Several phrasings of a description, without colour words."""
    licence: str
    author: str
    load: tuple[str, Arguments]
    """The kind of collection and the arguments its loader needs; plain data, so that a worker can be sent it."""
    own_captions: bool = False
    """Whether a person wrote the captions for this very object."""
    official_split: str = ""
    """`train`, `validation` or `test` where the collection's authors say so; empty leaves it to the recipe."""
    stamp: tuple[str, ...] = ()
    """What else decides the pictures and the split, for the fingerprint of the shards."""


UNREADABLE = "unreadable"
"""In the place of a collection's kind: something that its lister could not read, and that is rejected for that."""


def unreadable(source_id: str, reason: str) -> CatalogueEntry:
    """Return an entry for what a lister found but cannot read, so that it is reported and the others go on."""
    return CatalogueEntry(
        source_id=source_id,
        shape_id=shape_id(UNREADABLE, source_id),
        name="unknown",
        category="unknown",
        captions=(),
        licence="unknown",
        author="unknown",
        load=(UNREADABLE, {"reason": reason}),
    )


def source_path(entry: CatalogueEntry) -> Path | None:
    """Return the file or folder that an object is read from, as far as its entry tells; None where it needs none."""
    arguments = entry.load[1]
    if "archive" in arguments:
        return Path(str(arguments["archive"]))
    if "root" in arguments:
        return Path(str(arguments["root"]), str(arguments.get("path", "")))
    return None


def tidied(entry: CatalogueEntry) -> CatalogueEntry:
    """Return an entry whose words can be printed and stored: no control characters, no halves of a character."""
    told = (entry.name, entry.category, entry.licence, entry.author, *entry.captions)
    if all(text.isprintable() for text in told):
        return entry
    name, category, licence, author, *captions = map(_without_controls, told)
    return replace(entry, name=name, category=category, captions=tuple(captions), licence=licence, author=author)


def _without_controls(text: str) -> str:
    return "".join(" " if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in text)


def shape_id(*parts: str | bytes) -> str:
    """Return a short id that is equal for equal parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


def phrasings(*texts: str) -> tuple[str, ...]:
    """Return the texts tidied (single spaces, lower case), each once, in the given order."""
    tidy = (" ".join(text.split()).strip(" ,").lower() for text in texts)
    return tuple(dict.fromkeys(text for text in tidy if text))


def with_article(words: str) -> str:
    """Return `words` with "a" or "an" before them; plurals stay bare."""
    if words.endswith("s") and not words.endswith(("ss", "us")):
        return words
    first = words.lower().split(" ")[0]
    spelled = any(letter.isdigit() for letter in first) and first[0] in "fhlmnrsx" and first[1:2] not in tuple("aeiou")
    return f"{'an' if spelled or first[:1] in tuple('aeiou') else 'a'} {words}"


def joined_words(words: Iterable[str]) -> str:
    """Return words joined by spaces, empty ones left out."""
    return " ".join(word for word in words if word)
