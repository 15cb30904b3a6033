"""Reads small, flat XML documents from a server that is not trusted.

S3's documents are flat: a root, fields in it, and records that hold fields. The reader keeps
the fields and records that it is asked for and skips the rest without storing it, so a hostile
document costs time proportional to its size and hardly any memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from careflow_storage.errors import ServerResponseError

WHITE_SPACE: Final = " \t\r\n"
# S3 responds with at most 1000 at once.
MAX_RECORDS: Final = 10_000
_MAX_DEPTH: Final = 64
# Shorter documents are read in some hundredths of a second, whatever is in them.
_HARMLESS: Final = 256 * 1024
# 1000 versions have 24 each.
_MAX_TAGS: Final = 60_000
_MAX_REFERENCES: Final = 200_000
_MAX_LINES: Final = 200_000
_MAX_ATTRIBUTES: Final = 20_000
_find_attributes = re.compile(r"""=\s*["']""").findall
# S3 speaks UTF-8; ASCII is a part of it.
_ENCODINGS: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})

Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """A root's name, the texts of the fields in it, and its records in document order."""

    root: str
    fields: Fields
    records: list[tuple[str, Fields]]

    def records_of(self, name: str) -> list[Fields]:
        """Return the fields of each record of that name."""
        return [fields for record, fields in self.records if record == name]


def refused(why: str, *, retryable: bool = False) -> ServerResponseError:
    """Make the error for a document that cannot be used."""
    return ServerResponseError(f"The server's XML cannot be used: {why}.", retryable=retryable)


def read_document(
    data: bytes, fields: frozenset[str], records: Mapping[str, frozenset[str]]
) -> Document:
    """Read ``fields`` of the root and the given fields of the given ``records``.

    Texts come exactly as they are, white space included. Namespaces are ignored.

    Raises:
        ServerResponseError: The document is malformed or cut off (retryable: a response may be
            damaged on its way), declares a document type or another encoding than UTF-8, is
            nested too deep, holds more than any response of S3 does, or has a wanted field twice or
            with elements in it.
    """
    text = decoded(data)
    refuse_giants(text, _MAX_TAGS)
    reader = _Reader(fields, records)
    # The encoding given here wins over the declared one.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.XmlDeclHandler = reader.declare
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise refused(f"it is malformed or cut off ({error})", retryable=True) from error
    return Document(reader.root, reader.fields, reader.records)


def decoded(data: bytes) -> str:
    """Decode a document that any XML parser may read: UTF-8, and no document type.

    Raises:
        ServerResponseError: It is something else.
    """
    # expat believes signs of UTF-16 before its caller: a byte order mark, which is no UTF-8,
    # or a NUL, which is no XML.
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise refused("it is not UTF-8", retryable=True) from error
    if "\0" in text:
        raise refused("it holds a NUL", retryable=True)
    # Without a document type there are no entities but the five of XML: nothing to expand,
    # nothing to load. Refused before parsing, as expat goes on for a while after an error.
    if "<!DOCTYPE" in text:
        raise refused("it declares a document type")
    return text


def refuse_giants(text: str, most_tags: int) -> None:
    """Refuse what would hold the event loop: a parser calls back for each of these.

    Raises:
        ServerResponseError: There are too many tags, attributes, references or lines.
    """
    if len(text) < _HARMLESS:
        return
    if text.count("<") > most_tags:
        raise refused(f"it has more than {most_tags} tags")
    if text.count("&") > _MAX_REFERENCES:
        raise refused(f"it has more than {_MAX_REFERENCES} references")
    if text.count("\n") + text.count("\r") > _MAX_LINES:
        raise refused(f"it has more than {_MAX_LINES} lines")
    if len(_find_attributes(text)) > _MAX_ATTRIBUTES:
        raise refused(f"it has more than {_MAX_ATTRIBUTES} attributes")


class _Reader:
    """What expat calls. Depth 1 is the root, 2 its fields and records, 3 records' fields."""

    def __init__(self, fields: frozenset[str], records: Mapping[str, frozenset[str]]) -> None:
        self.root = ""
        self.fields: Fields = {}
        self.records: list[tuple[str, Fields]] = []
        self._wanted_fields = fields
        self._wanted_records = records
        self._depth = 0
        self._into: Fields = self.fields
        self._wanted = frozenset[str]()
        self._name = ""
        # The pieces of the wanted field that is open, or None outside of one.
        self._pieces: list[str] | None = None

    def declare(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise refused(f"its encoding is {encoding[:40]}, not UTF-8")

    def start(self, name: str, attributes: object) -> None:
        if self._pieces is not None:
            raise refused(f"there is an element inside of {self._name}")
        self._depth = depth = self._depth + 1
        if depth > _MAX_DEPTH:
            raise refused(f"it is nested deeper than {_MAX_DEPTH} elements")
        if depth > 3:
            return
        if ":" in name:
            name = name.rpartition(":")[2]
        if depth == 3:
            if name in self._wanted:
                self._open(name)
        elif depth == 2:
            self._wanted = self._wanted_records.get(name, frozenset())
            if self._wanted:
                if len(self.records) == MAX_RECORDS:
                    raise refused(f"it has more than {MAX_RECORDS} entries")
                self._into = {}
                self.records.append((name, self._into))
            elif name in self._wanted_fields:
                self._into = self.fields
                self._open(name)
        else:
            self.root = name

    def _open(self, name: str) -> None:
        if name in self._into:
            raise refused(f"{name} is given twice")
        self._name = name
        self._pieces = []

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._pieces is not None:
            self._into[self._name] = "".join(self._pieces)
            self._pieces = None

    def text(self, data: str) -> None:
        if self._pieces is not None:
            self._pieces.append(data)
