"""Listings, errors and deletions: as servers write them, and as an attacker would."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Any
from unittest import mock
from urllib.parse import quote, quote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    ServerResponseError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.models import DeleteResult, FileInfo
from careflow_storage.s3 import xml
from careflow_storage.s3.xml import (
    ErrorDocument,
    ListPage,
    build_delete_request,
    parse_delete_result,
    parse_error,
    parse_listing,
    unquote_etag,
)
from careflow_storage.s3.xml_listing import split_entries

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
MOMENT = datetime(2026, 11, 23, 6, 36, 9, tzinfo=UTC)

AWS_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-23T06:36:09.000Z</LastModified>"
    "<ETag>&quot;{etag}&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm>"
    "<ChecksumType>FULL_OBJECT</ChecksumType><Size>{size}</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
SEAWEEDFS_ENTRY = (
    "<Contents><Key>{key}</Key><ETag>&#34;{etag}&#34;</ETag><Size>{size}</Size>"
    "<StorageClass>STANDARD</StorageClass><LastModified>2026-11-23T06:36:09Z</LastModified>"
    "</Contents>"
)
MOTO_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-23T06:36:09.000Z</LastModified>"
    '<ETag>"{etag}"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
)
INDENTED_ENTRY = """
    <Contents>
        <Key>{key}</Key>
        <LastModified>2026-11-23T06:36:09.000Z</LastModified>
        <ETag>"{etag}"</ETag>
        <Size>{size}</Size>
    </Contents>"""
ENTRIES = {
    "AWS": AWS_ENTRY,
    "SeaweedFS": SEAWEEDFS_ENTRY,
    "moto": MOTO_ENTRY,
    "indented": INDENTED_ENTRY,
}


def listing(inner: str, *, truncated: str = "false", more: str = "") -> bytes:
    return (
        f'{HEAD}<ListBucketResult xmlns="{NAMESPACE}"><Name>b</Name><Prefix></Prefix>'
        f"<MaxKeys>1000</MaxKeys><IsTruncated>{truncated}</IsTruncated>{inner}{more}"
        "</ListBucketResult>"
    ).encode()


def entry(key: str = "k", *, size: str = "1", etag: str = MD5, form: str = AWS_ENTRY) -> str:
    return form.format(key=key, etag=etag, size=size)


def info(key: str, size: int = 1, etag: str = MD5) -> FileInfo:
    return FileInfo(key=key, size=size, last_modified=MOMENT, etag=etag)


def only_by_parser() -> Any:
    return mock.patch.object(xml, "split_entries", return_value=None)


def outcome(data: bytes) -> ListPage | None:
    """The page, or None for a refusal; anything but these is a crash and comes out."""
    try:
        return parse_listing(data)
    except StorageError:
        return None


def parser_outcome(data: bytes) -> ListPage | None:
    with only_by_parser():
        return outcome(data)


# --- listings as servers write them -------------------------------------------------------


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
    with pytest.raises(ServerResponseError, match="no way to go on"):
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


# --- encoding-type=url --------------------------------------------------------------------

URL = "<EncodingType>url</EncodingType>"


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
def test_keys_are_decoded_when_the_answer_says_that_they_are_encoded(
    encoded: str, key: str
) -> None:
    folder = f"<CommonPrefixes><Prefix>{encoded}/</Prefix></CommonPrefixes>"
    page = parse_listing(listing(entry(encoded), more=folder + URL))
    assert [file.key for file in page.files] == [key]
    assert page.common_prefixes == [f"{key}/"]


@pytest.mark.parametrize("echo", ["", "<EncodingType></EncodingType>"])
def test_keys_stay_as_they_are_when_the_answer_does_not_say_so(echo: str) -> None:
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


# --- the values of an entry ---------------------------------------------------------------


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


# --- the quick way says what the parser says ----------------------------------------------

nasty_text = st.text(
    st.one_of(
        st.sampled_from("ab/ &<>;\"'%+]\r\n\t"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)
written_text = st.one_of(
    nasty_text.map(escape),
    nasty_text.map(lambda text: escape(text, {'"': "&quot;", "'": "&#39;", "\r": "&#xD;"})),
    # Written wrongly, on purpose.
    nasty_text,
    st.sampled_from(
        [
            "&nbsp;",
            "&amp",
            "&ampquot;",
            "&amp;lt;",
            "&#x41;",
            "&#65;",
            "&#0;",
            "&#xD800;",
            "]]>",
            "<![CDATA[<Key>]]>",
            "<!-- c -->",
            "<?p i?>",
            "<b>bold</b>",
            "</Key><Key>",
            "</Contents><Contents>",
            "\ufffe",
            "\x1f",
            "\x85\u2028",
        ]
    ),
)
fields = st.fixed_dictionaries(
    {
        "Key": written_text,
        "LastModified": st.sampled_from(
            ["2026-11-23T06:36:09.000Z", "2026-11-23T06:36:09Z", "2026", "Z", "", " "]
        )
        | st.datetimes().map(str)
        | st.datetimes().map(datetime.isoformat),
        "ETag": st.sampled_from([f"&quot;{MD5}&quot;", f'"{MD5}-2"', "&#34;&#34;", MD5, "", '"'])
        | written_text,
        "Size": st.integers(0, 10**20).map(str) | st.sampled_from(["", " 5 ", "١", "-1"]),
    },
    optional={
        "StorageClass": st.sampled_from(["STANDARD", "", "standard"]),
        "ChecksumAlgorithm": st.sampled_from(["CRC32", "SHA256"]),
        "Owner": st.just("<ID>x</ID><DisplayName>y</DisplayName>"),
        "Future": written_text,
    },
)
spaces = st.sampled_from(["", "", "", "\n  ", "\r\n", "\t", "\xa0", "x", "\x1c", "<!-- -->"])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    order = draw(st.permutations(["Key", "LastModified", "ETag", "Size", "StorageClass"]))
    space = draw(spaces)
    inner = ""
    for values in draw(st.lists(fields, max_size=4)):
        names = [name for name in order if name in values]
        names += [name for name in values if name not in names]
        inner += f"<Contents>{space}"
        inner += "".join(f"<{name}>{values[name]}</{name}>{space}" for name in names)
        inner += f"</Contents>{draw(spaces)}"
    head = draw(st.sampled_from([HEAD, "", "\ufeff", HEAD + "<!-- c -->", "<?p i?>"]))
    around = draw(
        st.sampled_from(
            [
                "{}",
                "{}",
                "{}",
                "<Future>{}</Future>",
                "<!--{}-->",
                "<![CDATA[{}]]>",
                "<Name>{}</Name>",
            ]
        )
    )
    more = draw(
        st.sampled_from(["", URL, "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>", "<x/>"])
    )
    root = draw(st.sampled_from(["ListBucketResult", "ListBucketResult", "Error", "html"]))
    return f"{head}<{root}>{around.format(inner)}{more}</{root}>".encode()


@settings(deadline=None)  # machines may be busy
@given(documents())
@example(listing("<!--" + entry() + "-->"))
@example(listing("<Future>" + entry() + "</Future>"))
@example(listing(entry("a") + "<Contents/>"))
@example(listing(entry("a") + "<x:Contents></x:Contents>"))
@example(listing("<Name2>" + entry() + "</Name2>" + entry()))
@example(listing(entry() + " stray text " + entry()))
@example(listing(entry() + entry(form=SEAWEEDFS_ENTRY)))
@example(listing(entry("]]>")))
@example(listing(entry("a\rb")))
@example(listing(entry("&ampquot;")))
@example(listing(entry("&amp;lt;")))
@example(listing("<IsTruncated2>" + entry()))
@example(listing("", more=entry()).replace(b"<IsTruncated>false", b"<IsTruncated>" + b"x"))
@example(b"<Contents></Contents>")
@example(entry().encode())
@example(b'<a b="<Contents></Contents>"/>')
def test_the_quick_way_and_the_parser_agree_on_any_document(data: bytes) -> None:
    assert outcome(data) == parser_outcome(data)


quick_keys = st.text(
    st.one_of(
        st.sampled_from("ab/ &<>;\"'%+]"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
            lambda char: char >= " "
        ),
    ),
    max_size=12,
)


@settings(deadline=None)  # machines may be busy
@given(
    keys=st.lists(quick_keys, min_size=1, max_size=5),
    order=st.permutations(["Key", "LastModified", "ETag", "Size", "StorageClass"]),
    space=st.sampled_from(["", "\n", "\r\n  ", "\t "]),
    quote_mark=st.sampled_from(['"', "&quot;", "&#34;"]),
    more_escapes=st.sampled_from(
        [{}, {'"': "&quot;", "'": "&apos;"}, {'"': "&#34;", "'": "&#39;"}]
    ),
    around=st.sampled_from(["", URL, "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>"]),
)
def test_the_quick_way_reads_any_uniform_listing_as_the_parser_does(
    keys: list[str],
    order: list[str],
    space: str,
    quote_mark: str,
    more_escapes: dict[str, str],
    around: str,
) -> None:
    inner = ""
    for size, key in enumerate(keys):
        values = {
            "Key": escape(quote(key) if around == URL else key, more_escapes),
            "LastModified": "2026-11-23T06:36:09.000Z",
            "ETag": f"{quote_mark}{MD5}{quote_mark}",
            "Size": str(size),
            "StorageClass": "STANDARD",
        }
        # The class may be missing, but from the first entry nothing is learned that is not there.
        names = [name for name in order if name != "StorageClass" or size % 2 == 0]
        inner += f"<Contents>{space}"
        inner += "".join(f"<{name}>{values[name]}</{name}>{space}" for name in names)
        inner += f"</Contents>{space}"
    data = listing(around + inner)
    assert split_entries(data) is not None
    page = parse_listing(data)
    assert page.files == [info(key, size) for size, key in enumerate(keys)]
    assert parser_outcome(data) == page


@settings(deadline=None)  # machines may be busy
@given(
    st.sampled_from(list(ENTRIES.values())),
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 3),
            st.sampled_from([*"<>&;/\"' \r\x00]!?-xK1"]) | st.sampled_from(["<!--", "-->", "&#"]),
        ),
        max_size=3,
    ),
)
def test_the_quick_way_and_the_parser_agree_on_damaged_listings(
    form: str, damages: list[tuple[int, int, str]]
) -> None:
    data = listing("".join(entry(f"k{n}&amp;", form=form) for n in range(3)), more=URL)
    for position, length, inserted in damages:
        position %= len(data)
        data = data[:position] + inserted.encode() + data[position + length :]
    assert outcome(data) == parser_outcome(data)


# --- hostile documents --------------------------------------------------------------------

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
    assert time.process_time() - started < 2


def test_a_document_type_is_refused_before_anything_is_parsed() -> None:
    with (
        mock.patch("careflow_storage.s3.xml_reader.expat.ParserCreate") as create,
        pytest.raises(ServerResponseError, match="document type"),
    ):
        parse_listing(BILLION_LAUGHS)
    create.assert_not_called()


def test_an_oversized_document_is_refused_unread() -> None:
    with pytest.raises(ServerResponseError, match="larger"):
        parse_listing(listing(" " * xml.MAX_LISTING_BYTES))
    with pytest.raises(ServerResponseError, match="larger"):
        parse_delete_result(b" " * (xml.MAX_LISTING_BYTES + 1))
    assert parse_error(b"<Error><Code>x</Code></Error>" + b" " * xml.MAX_ERROR_BYTES) is None


def test_the_largest_listing_that_s3_can_send_is_read() -> None:
    key = "&quot;" * 1024
    data = listing("".join(entry(key) for _ in range(1000)))
    assert len(data) < xml.MAX_LISTING_BYTES
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
    assert time.process_time() - started < 1


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


# --- error documents ----------------------------------------------------------------------

# B2 indents its error documents.
ERROR = b"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Error>
    <Code>SlowDown</Code>
    <Message>no tomes available &amp; busy</Message>
    <RequestId>8a1f</RequestId>
    <Resource><Code>not this</Code></Resource>
</Error>
"""


def test_an_error_document_gives_its_code_and_message() -> None:
    assert parse_error(ERROR) == ErrorDocument(
        "SlowDown", "no tomes available & busy", "8a1f", None, None
    )


def test_an_error_document_may_lack_anything() -> None:
    nothing = ErrorDocument(None, None, None, None, None)
    assert parse_error(b"<Error/>") == nothing
    assert parse_error(b"<Error><Code> </Code><Message></Message></Error>") == nothing


def test_the_right_place_is_taken_from_an_error_about_a_wrong_one() -> None:
    document = parse_error(
        b"<Error><Code>PermanentRedirect</Code><Endpoint>s3.eu.example.com</Endpoint>"
        b"<Region>eu</Region></Error>"
    )
    assert document is not None
    assert (document.region, document.endpoint) == ("eu", "s3.eu.example.com")


@pytest.mark.parametrize("length", [0, 1, 60, len(ERROR) - 3])
def test_an_error_document_that_is_cut_off_is_none(length: int) -> None:
    assert parse_error(ERROR[:length]) is None


@pytest.mark.parametrize("parse", [parse_listing, parse_delete_result])
def test_an_error_document_in_a_successful_answer_is_the_error_it_tells(parse: Any) -> None:
    with pytest.raises(ServiceUnavailableError, match="no tomes") as caught:
        parse(ERROR)
    assert (caught.value.code, caught.value.request_id) == ("SlowDown", "8a1f")
    assert caught.value.retryable
    with pytest.raises(AccessDeniedError):
        parse(b"<Error><Code>AccessDenied</Code></Error>")


# --- deletions ----------------------------------------------------------------------------

DELETED = (
    f'{HEAD}<DeleteResult xmlns="{NAMESPACE}">'
    "<Deleted><Key>hidden</Key><DeleteMarker>true</DeleteMarker>"
    "<DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted>"
    "<Error><Key>locked &amp; kept</Key><VersionId>v9</VersionId><Code>AccessDenied</Code>"
    "<Message>no</Message></Error>"
    "<Deleted><Key>erased</Key><VersionId>v2</VersionId></Deleted>"
    "<Deleted><Key>plain</Key></Deleted>"
    "</DeleteResult>"
).encode()


def test_each_key_of_a_batch_deletion_gets_its_result() -> None:
    document = parse_delete_result(DELETED)
    assert document.deleted == [
        DeleteResult(key="hidden", deleted=True, version_id="m1", delete_marker=True),
        DeleteResult(key="erased", deleted=True, version_id="v2"),
        DeleteResult(key="plain", deleted=True),
    ]
    assert document.failed == [
        DeleteResult(
            key="locked & kept",
            deleted=False,
            version_id="v9",
            error_code="AccessDenied",
            error_message="no",
        )
    ]


def test_a_result_without_a_key_is_refused() -> None:
    with pytest.raises(ServerResponseError, match="no Key"):
        parse_delete_result(b"<DeleteResult><Deleted/></DeleteResult>")


xml_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda char: char >= " " or char in "\t\r\n"
    ),
    min_size=1,
)


@settings(deadline=None)  # machines may be busy
@given(st.lists(st.tuples(xml_text, st.none() | xml_text), min_size=1, max_size=5))
@example([("a\r\nb\rc\n]]>&<>\"'", "v&1")])
def test_a_deletion_request_says_exactly_what_to_delete(
    targets: list[tuple[str, str | None]],
) -> None:
    root = ElementTree.fromstring(build_delete_request(targets))  # noqa: S314 (our own)
    assert root.tag == f"{{{NAMESPACE}}}Delete"
    assert [
        (
            item.findtext(f"{{{NAMESPACE}}}Key"),
            item.findtext(f"{{{NAMESPACE}}}VersionId"),
        )
        for item in root
    ] == targets


@pytest.mark.parametrize("count", [0, 1001])
def test_a_deletion_request_of_none_or_too_many_is_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match=f"not {count}"):
        build_delete_request([("k", None)] * count)


@pytest.mark.parametrize("char", ["\0", "\x1f", "\ufffe", "\ud800"])
def test_a_key_that_xml_cannot_carry_is_refused_before_it_deletes_another(char: str) -> None:
    with pytest.raises(InvalidInputError, match="XML cannot carry"):
        build_delete_request([(f"a{char}", None)])
