"""Listings, errors and deletions as servers write them."""

from __future__ import annotations

from datetime import UTC
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careflow_storage._s3.xml.documents import (
    ListPage,
    parse_listing,
    unquote_etag,
)
from careflow_storage._s3.xml.fast_path import split_entries
from careflow_storage.errors import (
    ServerResponseError,
)
from careflow_storage.models import FileInfo
from tests.support.listings import (
    ENTRIES,
    HEAD,
    MD5,
    MOMENT,
    NAMESPACE,
    URL,
    entry,
    info,
    listing,
    parser_outcome,
)

# --- listings as servers write them -----------------------------------------------------


@pytest.mark.parametrize("form", ENTRIES.values(), ids=ENTRIES.keys())
def test_a_listing_of_each_server_is_read_on_the_quick_way(form: str) -> None:
    data = listing(
        "".join(entry(f"a/{n} &amp; &lt;{n}&gt; ä🎙", size=str(n), form=form) for n in range(3))
    )
    expected = [info(f"a/{n} & <{n}> ä🎙", n) for n in range(3)]
    assert split_entries(data) is not None
    page = parse_listing(data)
    assert page == ListPage(expected, [], None, is_truncated=False)
    assert parser_outcome(data) == page
    assert page.files[0].last_modified.tzinfo is UTC


def test_a_thousand_entries_keep_their_order_and_are_frozen_models() -> None:
    data = listing("".join(entry(f"r/{n:04}", size=str(n)) for n in range(1000)))
    files = parse_listing(data).files
    assert files == [info(f"r/{n:04}", n) for n in range(1000)]
    assert all(type(file) is FileInfo and type(file.size) is int for file in files)
    with pytest.raises(ValueError, match="frozen"):
        files[0].size = 2  # type: ignore[misc]  # that it is frozen is the point


def test_an_empty_listing_is_an_empty_page() -> None:
    assert parse_listing(listing("")) == ListPage([], [], None, is_truncated=False)
    bare = f'<ListBucketResult xmlns="{NAMESPACE}"/>'.encode()
    assert parse_listing(bare) == ListPage([], [], None, is_truncated=False)


def test_a_truncated_page_gives_its_token_exactly_as_it_is() -> None:
    token = "<NextContinuationToken> a b/+%2B&amp; </NextContinuationToken>"
    page = parse_listing(listing(entry(), truncated="true", more=token))
    assert page.is_truncated
    assert page.next_token == " a b/+%2B& "


def test_a_token_on_the_last_page_is_not_followed() -> None:
    token = "<NextContinuationToken>t</NextContinuationToken>"
    assert parse_listing(listing(entry(), more=token)).next_token is None


@pytest.mark.parametrize("token", ["", "<NextContinuationToken></NextContinuationToken>"])
def test_a_truncated_page_without_a_token_is_refused_since_files_would_be_lost(
    token: str,
) -> None:
    with pytest.raises(ServerResponseError, match="no marker to continue"):
        parse_listing(listing(entry(), truncated="true", more=token))


def test_folders_come_as_common_prefixes() -> None:
    folders = (
        "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"
        "<CommonPrefixes><Prefix>b &amp; c/</Prefix></CommonPrefixes>"
    )
    page = parse_listing(listing(entry("k"), more=folders))
    assert page.common_prefixes == ["a/", "b & c/"]
    assert [file.key for file in page.files] == ["k"]


def test_unknown_elements_prefixes_attributes_and_white_space_do_not_matter() -> None:
    data = f"""{HEAD}<!-- made by hand -->
    <s3:ListBucketResult xmlns:s3="{NAMESPACE}" xmlns:x="urn:x">
      <s3:Contents x:a="1">
        <x:Key><deep><Key>not this</Key></deep></x:Key>
      </s3:Contents>
    </s3:ListBucketResult>""".encode()
    with pytest.raises(ServerResponseError, match="inside of Key"):
        parse_listing(data)
    data = f"""{HEAD}<!-- made by hand -->
    <s3:ListBucketResult xmlns:s3="{NAMESPACE}" xmlns:x="urn:x">
      <s3:Future><Contents><Key>not this</Key></Contents></s3:Future>
      <s3:Contents x:a="1">
        <s3:Size> 7
        </s3:Size>
        <s3:Owner><s3:ID>o</s3:ID><s3:DisplayName>Key</s3:DisplayName></s3:Owner>
        <s3:ETag>
           "{MD5}" </s3:ETag><s3:Key> k <![CDATA[<&>]]></s3:Key>
        <s3:LastModified>\t2026-11-23T06:36:09.000Z </s3:LastModified>
      </s3:Contents>
      <s3:IsTruncated> False </s3:IsTruncated>
    </s3:ListBucketResult>""".encode()
    assert parse_listing(data).files == [info(" k <&>", 7)]


# --- encoding-type=url ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "key"),
    [
        ("a+b%2Bc", "a b+c"),  # AWS and SeaweedFS write a space as "+"
        ("a%20b%2Bc", "a b+c"),  # moto
        ("50%2525", "50%25"),
        ("%C3%A4/%F0%9F%8E%99", "ä/🎙"),
        ("x%0Dy%09z", "x\ry\tz"),
        ("plain/k-1_2.3~4", "plain/k-1_2.3~4"),
    ],
)
def test_keys_are_decoded_when_the_response_says_that_they_are_encoded(
    encoded: str, key: str
) -> None:
    folder = f"<CommonPrefixes><Prefix>{encoded}/</Prefix></CommonPrefixes>"
    page = parse_listing(listing(entry(encoded), more=folder + URL))
    assert [file.key for file in page.files] == [key]
    assert page.common_prefixes == [f"{key}/"]


@pytest.mark.parametrize("echo", ["", "<EncodingType></EncodingType>"])
def test_keys_stay_as_they_are_when_the_response_does_not_say_so(echo: str) -> None:
    folder = "<CommonPrefixes><Prefix>a+b%20/</Prefix></CommonPrefixes>"
    page = parse_listing(listing(entry("a+b%20c"), more=folder + echo))
    assert [file.key for file in page.files] == ["a+b%20c"]
    assert page.common_prefixes == ["a+b%20/"]


def test_a_key_that_is_no_utf8_is_refused_rather_than_changed() -> None:
    with pytest.raises(ServerResponseError, match="malformed value"):
        parse_listing(listing(entry("a%FFb"), more=URL))


@settings(deadline=None)  # machines may be busy
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.booleans())
def test_every_key_survives_url_encoding(key: str, plus: bool) -> None:
    encoded = quote_plus(key, safe="/") if plus else quote(key)
    assert [f.key for f in parse_listing(listing(entry(encoded), more=URL)).files] == [key]


# --- the values of an entry -------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T06:36:09Z",
        "2026-11-23T06:36:09.000Z",
        "2026-11-23T06:36:09+00:00",
        "2026-11-23T06:36:09.000000000Z",
        "2026-11-23T07:36:09+01:00",
        "2026-11-23T06:36:09",
        "2026-11-23 06:36:09Z",
        "Mon, 23 Nov 2026 06:36:09 GMT",
        "Mon, 23 Nov 2026 01:36:09 -0500",
        "Mon, 23 Nov 2026 06:36:09 -0000",
    ],
)
def test_a_timestamp_of_any_usual_form_is_the_same_moment_in_utc(text: str) -> None:
    data = listing(entry().replace("2026-11-23T06:36:09.000Z", text))
    page = parse_listing(data)
    assert page.files[0].last_modified == MOMENT
    assert page.files[0].last_modified.tzinfo is UTC
    assert parser_outcome(data) == page


def test_a_timestamp_keeps_its_fraction_of_a_second() -> None:
    data = listing(entry().replace("09.000Z", "09.123456Z"))
    assert parse_listing(data).files[0].last_modified == MOMENT.replace(microsecond=123456)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<Size>1<", "<Size><"),
        ("<Size>1<", "<Size>-1<"),
        ("<Size>1<", "<Size>1_0<"),
        ("<Size>1<", "<Size>+1<"),
        ("<Size>1<", "<Size>1.0<"),
        ("<Size>1<", "<Size>١<"),
        ("<Size>1<", f"<Size>{'9' * 5000}<"),
        ("2026-11-23T06:36:09.000Z", ""),
        ("2026-11-23T06:36:09.000Z", "yesterday"),
        ("2026-11-23T06:36:09.000Z", "2026-13-23T06:36:09Z"),
        ("2026-11-23T06:36:09.000Z", "0001-01-01T00:00:00+23:59"),
        ("2026-11-23T06:36:09.000Z", "Mon, 99 Nov 2026 06:36:09 GMT"),
    ],
)
def test_an_entry_with_a_malformed_value_is_refused(old: str, new: str) -> None:
    data = listing(entry().replace(old, new))
    assert data != listing(entry())
    with pytest.raises(ServerResponseError, match="malformed value"):
        parse_listing(data)
    assert parser_outcome(data) is None


@pytest.mark.parametrize("name", ["Key", "LastModified", "Size"])
def test_an_entry_without_a_field_is_refused_and_the_field_is_named(name: str) -> None:
    data = listing(entry().replace(f"<{name}>", "<Old>").replace(f"</{name}>", "</Old>"))
    with pytest.raises(ServerResponseError, match=f"no {name}"):
        parse_listing(data)


def test_a_folder_without_a_prefix_is_refused() -> None:
    with pytest.raises(ServerResponseError, match="no Prefix"):
        parse_listing(listing("<CommonPrefixes/>"))


def test_an_entry_without_an_etag_has_an_empty_one() -> None:
    data = listing(entry().replace("<ETag>", "<Old>").replace("</ETag>", "</Old>"))
    assert parse_listing(data).files == [info("k", etag="")]


def test_a_field_that_is_given_twice_is_refused() -> None:
    twice = entry().replace("<Size>1</Size>", "<Size>1</Size><Size>2</Size>")
    for data in (listing(twice), listing("", more="<IsTruncated>true</IsTruncated>")):
        with pytest.raises(ServerResponseError, match="given twice"):
            parse_listing(data)


@pytest.mark.parametrize(
    ("quoted", "etag"),
    [
        (f'"{MD5}"', MD5),
        (f'W/"{MD5}"', MD5),
        (MD5, MD5),
        (f' "{MD5}-17"\r\n', f"{MD5}-17"),
        ('""', ""),
        ('"', '"'),
        ("", ""),
        ('"a"b"', 'a"b'),
    ],
)
def test_an_etag_is_taken_out_of_its_quotes(quoted: str, etag: str) -> None:
    assert unquote_etag(quoted) == etag
