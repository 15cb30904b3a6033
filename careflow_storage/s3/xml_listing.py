"""The quick way through a listing's entries, which are most of its bytes.

An XML parser calls Python a dozen times per entry. But a server writes all its entries alike,
so one regular expression, made after the first entry, takes them all at a third of the cost.
It is used only where it provably says what the parser would say:

- The expression matches nothing but complete ``<Contents>`` elements made of known fields, in
  the order of the first entry, without attributes, comments or CDATA, and without a character
  that XML forbids or changes. On such text there is one reading.
- The matches must cover everything between the first ``<Contents>`` and the last
  ``</Contents>``. findall's matches neither overlap nor leave their order, so this holds
  exactly when their lengths add up.
- What is left, with one empty ``<Contents/>`` in the place of the entries, goes through the
  parser. Taking whole elements out of an element's content keeps a document well-formed or
  malformed, as it was. Where markup could hide them from the parser (comments, CDATA,
  processing instructions), this way is not taken, and the caller checks that the parser met
  the empty entry as an entry.

In all other cases `split_entries` returns None, and the parser reads the whole document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape
from operator import itemgetter
from typing import Final, NamedTuple

from careflow_storage.s3.xml_reader import MAX_RECORDS

# Key, LastModified, ETag and Size as they stand in the document, references resolved.
Entry = tuple[str, str, str, str]
Row = tuple[str, ...]

_FIELDS: Final = ("Key", "LastModified", "ETag", "Size")
# No control characters (forbidden, or changed as line ends are), no "<", and no ">" because
# of "]]>", which is forbidden in text.
_PLAIN: Final = r"[^<>&\x00-\x1f\ufffe\uffff]*+"
# The five entities of XML, and the references that Go writes for two of them.
_TEXT: Final = rf"{_PLAIN}(?:&(?:amp|lt|gt|quot|apos|#34|#39);{_PLAIN})*+"
_QUOTE: Final = r"(?:\"|&quot;|&#34;)"
_PATTERNS: Final = {
    "Key": rf"<Key>({_TEXT})</Key>",
    "LastModified": r"<LastModified>([0-9T:.Z+-]*+)</LastModified>",
    "ETag": rf"<ETag>{_QUOTE}([0-9A-Za-z-]*+){_QUOTE}</ETag>",
    "Size": r"<Size>([0-9]*+)</Size>",
    # Not wanted. They may be missing from some entries.
    "StorageClass": r"(?:<StorageClass>[0-9A-Z_]*+</StorageClass>)?+",
    "ChecksumAlgorithm": r"(?:<ChecksumAlgorithm>[0-9A-Z_]*+</ChecksumAlgorithm>)?+",
    "ChecksumType": r"(?:<ChecksumType>[0-9A-Z_]*+</ChecksumType>)?+",
}
_MAX_FIELDS: Final = 16
_SPACE: Final = r"[ \t\r\n]*+"

_find_names = re.compile("<([A-Za-z]+)>").findall


class Split(NamedTuple):
    """A listing without its entries, and the entries."""

    envelope: bytes
    entries: list[Entry]


def split_entries(data: bytes) -> Split | None:
    """Take the entries out of a listing, or return None where only a parser can."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    start = text.find("<Contents>")
    last = text.rfind("</Contents>")
    if start < 0 or last < start:
        return None
    end = last + len("</Contents>")
    envelope = f"{text[:start]}<Contents/>{text[end:]}"
    if "<!" in envelope or "<?" in envelope[1:]:
        return None
    entries = _find_entries(text[start:end])
    return None if entries is None else Split(envelope.encode(), entries)


def _find_entries(text: str) -> list[Entry] | None:
    names = tuple(_find_names(text[: text.index("</Contents>")])[1:])
    pattern = _entry_pattern(names) if len(names) <= _MAX_FIELDS else None
    if pattern is None or text.count("<Contents>") > MAX_RECORDS:
        return None
    found, order = pattern
    rows = found.findall(text)
    # Each row's first item is the whole match.
    if sum([len(row[0]) for row in rows]) != len(text):
        return None
    return [
        (unescape(key) if "&" in key else key, modified, etag, size)
        for key, modified, etag, size in map(order, rows)
    ]


@lru_cache(maxsize=16)
def _entry_pattern(names: tuple[str, ...]) -> tuple[re.Pattern[str], Callable[[Row], Entry]] | None:
    """Make the pattern of entries with these fields in this order, if they are known ones."""
    wanted = [name for name in names if name in _FIELDS]
    if sorted(wanted) != sorted(_FIELDS) or any(name not in _PATTERNS for name in names):
        return None
    inner = _SPACE.join(_PATTERNS[name] for name in names)
    # It starts with a literal: a search that fails at white space could take quadratic time.
    pattern = re.compile(rf"(<Contents>{_SPACE}{inner}{_SPACE}</Contents>{_SPACE})")
    key, modified, etag, size = (wanted.index(name) + 1 for name in _FIELDS)
    return pattern, itemgetter(key, modified, etag, size)
