"""XML that an attacker or a broken proxy would send: a typed error, soon, never a crash."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careflow_storage._s3.boto.hardening import _check_xml
from careflow_storage._s3.xml import documents
from careflow_storage._s3.xml.documents import (
    parse_delete_result,
    parse_error,
    parse_listing,
)
from careflow_storage._s3.xml.fast_path import split_entries
from careflow_storage._s3.xml.versions import parse_versions
from careflow_storage.errors import (
    ServerResponseError,
    StorageError,
)
from tests.support.listings import (
    DELETED,
    ENTRIES,
    ERROR,
    URL,
    entry,
    info,
    listing,
    outcome,
)

BILLION_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><ListBucketResult><Contents><Key>&j;</Key></Contents></ListBucketResult>"
)
EXTERNAL_ENTITY = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b"<ListBucketResult><Contents><Key>&x;</Key></Contents></ListBucketResult>"
)
HOSTILE = {
    "billion laughs": BILLION_LAUGHS,
    "external entity": EXTERNAL_ENTITY,
    "external DTD": b'<!DOCTYPE r SYSTEM "http://127.0.0.1:9/x.dtd"><ListBucketResult/>',
    "DTD behind a comment": b"<!-- --><?p i?>\n<!DOCTYPE r><ListBucketResult/>",
    "undefined entity": listing(entry("&x;")),
    "empty": b"",
    "white space": b" \r\n",
    "zeros": b"\0" * 100,
    "no XML": b"internal server error",
    "JSON": b'{"Code":"SlowDown"}',
    "HTML": b"<!doctype html><html><body>502 Bad Gateway</body></html>",
    "another root": b"<ListAllMyBucketsResult/>",
    "two roots": b"<ListBucketResult/><ListBucketResult/>",
    "deep": b"<a>" * 100_000 + b"</a>" * 100_000,
    "many entries": b"<ListBucketResult>" + b"<Contents/>" * 20_000 + b"</ListBucketResult>",
    "UTF-16": listing(entry()).decode().encode("utf-16"),
    "UTF-16LE without a mark": listing(entry()).decode().encode("utf-16-le"),
    "UTF-16BE without a mark": listing(entry()).decode().encode("utf-16-be"),
    "UTF-16 with a DTD": BILLION_LAUGHS.decode().encode("utf-16"),
    "UTF-16LE with a DTD, no mark": BILLION_LAUGHS.decode().encode("utf-16-le"),
    "UTF-32": listing(entry()).decode().encode("utf-32"),
    "Latin-1, said": b'<?xml version="1.0" encoding="ISO-8859-1"?><ListBucketResult/>',
    "UTF-7, said": b'<?xml version="1.0" encoding="UTF-7"?><ListBucketResult/>',
    "Latin-1, unsaid": listing(entry("ä")).decode().encode("latin-1"),
    "surrogates": listing(entry("@@")).replace(b"@@", b"\xed\xa0\x80"),
    "overlong": listing(entry("@@")).replace(b"@@", b"\xc0\xbc"),
    "control character": listing(entry("a\x01b")),
    "neither true nor false": listing("", truncated="maybe"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_document_is_a_typed_error_soon(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ServerResponseError):
        parse_listing(data)
    with pytest.raises(ServerResponseError):
        parse_delete_result(data)
    assert parse_error(data) is None
    assert time.process_time() - started < 20


def test_a_document_type_is_refused_before_anything_is_parsed() -> None:
    with (
        mock.patch("careflow_storage._s3.xml.reader.expat.ParserCreate") as create,
        pytest.raises(ServerResponseError, match="document type"),
    ):
        parse_listing(BILLION_LAUGHS)
    create.assert_not_called()


def test_an_oversized_document_is_refused_unread() -> None:
    with pytest.raises(ServerResponseError, match="larger"):
        parse_listing(listing(" " * documents.MAX_LISTING_BYTES))
    with pytest.raises(ServerResponseError, match="larger"):
        parse_delete_result(b" " * (documents.MAX_LISTING_BYTES + 1))
    assert parse_error(b"<Error><Code>x</Code></Error>" + b" " * documents.MAX_ERROR_BYTES) is None


def test_the_largest_listing_that_s3_can_send_is_read() -> None:
    key = "&quot;" * 1024
    data = listing("".join(entry(key) for _ in range(1000)))
    assert len(data) < documents.MAX_LISTING_BYTES
    assert parse_listing(data).files == [info('"' * 1024)] * 1000


@pytest.mark.parametrize(
    "inner",
    [
        entry() + " " * 4_000_000 + "x" + entry(),
        "<Contents>" + " " * 4_000_000 + "x</Contents>",
        "<Contents>" * 400_000 + "</Contents>",
        "<Contents>" + "<Key>a</Key>" * 300_000 + "</Contents>",
        "<Contents><Key>" + "&amp;" * 800_000 + "&</Key></Contents>",
        "<Contents>" + "<ChecksumType>A</ChecksumType>" * 100_000 + "</Contents>",
    ],
    ids=["white space", "space in entry", "nesting", "same field", "references", "layout"],
)
def test_no_document_makes_the_quick_way_slow(inner: str) -> None:
    data = listing(inner)
    started = time.process_time()
    split_entries(data)
    assert time.process_time() - started < 10


_ROOM = documents.MAX_LISTING_BYTES - 2000
# Each has megabytes: made where it is used.
GIANTS: dict[str, Callable[[], str]] = {
    "elements": lambda: "<a/>" * (_ROOM // 4),
    "elements in an entry": lambda: "<Contents>" + "<a>b</a>" * (_ROOM // 8) + "</Contents>",
    "entries": lambda: "<Contents/>" * (_ROOM // 11),
    "elements with a prefix": lambda: "<a:a xmlns:a='b'/>" * (_ROOM // 18),
    "attributes": lambda: (
        "<a " + " ".join(f'a{number}="1"' for number in range(_ROOM // 16)) + "/>"
    ),
    "attributes with spaces": lambda: (
        "<a " + " ".join(f"a{n} = '>'" for n in range(_ROOM // 18)) + "/>"
    ),
    "references in a key": lambda: entry("&amp;" * (_ROOM // 5)),
    "numbers in a key": lambda: entry("&#65;" * (_ROOM // 5)),
    "references in an attribute": lambda: '<a b="' + "&amp;" * (_ROOM // 5) + '"/>',
    "lines in a key": lambda: entry("\n" * _ROOM),
    "lines of Windows in a key": lambda: entry("\r\n" * (_ROOM // 2)),
    "lines between": lambda: "\n" * _ROOM,
    "comments": lambda: "<!---->" * (_ROOM // 7),
    "instructions": lambda: "<?a?>" * (_ROOM // 5),
    "CDATA in a key": lambda: entry("<![CDATA[a]]>" * (_ROOM // 13)),
    "nesting": lambda: "<a>" * (_ROOM // 7) + "</a>" * (_ROOM // 7),
}


@pytest.mark.parametrize("giant", GIANTS)
def test_a_document_that_would_hold_the_loop_is_refused_before_it_is_parsed(giant: str) -> None:
    data = listing(GIANTS[giant]())
    assert len(data) <= documents.MAX_LISTING_BYTES
    error = data.replace(b"ListBucketResult", b"Error")[: documents.MAX_ERROR_BYTES]
    with mock.patch("careflow_storage._s3.xml.reader.expat.ParserCreate") as create:
        for parse in (parse_listing, parse_delete_result, parse_versions):
            with pytest.raises(ServerResponseError, match="more than"):
                parse(data)
        assert parse_error(error) is None
    create.assert_not_called()
    with pytest.raises(ServerResponseError, match="more than"):
        _check_xml(data)


@pytest.mark.parametrize("form", ENTRIES.values(), ids=ENTRIES.keys())
def test_a_listing_cut_off_anywhere_is_a_typed_error_that_may_be_retried(form: str) -> None:
    data = listing(entry("a", form=form) + entry("b", form=form))
    for length in range(len(data)):
        with pytest.raises(ServerResponseError) as caught:
            parse_listing(data[:length])
        assert caught.value.retryable


@settings(deadline=None)  # machines may be busy
@given(st.binary(max_size=300))
def test_garbage_is_a_typed_error_never_a_crash(data: bytes) -> None:
    assert outcome(data) is None
    assert parse_error(data) is None
    with pytest.raises(ServerResponseError):
        parse_delete_result(data)


def test_randomly_damaged_documents_never_crash() -> None:
    rng = random.Random(4)
    good = {
        parse_listing: listing(entry("a &amp; b") + entry("c"), more=URL),
        parse_delete_result: DELETED,
        parse_error: ERROR,
    }
    for parse, data in good.items():
        for _ in range(2000):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            try:
                parse(bytes(damaged))
            except StorageError:
                continue
