"""The quick way through a listing's entries, which are most of its bytes.

An XML parser calls Python a dozen times per entry. But a server writes all its entries alike,
so one regular expression, made after the first entry, takes them all at a third of the cost.
It is used only where it provably says what the parser would say:

- The expression matches nothing but complete entries (``<Contents>``; of versions, ``<Version>``
  and ``<DeleteMarker>``) made of known fields, in the order of the first entry of their kind,
  without attributes, comments or CDATA, and without a character that XML forbids or changes.
  On such text there is one reading.
- The matches must cover everything from the first entry's begin to the last one's end. findall
  goes on where a match ended, and what is no entry there matches another alternative, which takes
  all that is left: so nothing is skipped, and this holds exactly when that one took nothing.
- What is left, with one empty entry in the place of all, goes through the parser. Taking whole
  elements out of an element's content keeps a document well-formed or malformed, as it was.
  Where markup could hide them from the parser (comments, CDATA, processing instructions), this
  way is not taken, and the caller checks that the parser met the empty entry as an entry.

In all other cases None is returned, and the parser reads the whole document.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress, repeat
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel

from careflow_storage._s3.xml.reader import MAX_RECORDS
from careflow_storage.models import Model

# For each field of a kind of entries, its text in each of them, references resolved.
Columns = tuple[Sequence[str], ...]


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
# The five entities of XML, and the references that Go writes for two of them. The last one gives
# what could be a part of the others.
_REFERENCES: Final = (
    *(("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&#34;", '"')),
    *(("&#39;", "'"), ("&amp;", "&")),
)
_NAMES: Final = "|".join(reference[1:-1] for reference, _ in _REFERENCES)
_TEXT: Final = rf"{_PLAIN}(?:&(?:{_NAMES});{_PLAIN})*+"
# No text can hold it.
_SEPARATOR: Final = "\0"
_QUOTE: Final = r"(?:\"|&quot;|&#34;)"
_PATTERNS: Final = {
    "Key": rf"<Key>({_TEXT})</Key>",
    "VersionId": rf"<VersionId>({_TEXT})</VersionId>",
    "IsLatest": r"<IsLatest>(true|false)</IsLatest>",
    # Never empty: it distinguishes entries of one kind from those of another.
    "LastModified": r"<LastModified>([0-9T:.Z+-]++)</LastModified>",
    # What `unquote_etag` and `number_of_bytes` would check.
    "ETag": rf"<ETag>{_QUOTE}([0-9A-Za-z-]{{0,1024}}+){_QUOTE}</ETag>",
    # As some servers write it, such as rclone.
    "BareETag": r"<ETag>([0-9A-Za-z-]{0,1024}+)</ETag>",
    "Size": r"<Size>([0-9]{1,19}+)</Size>",
}
# Not wanted, and not flat as all others that are not wanted.
_NESTED: Final = {
    "Owner": ("ID", "DisplayName"),
    "RestoreStatus": ("IsRestoreInProgress", "RestoreExpiryDate"),
}
_OF_NESTED: Final = frozenset(name for names in _NESTED.values() for name in names)
_ALL_THAT_IS_LEFT: Final = r"([\s\S]++)"
_MAX_FIELDS: Final = 16
# How far the fields of an entry are looked for, and how often others are learned.
_LONGEST_LAYOUT: Final = 64 * 1024
_MOST_LAYOUTS: Final = 4
# References in the longest keys that S3 has, a thousand of them.
_MAX_REFERENCES: Final = 1_100_000
# No entry that the patterns match is shorter.
_MIN_ENTRY: Final = 80

_find_names = re.compile("<([A-Za-z]+)>").findall
_is_quoted = re.compile(f"<ETag>{_QUOTE}").match


class Split(NamedTuple):
    """A listing without its entries, and the columns of `CONTENTS`.

    Sizes are 1 to 19 digits, ETags without quotes and good ones; times are only likely to be.
    """

    envelope: bytes
    columns: Columns


class VersionSplit(NamedTuple):
    """A listing of versions without its entries, and their columns.

    ``envelope`` has an empty ``<Version/>`` in the place of all. ``order`` has an item for each
    entry of the document: true for a version, false for a delete marker.
    """

    envelope: bytes
    versions: Columns
    markers: Columns
    order: list[bool]


def split_entries(data: bytes) -> Split | None:
    """Take the entries out of a listing, or return None where only a parser can."""
    cut = _cut(data, (CONTENTS,))
    if cut is None:
        return None
    (files,) = cut.places
    key, *others = (cut.columns[place] for place in files)
    return Split(cut.envelope, (_resolved(key), *others))


def split_versions(data: bytes) -> VersionSplit | None:
    """Take the entries out of a listing of versions, or return None where only a parser can."""
    cut = _cut(data, (VERSION, DELETE_MARKER))
    if cut is None:
        return None
    versions, markers = (_columns_of_kind(cut, places) for places in cut.places)
    modified = cut.columns[cut.places[0][_MODIFIED]]
    return VersionSplit(cut.envelope, versions, markers, list(map(bool, modified)))


def _columns_of_kind(cut: _Cut, places: _Places) -> Columns:
    """The columns without the entries of the other kind, which have no text in them."""
    modified = cut.columns[places[_MODIFIED]]
    key, version_id, *others = (tuple(compress(cut.columns[at], modified)) for at in places)
    return (_resolved(key), _resolved(version_id), *others)


def _resolved(texts: Sequence[str]) -> Sequence[str]:
    # One look at all of them is quicker than one at each, and most pages have no reference.
    joined = _SEPARATOR.join(texts)
    if "&" not in joined:
        return texts
    for reference, character in _REFERENCES:
        joined = joined.replace(reference, character)
    return joined.split(_SEPARATOR)


# Where the fields of a kind are in the columns of all kinds.
_Places = tuple[int, ...]
_MODIFIED: Final = DELETE_MARKER.fields.index("LastModified")


class _Pattern(NamedTuple):
    regex: re.Pattern[str]
    places: tuple[_Places, ...]


class _Cut(NamedTuple):
    envelope: bytes
    columns: Columns
    places: tuple[_Places, ...]


def _cut(data: bytes, kinds: tuple[_Kind, ...]) -> _Cut | None:
    """Find the columns of all entries, and what is around them."""
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
    # Counting them takes its time, and only a long text can hold too many.
    if (
        end - start > MAX_RECORDS * _MIN_ENTRY
        and sum(text.count(f"<{kind.element}>", start, end) for kind in kinds) > MAX_RECORDS
    ):
        return None
    if end - start > _MAX_REFERENCES and text.count("&", start, end) > _MAX_REFERENCES:
        return None
    layouts = tuple(_layout(text, kind) for kind in kinds)
    for _ in range(_MOST_LAYOUTS):
        pattern = _entry_pattern(kinds, layouts) if max(map(len, layouts)) <= _MAX_FIELDS else None
        if pattern is None:
            return None
        *columns, left = zip(*pattern.regex.findall(text, start, end), strict=True)
        if not left[-1]:
            return _Cut(envelope.encode(), tuple(columns), pattern.places)
        # An entry may have what none before it has.
        begin = end - len(left[-1])
        learned = tuple(
            _merged(known, _layout(text, kind, begin, end))
            for kind, known in zip(kinds, layouts, strict=True)
        )
        if learned == layouts:
            return None
        layouts = learned
    return None


def _layout(text: str, kind: _Kind, begin: int = 0, end: int | None = None) -> tuple[str, ...]:
    """The names of the fields in the first entry of a kind; none if there is no entry."""
    start = text.find(f"<{kind.element}>", begin, end)
    if start < 0:
        return ()
    stop = text.find(f"</{kind.element}>", start, start + _LONGEST_LAYOUT)
    names = _find_names(text, start, stop if stop >= 0 else start + _LONGEST_LAYOUT)
    found = [name for name in names[1:] if name not in _OF_NESTED]
    if "ETag" in found and not _is_quoted(text, text.index("<ETag>", start)):
        found[found.index("ETag")] = "BareETag"
    return tuple(found)


def _merged(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Both layouts in one: in the order of ``more``, others where they stood before."""
    merged = list(more)
    place = 0
    for name in known:
        if name not in merged:
            merged.insert(place, name)
        place = merged.index(name) + 1
    return tuple(merged)


@lru_cache(maxsize=16)
def _entry_pattern(
    kinds: tuple[_Kind, ...], layouts: tuple[tuple[str, ...], ...]
) -> _Pattern | None:
    """Make the pattern of entries with these fields in this order, if they are known ones."""
    alternatives: list[str] = []
    places: list[_Places] = []
    groups = 0
    for kind, names in zip(kinds, layouts, strict=True):
        # Of a kind that does not occur nothing is matched.
        wanted = [name for name in map(_element, names) if name in kind.fields] or list(kind.fields)
        if sorted(wanted) != sorted(kind.fields) or any(each.element in names for each in kinds):
            return None
        inner = _SPACE.join(
            _PATTERNS[name] if _element(name) in kind.fields else _unwanted(_element(name))
            for name in names or wanted
        )
        alternatives.append(f"<{kind.element}>{_SPACE}{inner}{_SPACE}</{kind.element}>{_SPACE}")
        places.append(tuple(groups + wanted.index(name) for name in kind.fields))
        groups += len(wanted)
    return _Pattern(re.compile("|".join((*alternatives, _ALL_THAT_IS_LEFT))), tuple(places))


def _element(name: str) -> str:
    return "ETag" if name == "BareETag" else name


def _unwanted(name: str) -> str:
    """A field that is not wanted; it may be missing from some entries."""
    inner = _TEXT
    if name in _NESTED:
        children = "|".join(f"<{child}>{_TEXT}</{child}>{_SPACE}" for child in _NESTED[name])
        inner = f"{_SPACE}(?:{children})*+"
    return f"(?:<{name}>{inner}</{name}>)?+"


AnyModel = TypeVar("AnyModel", bound=Model)

_SLOTS: Final = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
# A pydantic to come may keep more, or other things, in a model: then it must do this itself.
_PYDANTIC_IS_KNOWN: Final = sorted(BaseModel.__slots__) == sorted(_SLOTS)


def make_models(model: type[AnyModel], values: list[dict[str, Any]]) -> list[AnyModel]:
    """Make one model of each of the ``values``; 1000 take 0.4 ms.

    Each has all fields of the model, in their order, with values that validation would neither
    refuse nor change. It becomes a part of the model, so the caller must not keep it. Models with
    private attributes or validators of their own are none for this.
    """
    if not _PYDANTIC_IS_KNOWN:
        return [model.model_validate(each) for each in values]
    models = list(map(object.__new__, repeat(model, len(values))))
    names = set(model.model_fields)
    _fill("__dict__", models, values)
    # Each model has a set of its own: who changes one changes no other.
    _fill("__pydantic_fields_set__", models, map(set.copy, repeat(names)))
    _fill("__pydantic_extra__", models, repeat(None))
    _fill("__pydantic_private__", models, repeat(None))
    return models


def _fill(slot: str, models: list[AnyModel], values: Iterable[object]) -> None:
    # The descriptor itself: a frozen model refuses setattr.
    fill: Callable[[AnyModel, object], None] = vars(BaseModel)[slot].__set__
    deque(map(fill, models, values), maxlen=0)
