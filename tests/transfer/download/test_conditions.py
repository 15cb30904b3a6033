"""Conditional and range headers as RFC 9110 defines them, for any text that a client sends."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage._dates import parse_date
from careflow_storage._transfer.download.conditions import (
    Preconditions,
    http_date,
    if_range_matches,
    parse_range,
    strong_etag,
)

MODIFIED = datetime(2026, 11, 23, 6, 48, 48, tzinfo=UTC)
EPOCH = MODIFIED.replace(year=1970, tzinfo=None)
SIZES = st.integers(0, 300)
OFFSETS = st.integers(0, 400)
LIKELY = st.text(st.sampled_from('bytes=-,0123456789W/"ab* \t\nMonGT:é'), max_size=40)
ETAGS = st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), max_size=12)


@given(first=OFFSETS, last=OFFSETS, size=SIZES)
def test_a_range_is_the_slice_of_python(first: int, last: int, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    for text, wanted in {
        f"bytes={first}-": data[first:],
        f"bytes={first}-{last}": data[first : last + 1] if first <= last else None,
        f"bytes=-{last}": data[-last:] if last else b"",
    }.items():
        span = parse_range(text)
        if wanted is None:
            assert span is None
            continue
        assert span is not None
        found = span.within(size)
        assert (data[found[0] : found[1]] if found is not None else b"") == wanted
        assert found is not None or not wanted
        assert span.possible or not wanted


@given(st.one_of(LIKELY, st.text(max_size=60)))
def test_any_text_is_read_without_an_error(text: str) -> None:
    span = parse_range(text)
    if span is not None:
        assert text.strip(" \t").lower().startswith("bytes=")
        found = span.within(1000)
        assert found is None or 0 <= found[0] < found[1] <= 1000
    if_range_matches(text, "a", MODIFIED)
    strong_etag(text)
    for name in Preconditions.__dataclass_fields__:
        conditions = Preconditions(**{name: text})
        assert conditions.status("a", MODIFIED) in (None, 304, 412)
        assert all(value.isascii() for value in conditions.to_forward().values())


@given(etag=ETAGS, others=st.lists(ETAGS, max_size=4), weak=st.booleans())
def test_entity_tags(etag: str, others: list[str], weak: bool) -> None:
    mark = "W/" if weak else ""
    tags = [f'"{other}"' for other in others if other != etag]
    listed = ", ".join([*tags, f'{mark}"{etag}"'])
    assert Preconditions(if_none_match=listed).status(etag, MODIFIED) == (304 if etag else None)
    matched = bool(etag) and not weak
    assert Preconditions(if_match=listed).status(etag, MODIFIED) == (None if matched else 412)
    if tags:
        absent = " ,".join(tags)
        assert Preconditions(if_none_match=absent).status(etag, MODIFIED) is None
        assert Preconditions(if_match=absent).status(etag, MODIFIED) == 412
    assert if_range_matches(f'{mark}"{etag}"', etag, MODIFIED) == matched


@given(st.datetimes(min_value=EPOCH, timezones=st.just(UTC)))
def test_a_date_survives_being_written_and_read(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    text = http_date(moment)
    assert text == format_datetime(moment, usegmt=True)
    assert parse_date(text) == moment
    assert if_range_matches(text, "a", moment)
    assert Preconditions(if_modified_since=text).status("a", moment) == 304
    assert Preconditions(if_unmodified_since=text).status("a", moment) is None


@pytest.mark.parametrize("text", ['"a' * 50_000, ',"' * 50_000, "W/" * 50_000, "bytes=" * 50_000])
def test_a_long_hostile_header_takes_linear_time(text: str) -> None:
    assert Preconditions(if_none_match=text).status("b", MODIFIED) is None
    assert Preconditions(if_match=text).status("b", MODIFIED) == 412
    assert parse_range(text) is None
    assert not if_range_matches(text, "b", MODIFIED)
