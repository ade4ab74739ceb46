"""XML files of the game packages."""

import re
from xml.etree import ElementTree

from ln3d.errors import MeshError

_LARGEST = 10_000_000  # bytes: a tree takes a hundred times as much memory
_DOCTYPE = "<!DOCTYPE"
_SUBSET_END = re.compile(r"\]\s*>")
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)[^;\s&]*;")


def parse_xml(data: bytes, label: str) -> ElementTree.Element:
    """Return the root element; a document type and references to entities of it are dropped, nothing is expanded.

    Raises:
        MeshError: the file defines entities, is not well-formed, or has more than ten million bytes.
    """
    if len(data) > _LARGEST:
        raise MeshError(f"{label}: {len(data)} bytes of XML, more than {_LARGEST}", "Fetch the package again.")
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff").strip()
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)
    if "<!ENTITY" in text:
        raise MeshError(f"{label}: defines XML entities, which are never expanded", "Replace them by their text.")
    text = _ENTITY.sub("", _without_doctype(text))
    if _DOCTYPE in text or "<!ENTITY" in text:  # put together by what was just taken out
        raise MeshError(f"{label}: a malformed document type", "Remove it from the file.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise MeshError(f"{label}: not well-formed XML ({error})", "Fetch the package again.") from None


def _without_doctype(text: str) -> str:
    """Return text without its first document type, in time that grows with its length alone."""
    start = text.find(_DOCTYPE)
    bracket, end = text.find("[", start), text.find(">", start)
    if start >= 0 and 0 <= bracket < end:
        subset = _SUBSET_END.search(text, bracket)
        end = subset.end() - 1 if subset else -1
    return text[:start] + text[end + 1 :] if 0 <= start < end else text
