"""Listings of versions: what servers send is read exactly, what is hostile is refused."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careflow_storage import AccessDeniedError, ServerResponseError, StorageError
from careflow_storage._s3.xml import documents, versions
from careflow_storage._s3.xml.fast_path import split_versions
from careflow_storage._s3.xml.versions import VersionPage, parse_versions
from careflow_storage.models import FileVersion
from tests.support.listings import HEAD, MD5, MOMENT, NAMESPACE, URL

OWNER = "<Owner><ID>75aa</ID><DisplayName>webfile</DisplayName></Owner>"
FORMS = {
    "AWS": (
        "<Version><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
        "<LastModified>2026-11-23T06:36:09.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        "<Size>{size}</Size>{owner}<StorageClass>STANDARD</StorageClass></Version>",
        "<DeleteMarker><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
        "<LastModified>2026-11-23T06:36:09.000Z</LastModified>{owner}</DeleteMarker>",
    ),
    "SeaweedFS": (
        "<Version><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
        "<ETag>&#34;{etag}&#34;</ETag><Size>{size}</Size>{owner}"
        "<StorageClass>STANDARD</StorageClass><LastModified>2026-11-23T06:36:09Z</LastModified>"
        "</Version>",
        "<DeleteMarker><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
        "{owner}<LastModified>2026-11-23T06:36:09Z</LastModified></DeleteMarker>",
    ),
    "moto": (
        '<Version><ETag>"{etag}"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass>'
        "<Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>"
        "<LastModified>2026-11-23T06:36:09.000Z</LastModified>{owner}</Version>",
        "<DeleteMarker>{owner}<Key>{key}</Key><VersionId>{id}</VersionId>"
        "<IsLatest>{latest}</IsLatest><LastModified>2026-11-23T06:36:09.000Z</LastModified>"
        "</DeleteMarker>",
    ),
}
VERSION, MARKER = FORMS["AWS"]


def listing(inner: str, *, truncated: str = "false", more: str = "") -> bytes:
    return (
        f'{HEAD}<ListVersionsResult xmlns="{NAMESPACE}"><Name>b</Name><Prefix></Prefix>'
        f"<KeyMarker></KeyMarker><VersionIdMarker></VersionIdMarker><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>{truncated}</IsTruncated>{inner}{more}</ListVersionsResult>"
    ).encode()


def entry(key: str = "k", version_id: str = "v1", form: str = VERSION, **changes: str) -> str:
    values = {"latest": "true", "etag": MD5, "size": "1", "owner": OWNER} | changes
    return form.format(key=key, id=version_id, **values)


def version(key: str = "k", version_id: str | None = "v1", **changes: Any) -> FileVersion:
    values: dict[str, Any] = {
        "is_latest": True,
        "delete_marker": False,
        "size": 1,
        "last_modified": MOMENT,
        "etag": MD5,
    }
    return FileVersion(key=key, version_id=version_id, **(values | changes))


def marker(key: str = "k", version_id: str | None = "m1", **changes: Any) -> FileVersion:
    values: dict[str, Any] = {"delete_marker": True, "size": 0, "etag": ""}
    return version(key, version_id, **(values | changes))


def outcome(data: bytes) -> VersionPage | None:
    """The page, or None for a refusal; anything but these is a crash and comes out."""
    try:
        return parse_versions(data)
    except StorageError:
        return None


def parser_outcome(data: bytes) -> VersionPage | None:
    with mock.patch.object(versions, "split_versions", return_value=None):
        return outcome(data)


# --- what servers send ------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "hidden"), FORMS.values(), ids=FORMS.keys())
def test_versions_and_delete_markers_come_in_the_order_of_the_document(
    stored: str, hidden: str
) -> None:
    data = listing(
        entry("a", "m2", hidden)
        + entry("a", "v1", stored, latest="false")
        + entry("a", "m1", hidden, latest="false")
        + entry("b &amp; c", "null", stored, size="12345678901")
    )
    assert split_versions(data) is not None
    expected = [
        marker("a", "m2"),
        version("a", "v1", is_latest=False),
        marker("a", "m1", is_latest=False),
        version("b & c", None, size=12345678901),
    ]
    assert parse_versions(data).versions == expected
    assert parser_outcome(data) == VersionPage(expected, None)


def test_a_server_that_writes_all_delete_markers_last_gets_them_put_in_their_place() -> None:
    def at(text: str, seconds: int) -> str:
        moment = (MOMENT + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
        return text.replace("2026-11-23T06:36:09", moment)

    data = listing(
        at(entry("a", "v2", latest="false"), 3)
        + at(entry("a", "v1", latest="false"), 1)
        + at(entry("b", "v3"), 0)
        + at(entry("a", "m2", MARKER), 4)
        + at(entry("a", "m1", MARKER, latest="false"), 2)
    )
    found = parse_versions(data).versions
    assert [each.version_id for each in found] == ["m2", "v2", "m1", "v1", "v3"]


def test_a_server_that_writes_all_delete_markers_first_gets_them_put_in_their_place() -> None:
    # As in the example of B2's "S3 List Object Versions", with other elements between the groups.
    def at(text: str, seconds: int) -> str:
        moment = (MOMENT + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
        return text.replace("2026-11-23T06:36:09", moment)

    data = listing(
        at(entry("b", "m2", MARKER), 4)
        + at(entry("b", "m1", MARKER, latest="false"), 2)
        + "<MaxKeys>1000</MaxKeys><Name>b</Name>"
        + at(entry("a", "v3"), 0)
        + at(entry("b", "v2", latest="false"), 3)
        + at(entry("b", "v1", latest="false"), 1)
    )
    found = parse_versions(data).versions
    assert [each.version_id for each in found] == ["v3", "m2", "v2", "m1", "v1"]


def test_an_order_that_a_server_keeps_is_never_changed() -> None:
    # Amazon dates a multipart object by its begin, so times alone would be wrong.
    data = listing(
        entry("a", "m2", MARKER)
        + entry("a", "v1", latest="false").replace("2026", "2020")
        + entry("a", "m1", MARKER, latest="false")
        + entry("a", "v0", latest="false").replace("2026", "2030")
    )
    assert [each.version_id for each in parse_versions(data).versions] == ["m2", "v1", "m1", "v0"]


def test_keys_and_the_next_position_are_url_decoded_when_the_server_says_so() -> None:
    inner = entry("a%2Fb+%2B") + entry("c", "m", MARKER)
    more = "<NextKeyMarker>a%2Fb+%2B</NextKeyMarker><NextVersionIdMarker>v%31</NextVersionIdMarker>"
    raw = parse_versions(listing(inner, truncated="true", more=more))
    decoded = parse_versions(listing(inner, truncated="true", more=more + URL))
    assert raw.next_position == ("a%2Fb+%2B", "v%31")
    assert [each.key for each in raw.versions] == ["a%2Fb+%2B", "c"]
    assert decoded.next_position == ("a/b +", "v%31")
    assert [each.key for each in decoded.versions] == ["a/b +", "c"]


def test_an_empty_listing_and_one_without_a_version_marker_are_read() -> None:
    assert parse_versions(listing("")) == VersionPage([], None)
    page = parse_versions(listing("", truncated="true", more="<NextKeyMarker>k</NextKeyMarker>"))
    assert page.next_position == ("k", None)


def test_an_error_in_a_200_response_is_that_error() -> None:
    with pytest.raises(AccessDeniedError):
        parse_versions(b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")


# --- what is refused --------------------------------------------------------------------

HOSTILE = {
    "empty": b"",
    "HTML": b"<!doctype html><html><body>502 Bad Gateway</body></html>",
    "a listing of files": b"<ListBucketResult/>",
    "DTD": b"<!DOCTYPE r><ListVersionsResult/>",
    "entity": listing(entry("&x;")),
    "control character": listing(entry("a\x01b")),
    "UTF-16": listing(entry()).decode().encode("utf-16"),
    "deep": b"<a>" * 100_000 + b"</a>" * 100_000,
    "many entries": b"<ListVersionsResult>" + b"<Version/>" * 20_000 + b"</ListVersionsResult>",
    "neither true nor false": listing("", truncated="maybe"),
    "truncated without a way on": listing(entry(), truncated="true"),
    "truncated, only a version": listing(
        entry(), truncated="true", more="<NextVersionIdMarker>v</NextVersionIdMarker>"
    ),
    "no version ID": listing(entry().replace("<VersionId>v1</VersionId>", "")),
    "empty version ID": listing(entry(version_id="")),
    "marker with an empty version ID": listing(entry("k", "", MARKER)),
    "no IsLatest": listing(entry().replace("<IsLatest>true</IsLatest>", "")),
    "bad IsLatest": listing(entry(latest="maybe")),
    "no size": listing(entry().replace("<Size>1</Size>", "")),
    "bad size": listing(entry(size="-1")),
    "two keys": listing(entry().replace("<VersionId>", "<Key>x</Key><VersionId>")),
    "bad encoding": listing(entry("%FF"), more=URL),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_document_is_a_typed_error_soon(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ServerResponseError):
        parse_versions(data)
    assert time.process_time() - started < 20


def test_an_oversized_document_is_refused_unread() -> None:
    with pytest.raises(ServerResponseError, match="larger"):
        parse_versions(b" " * (documents.MAX_LISTING_BYTES + 1))


@pytest.mark.parametrize("form", [VERSION, MARKER], ids=["version", "marker"])
def test_a_listing_cut_off_anywhere_is_a_typed_error_that_may_be_retried(form: str) -> None:
    data = listing(entry("a", form=form) + entry("b"))
    for length in range(len(data)):
        with pytest.raises(ServerResponseError) as caught:
            parse_versions(data[:length])
        assert caught.value.retryable


@pytest.mark.parametrize(
    "inner",
    [
        entry() + " " * 4_000_000 + "x" + entry(),
        "<Version>" + " " * 4_000_000 + "x</Version>",
        "<Version>" * 400_000 + "</DeleteMarker>",
        "<Version><Owner>" + "<ID>a</ID>" * 300_000 + "</Version>",
        "<Version>" + "<Key>a</Key>" * 300_000 + "</Version>",
        ("<Version><Owner>" + "<ID>a</ID>" * 9) * 30_000 + "</Version>",
    ],
    ids=["white space", "space in entry", "nesting", "owners", "same field", "open owners"],
)
def test_no_document_makes_the_quick_way_slow(inner: str) -> None:
    data = listing(inner)
    started = time.process_time()
    split_versions(data)
    assert time.process_time() - started < 10


# --- for any document -------------------------------------------------------------------

keys = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
ids = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
moments = st.integers(0, 2**40).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))
models = st.builds(
    lambda key, version_id, latest, moment, stored: FileVersion(
        key=key,
        version_id=None if version_id == "null" else version_id,
        is_latest=latest,
        delete_marker=stored is None,
        size=stored or 0,
        last_modified=moment,
        etag="" if stored is None else MD5,
    ),
    keys,
    ids | st.just("null"),
    st.booleans(),
    moments,
    st.none() | st.integers(0, 10**18),
)


def dumped(each: FileVersion) -> str:
    return each.model_dump_json()


def written(each: FileVersion, form: tuple[str, str], url: bool) -> str:
    key = quote(each.key, safe="/") if url else escape(each.key)
    text = form[each.delete_marker].format(
        key=key,
        id=escape(each.version_id or "null"),
        latest=str(each.is_latest).lower(),
        etag=each.etag,
        size=each.size,
        owner=OWNER,
    )
    for stamp in ("2026-11-23T06:36:09.000Z", "2026-11-23T06:36:09Z"):
        text = text.replace(stamp, each.last_modified.isoformat())
    return text


@settings(deadline=None)  # machines may be busy
@given(st.lists(models, max_size=5), st.sampled_from(sorted(FORMS)), st.booleans())
def test_what_is_written_is_what_is_read(versions: list[FileVersion], form: str, url: bool) -> None:
    inner = "".join(written(each, FORMS[form], url) for each in versions)
    page = parse_versions(listing(inner, more=URL if url else ""))
    grouped = [each.delete_marker for each in versions]
    if grouped not in (sorted(grouped), sorted(grouped, reverse=True)) or len(set(grouped)) < 2:
        assert page.versions == versions
    else:  # here the order between them may be made anew
        assert sorted(map(dumped, page.versions)) == sorted(map(dumped, versions))


nasty = st.sampled_from(
    [
        *(
            "",
            "a",
            "&amp;",
            "&#65;",
            "&nbsp;",
            "]]>",
            "<![CDATA[x]]>",
            "<!-- c -->",
            "<b/>",
            "\x01",
        ),
        *(
            "</Key><Key>",
            "</Version><Version>",
            "<DeleteMarker/>",
            "</DeleteMarker>",
            " 1 ",
            "\r\n",
        ),
    ]
)


@settings(deadline=None)  # machines may be busy
@given(
    st.lists(
        st.tuples(st.sampled_from([*FORMS["AWS"], *FORMS["moto"]]), nasty, nasty, nasty, nasty),
        max_size=4,
    ),
    st.sampled_from(["{}", "<!--{}-->", "<Future>{}</Future>", "<Name>{}</Name>"]),
    nasty,
)
def test_the_quick_way_says_what_the_parser_says(
    entries: list[tuple[str, str, str, str, str]], around: str, between: str
) -> None:
    inner = between.join(
        entry(key, version_id, form, size=size, owner=f"<Owner><ID>{owner}</ID></Owner>")
        for form, key, version_id, size, owner in entries
    )
    data = listing(around.format(inner))
    assert outcome(data) == parser_outcome(data)


@settings(deadline=None)  # machines may be busy
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["v", "null", "", "a&amp;b"])), min_size=1),
    st.sampled_from(["", "x", "<x/>", "\n", "<Version/>"]),
    st.integers(0, 5),
)
def test_however_versions_and_markers_mix_both_ways_agree(
    entries: list[tuple[bool, str]], stray: str, place: int
) -> None:
    parts = [
        entry(f"k{number}+", version_id, MARKER if hidden else VERSION, size=str(number))
        for number, (hidden, version_id) in enumerate(entries)
    ]
    parts.insert(place, stray)
    data = listing("".join(parts), more=URL)
    assert outcome(data) == parser_outcome(data)


def test_randomly_damaged_documents_never_crash() -> None:
    rng = random.Random(4)
    good = listing(entry("a &amp; b") + entry("c", "m", MARKER), more=URL)
    for _ in range(2000):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert outcome(bytes(damaged)) == parser_outcome(bytes(damaged))
