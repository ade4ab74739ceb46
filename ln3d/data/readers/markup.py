"""XML files of the game packages."""

import re
from xml.etree import ElementTree

from ln3d.errors import MeshError

_DOCTYPE = re.compile(r"<!DOCTYPE[^>\[]*(\[.*?\])?\s*>", re.DOTALL)
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)[^;\s]*;")


def parse_xml(data: bytes, label: str) -> ElementTree.Element:
    """Return the root element; document types and the entities they define are dropped, never expanded.

    Raises:
        MeshError: the file is not well-formed.
    """
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff").strip()
    text = re.sub(r"^<\?xml[^>]*\?>", "", text)
    text = _ENTITY.sub("", _DOCTYPE.sub("", text))
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise MeshError(f"{label}: not well-formed XML ({error})", "Fetch the package again.") from None
