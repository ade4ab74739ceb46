"""XML files of the game packages."""

import re
from xml.etree import ElementTree

from ln3d.errors import MeshError

_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*(\[.*?\])?\s*>", re.DOTALL)
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)[^;\s]*;")


def parse_xml(data: bytes, label: str) -> ElementTree.Element:
    """Return the root element; a document type and references to entities of it are dropped, nothing is expanded.

    Raises:
        MeshError: the file defines entities, or is not well-formed.
    """
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff").strip()
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)
    if "<!ENTITY" in text:
        raise MeshError(f"{label}: defines XML entities, which are never expanded", "Replace them by their text.")
    text = _ENTITY.sub("", _DOCTYPE.sub("", text))
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # put together by what was just taken out
        raise MeshError(f"{label}: a malformed document type", "Remove it from the file.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise MeshError(f"{label}: not well-formed XML ({error})", "Fetch the package again.") from None
