"""The text of a VRML97 file as nodes with fields (ISO/IEC 14772-1, annex A), prototypes and scripts left out."""

import re
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from ln3d.errors import MeshError

# Possessive, so that no text can make it go back and forth.
_TOKEN = re.compile(r'(?>\s++|#[^\n]*+|,)*+("(?:[^"\\]|\\.)*+"|[{}\[\]]|[^\s,{}\[\]"#]++)', re.DOTALL)
_NUMBERS = re.compile(r"[\s\d.,+\-eE]*+\]")
_DEEPEST = 64


@dataclass
class Node:
    """One node: its type, and the fields that the file gives."""

    kind: str
    fields: dict[str, "Value"] = field(default_factory=dict)

    def node(self, name: str) -> "Node | None":
        """Return the node in a field; None where there is none."""
        value = self.fields.get(name)
        return value if isinstance(value, Node) else None

    def nodes(self, name: str) -> "list[Node]":
        """Return the nodes in a field of one or many."""
        value = self.fields.get(name)
        found = value if isinstance(value, list) else [value]
        return [item for item in found if isinstance(item, Node)]

    def numbers(self, name: str, default: tuple[float, ...] = ()) -> Float[np.ndarray, " n"]:
        """Return the numbers in a field."""
        value = self.fields.get(name)
        return value if isinstance(value, np.ndarray) else np.array(default, dtype=np.float64)

    def words(self, name: str) -> list[str]:
        """Return the texts, or the words TRUE, FALSE and NULL, in a field."""
        value = self.fields.get(name)
        found = value if isinstance(value, list) else [value]
        return [item for item in found if isinstance(item, str)]


Value: TypeAlias = "Node | np.ndarray | list[Node | str] | str"


def parse(text: str, label: str) -> list[Node]:
    """Return the nodes of a file; MeshError where it is cut short, malformed, nested too deeply or has prototypes."""
    reader = _Reader(text, label)
    found = []
    while reader.peek():
        if reader.peek() == "ROUTE":
            reader.skip(4)
            continue
        found.append(reader.node(0))
    return found


class _Reader:
    def __init__(self, text: str, label: str) -> None:
        self.text, self.label, self.at = text, label, 0
        self.named: dict[str, Node] = {}

    def peek(self) -> str:
        match = _TOKEN.match(self.text, self.at)
        return match[1] if match else ""

    def take(self) -> str:
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            raise MeshError(f"{self.label}: cut short", "Export the file again.")
        self.at = match.end()
        return match[1]

    def skip(self, count: int) -> None:
        for _ in range(count):
            self.take()

    def node(self, depth: int) -> Node:
        kind = self.take()
        if kind == "USE":
            name = self.take()
            if name not in self.named:
                raise MeshError(f"{self.label}: uses {name!r}, which is not defined", "Export the file again.")
            return self.named[name]
        name = ""
        if kind == "DEF":
            name, kind = self.take(), self.take()
        if kind in ("PROTO", "EXTERNPROTO"):
            raise MeshError(f"{self.label}: has prototypes, which are not read", "Export it without them.")
        if depth > _DEEPEST:
            raise MeshError(f"{self.label}: nodes nested too deeply", "Export the file again.")
        self.expect("{", kind)
        made = Node(kind)
        while self.peek() != "}":
            word = self.take()
            if word == "ROUTE":
                self.skip(3)
            else:
                made.fields[word] = self.value(depth + 1)
        self.take()
        if name:  # only now, so that no node can hold itself
            self.named[name] = made
        return made

    def value(self, depth: int) -> "Value":
        word = self.peek()
        if word == "[":
            return self.list_of(depth)
        if _is_number(word):
            return self.number_run()
        if word.startswith('"') or word in ("TRUE", "FALSE", "NULL"):
            return self.take().strip('"')
        if word in ("", "}", "]"):
            raise MeshError(f"{self.label}: a field without a value", "Export the file again.")
        return self.node(depth)

    def list_of(self, depth: int) -> "Value":
        self.expect("[", "a list")
        plain = _NUMBERS.match(self.text, self.at)  # long lists are of numbers alone: not word by word
        if plain is not None:
            self.at = plain.end()
            return self.array(plain[0][:-1].replace(",", " ").split())
        items: list[Node | str] = []
        numbers: list[str] = []
        while self.peek() != "]":
            word = self.peek()
            if _is_number(word):
                numbers.append(self.take())
            elif word.startswith('"') or word in ("TRUE", "FALSE", "NULL"):
                items.append(self.take().strip('"'))
            else:
                items.append(self.node(depth))
        self.take()
        return items or self.array(numbers)

    def number_run(self) -> "Value":
        words = []
        while _is_number(self.peek()):
            words.append(self.take())
        return self.array(words)

    def array(self, words: list[str]) -> Float[np.ndarray, " n"]:
        try:
            return np.array(words, dtype=np.float64)
        except ValueError:
            raise MeshError(f"{self.label}: a word among numbers", "Export the file again.") from None

    def expect(self, wanted: str, where: str) -> None:
        found = self.take()
        if found != wanted:
            raise MeshError(f"{self.label}: {found[:40]!r} in place of {wanted!r} in {where[:40]}", "Export it again.")


def _is_number(word: str) -> bool:
    return word[:1] in "+-.0123456789" and word != ""
