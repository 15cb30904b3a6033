"""The quick way through a listing's entries, which are most of its bytes.

An XML parser calls Python a dozen times per entry. But a server writes all its entries alike,
so one regular expression, made after the first entry, takes them all at a third of the cost.
It is used only where it provably says what the parser would say:

- The expression matches nothing but complete entries (``<Contents>``; of versions, ``<Version>``
  and ``<DeleteMarker>``) made of known fields, in the order of the first entry of their kind,
  without attributes, comments or CDATA, and without a character that XML forbids or changes.
  On such text there is one reading.
- The matches must cover everything from the first entry's begin to the last one's end.
  findall's matches neither overlap nor leave their order, so this holds exactly when their
  lengths add up.
- What is left, with one empty entry in the place of all, goes through the parser. Taking whole
  elements out of an element's content keeps a document well-formed or malformed, as it was.
  Where markup could hide them from the parser (comments, CDATA, processing instructions), this
  way is not taken, and the caller checks that the parser met the empty entry as an entry.

In all other cases None is returned, and the parser reads the whole document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape
from operator import itemgetter
from typing import Final, NamedTuple, cast

from careflow_storage.s3.xml_reader import MAX_RECORDS

# Key, LastModified, ETag and Size as they stand in the document, references resolved.
Entry = tuple[str, str, str, str]
# Likewise Key, VersionId, IsLatest, LastModified, and of a version also ETag and Size.
VersionEntry = tuple[str, str, str, str] | tuple[str, str, str, str, str, str]
Row = tuple[str, ...]


class _Kind(NamedTuple):
    """A kind of entries, and the fields that each of them must have."""

    element: str
    fields: tuple[str, ...]


CONTENTS: Final = _Kind("Contents", ("Key", "LastModified", "ETag", "Size"))
DELETE_MARKER: Final = _Kind("DeleteMarker", ("Key", "VersionId", "IsLatest", "LastModified"))
VERSION: Final = _Kind("Version", (*DELETE_MARKER.fields, "ETag", "Size"))

# No control characters (forbidden, or changed as line ends are), no "<", and no ">" because
# of "]]>", which is forbidden in text.
_PLAIN: Final = r"[^<>&\x00-\x1f\ufffe\uffff]*+"
_SPACE: Final = r"[ \t\r\n]*+"
# The five entities of XML, and the references that Go writes for two of them.
_TEXT: Final = rf"{_PLAIN}(?:&(?:amp|lt|gt|quot|apos|#34|#39);{_PLAIN})*+"
_QUOTE: Final = r"(?:\"|&quot;|&#34;)"
_PATTERNS: Final = {
    "Key": rf"<Key>({_TEXT})</Key>",
    "VersionId": rf"<VersionId>({_TEXT})</VersionId>",
    "IsLatest": r"<IsLatest>(true|false)</IsLatest>",
    "LastModified": r"<LastModified>([0-9T:.Z+-]*+)</LastModified>",
    "ETag": rf"<ETag>{_QUOTE}([0-9A-Za-z-]*+){_QUOTE}</ETag>",
    "Size": r"<Size>([0-9]*+)</Size>",
}
# Not wanted. They may be missing from some entries.
_UNWANTED: Final = {
    "StorageClass": r"(?:<StorageClass>[0-9A-Z_]*+</StorageClass>)?+",
    "ChecksumAlgorithm": r"(?:<ChecksumAlgorithm>[0-9A-Z_]*+</ChecksumAlgorithm>)?+",
    "ChecksumType": r"(?:<ChecksumType>[0-9A-Z_]*+</ChecksumType>)?+",
    "Owner": rf"(?:<Owner>{_SPACE}(?:<ID>{_TEXT}</ID>{_SPACE}"
    rf"|<DisplayName>{_TEXT}</DisplayName>{_SPACE})*+</Owner>)?+",
}
_OF_OWNER: Final = frozenset({"ID", "DisplayName"})
_MAX_FIELDS: Final = 16

_find_names = re.compile("<([A-Za-z]+)>").findall


class Split(NamedTuple):
    """A listing without its entries, and the entries."""

    envelope: bytes
    entries: list[Entry]


class VersionSplit(NamedTuple):
    """A listing of versions without its entries, and the entries, in document order.

    ``envelope`` has an empty ``<Version/>`` in their place.
    """

    envelope: bytes
    entries: list[VersionEntry]


def split_entries(data: bytes) -> Split | None:
    """Take the entries out of a listing, or return None where only a parser can."""
    cut = _cut(data, (CONTENTS,))
    if cut is None:
        return None
    _, (wanted,) = cut.pattern
    return Split(
        cut.envelope,
        [
            (unescape(key) if "&" in key else key, modified, etag, size)
            for key, modified, etag, size in map(wanted, cut.rows)
        ],
    )


def split_versions(data: bytes) -> VersionSplit | None:
    """Take the entries out of a listing of versions, or return None where only a parser can."""
    cut = _cut(data, (VERSION, DELETE_MARKER))
    if cut is None:
        return None
    _, (of_version, of_marker) = cut.pattern
    return VersionSplit(
        cut.envelope,
        [
            # The second item of a row is the name of the element, if it is a version.
            _resolved(of_version(row) if row[1] else of_marker(row))
            for row in cut.rows
        ],
    )


def _resolved(row: Row) -> VersionEntry:
    key, version_id, *others = row
    if "&" in key:
        key = unescape(key)
    if "&" in version_id:
        version_id = unescape(version_id)
    return cast(VersionEntry, (key, version_id, *others))


_Pattern = tuple[re.Pattern[str], tuple[Callable[[Row], Row], ...]]


class _Cut(NamedTuple):
    envelope: bytes
    rows: list[Row]
    pattern: _Pattern


def _cut(data: bytes, kinds: tuple[_Kind, ...]) -> _Cut | None:
    """Find the rows of all entries, and what is around them."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    starts = [text.find(f"<{kind.element}>") for kind in kinds]
    ends = [text.rfind(f"</{kind.element}>") for kind in kinds]
    start = min((at for at in starts if at >= 0), default=-1)
    last = max(ends)
    if start < 0 or last < start:
        return None
    end = text.index(">", last) + 1
    envelope = f"{text[:start]}<{kinds[0].element}/>{text[end:]}"
    if "<!" in envelope or "<?" in envelope[1:]:
        return None
    text = text[start:end]
    if sum(text.count(f"<{kind.element}>") for kind in kinds) > MAX_RECORDS:
        return None
    layouts = tuple(_layout(text, kind) for kind in kinds)
    pattern = _entry_pattern(kinds, layouts) if max(map(len, layouts)) <= _MAX_FIELDS else None
    if pattern is None:
        return None
    rows = pattern[0].findall(text)
    # Each row's first item is the whole match.
    if sum([len(row[0]) for row in rows]) != len(text):
        return None
    return _Cut(envelope.encode(), rows, pattern)


def _layout(text: str, kind: _Kind) -> tuple[str, ...]:
    """The names of the fields in the first entry of a kind; none if there is no entry."""
    start = text.find(f"<{kind.element}>")
    if start < 0:
        return ()
    names = _find_names(text, start, text.find(f"</{kind.element}>", start))
    return tuple(name for name in names[1:] if name not in _OF_OWNER)


@lru_cache(maxsize=16)
def _entry_pattern(
    kinds: tuple[_Kind, ...], layouts: tuple[tuple[str, ...], ...]
) -> _Pattern | None:
    """Make the pattern of entries with these fields in this order, if they are known ones."""
    alternatives: list[str] = []
    getters: list[Callable[[Row], Row]] = []
    # The first group is the whole match.
    group = 1
    for kind, names in zip(kinds, layouts, strict=True):
        # Of a kind that does not occur nothing is matched; its getter is never called.
        wanted = [name for name in names if name in kind.fields] or list(kind.fields)
        unknown = any(name not in kind.fields and name not in _UNWANTED for name in names)
        if unknown or sorted(wanted) != sorted(kind.fields):
            return None
        inner = _SPACE.join((_PATTERNS | _UNWANTED)[name] for name in names or wanted)
        alternatives.append(f"<({kind.element})>{_SPACE}{inner}{_SPACE}</{kind.element}>")
        getters.append(itemgetter(*(group + 1 + wanted.index(name) for name in kind.fields)))
        group += 1 + len(wanted)
    # It starts with a literal: a search that fails at white space could take quadratic time.
    pattern = re.compile(f"((?:{'|'.join(alternatives)}){_SPACE})")
    return pattern, tuple(getters)
