"""The quick way through a listing says what the parser says, whatever the document."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from careflow_storage._s3.xml import fast_path
from careflow_storage._s3.xml.documents import (
    parse_listing,
)
from careflow_storage._s3.xml.fast_path import split_entries
from careflow_storage._s3.xml.reader import MAX_RECORDS
from tests.support.listings import (
    ENTRIES,
    HEAD,
    MD5,
    RCLONE_ENTRY,
    SEAWEEDFS_ENTRY,
    URL,
    entry,
    info,
    listing,
    outcome,
    parser_outcome,
)

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
        "ChecksumType": st.sampled_from(["FULL_OBJECT", "<x/>"]),
        "Owner": st.sampled_from(
            ["<ID>x</ID><DisplayName>y</DisplayName>", "<ID>x", "<Key>a</Key>"]
        ),
        "RestoreStatus": st.just("<IsRestoreInProgress>false</IsRestoreInProgress>"),
        "VersionId": written_text,
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
@example(listing(entry() + entry(form=RCLONE_ENTRY)))
@example(listing(entry(form=RCLONE_ENTRY) + entry()))
@example(listing(entry(form=RCLONE_ENTRY, etag='"a"') + entry(form=RCLONE_ENTRY, etag='"a')))
@example(listing(entry(form=RCLONE_ENTRY, etag="W/a")))
@example(listing(entry().replace("<Size>", "<BareETag>b</BareETag><Size>")))
@example(listing(entry().replace("<Size>", "<ID>b</ID><Size>")))
@example(listing(entry().replace("<Size>", "<Contents>b</Contents><Size>")))
@example(listing(entry() + entry().replace("<Size>", "<Key>b</Key><Size>")))
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


@pytest.mark.parametrize(
    ("changes", "quick"),
    [
        ({"etag": "a" * 1024}, True),
        ({"etag": "a-" * 512}, True),
        ({"etag": ""}, True),
        ({"etag": "a" * 1025}, False),  # the parser takes it
        ({"etag": "a-" * 513}, False),  # the parser refuses it
        ({"size": "9" * 19}, True),
        ({"size": "0" * 19}, True),
        ({"size": "0" * 20}, False),
        ({"size": ""}, False),
        ({"key": ""}, True),
        ({"key": "%"}, True),
        ({"key": "+%2B%20"}, True),
        ({"key": "%FF"}, True),  # refused when it is decoded
        ({"key": "a&b"}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("more", ["", URL], ids=["plain", "url"])
@pytest.mark.parametrize("place", range(3))
def test_at_the_bounds_of_what_a_value_may_be_both_ways_agree(
    changes: dict[str, str], quick: bool, more: str, place: int
) -> None:
    entries = [entry("a"), entry("b"), entry("c")]
    entries[place] = entry(**changes)
    data = listing("".join(entries), more=more)
    assert (split_entries(data) is not None) is quick
    assert outcome(data) == parser_outcome(data)


@pytest.mark.parametrize(
    "moment",
    [
        *("2026-11-23T06:36:09.123456789Z", "2026-11-23T06:36:09+00:00", "20261123T063609Z"),
        *("2026-11-23T23:36:09-05:30", "2026-11-23", "2026-W47-1", "2026-11-23T24:00:00Z", ""),
        *("2026-11-23T06:36:09", "2026-11-23T06", "0001-01-01T00:00:00+01:00", "1", "Z", "-"),
        *("9999-12-31T23:59:59-01:00", "2026-11-23T06:36:60Z", "2026-02-29T00:00:00Z"),
    ],
)
def test_a_time_of_any_form_is_the_same_on_both_ways(moment: str) -> None:
    odd = entry("b").replace("2026-11-23T06:36:09.000Z", moment)
    for inner in (odd, entry("a") + odd, odd + entry("c")):
        assert outcome(listing(inner)) == parser_outcome(listing(inner))


@pytest.mark.parametrize("between", ["x", "<x/>", "&amp;", "\xa0", "<Contents>", "</Contents>"])
@pytest.mark.parametrize("place", range(4))
def test_nothing_between_entries_is_overlooked(between: str, place: int) -> None:
    parts = [entry("a"), entry("b"), entry("c")]
    parts.insert(place, between)
    data = listing("<Name/>" + "".join(parts) + "<Name/>")
    inside = 0 < place < 3
    assert split_entries(data) is None or not inside
    assert outcome(data) == parser_outcome(data)


def test_more_entries_than_any_page_has_are_refused_on_both_ways() -> None:
    for form in ENTRIES.values():
        smallest = form.format(key="", etag="", size="1").replace("06:36:09.000Z", "06")
        assert len(smallest) > fast_path._MIN_ENTRY
        for count, is_read in {MAX_RECORDS: True, MAX_RECORDS + 1: False}.items():
            data = listing(smallest * count)
            assert (split_entries(data) is not None) is is_read
            assert (outcome(data) is not None) is is_read
    data = listing(entry() * (MAX_RECORDS + 1))
    assert outcome(data) is parser_outcome(data) is None


# What servers say beside what is asked: flat or not, known or not.
EXTRAS = [
    ("ChecksumAlgorithm", "CRC64NVME"),
    ("ChecksumType", "FULL_OBJECT"),
    ("Owner", "<ID>i</ID><DisplayName>&amp;</DisplayName>"),
    ("Owner", ""),
    ("RestoreStatus", "<IsRestoreInProgress>false</IsRestoreInProgress>"),
    (
        "RestoreStatus",
        "<IsRestoreInProgress>true</IsRestoreInProgress>\n"
        "<RestoreExpiryDate>2026-11-23T06:36:09Z</RestoreExpiryDate>",
    ),
    ("UserTags", ""),
    ("Type", "Normal"),
    ("Generation", "1760000000000000"),
    ("Future", "&lt;what&gt; comes"),
]
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
    quote_mark=st.sampled_from(['"', "&quot;", "&#34;", ""]),
    extras=st.lists(st.sampled_from(EXTRAS), max_size=3, unique_by=lambda extra: extra[0]),
    has=st.lists(st.booleans(), min_size=20, max_size=20),
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
    extras: list[tuple[str, str]],
    has: list[bool],
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
            **dict(extras),
        }
        # What is not wanted may be missing from any entry, the first one as well.
        wanted = [name for name in order if name != "StorageClass" or has[size]]
        names = wanted + [name for at, (name, _) in enumerate(extras) if has[5 + size * 3 + at % 3]]
        inner += f"<Contents>{space}"
        inner += "".join(f"<{name}>{values[name]}</{name}>{space}" for name in names)
        inner += f"</Contents>{space}"
    data = listing(around + inner)
    # With many that come and go in turn it gives up.
    assert split_entries(data) is not None or len(extras) > 1
    page = parse_listing(data)
    assert page.files == [info(key, size) for size, key in enumerate(keys)]
    assert parser_outcome(data) == page


@pytest.mark.parametrize(
    ("form", "extra"),
    [
        pytest.param(form, extra, id=f"{server}-{extra[0]}-{len(extra[1])}")
        for server, form in ENTRIES.items()
        for extra in EXTRAS
        if f"<{extra[0]}>" not in form  # given twice, it is left to the parser
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_what_servers_add_to_some_entries_keeps_the_quick_way(
    form: str, extra: tuple[str, str], place: int
) -> None:
    name, inner = extra
    odd = entry("odd&amp;", form=form).replace("<Size>", f"<{name}>{inner}</{name}><Size>")
    entries = [entry("a", form=form), entry("b", form=form), entry("c", form=form)]
    entries.insert(place, odd)
    data = listing("".join(entries))
    assert split_entries(data) is not None
    assert outcome(data) == parser_outcome(data)
    assert {file.key for file in parse_listing(data).files} == {"a", "b", "c", "odd&"}


def test_ten_kinds_of_entries_on_one_page_are_read_by_the_parser() -> None:
    entries = [
        entry(f"k{number}").replace(
            "<Size>", f"<Future{'x' * number}>a</Future{'x' * number}><Size>"
        )
        for number in range(10)
    ]
    data = listing("".join(entries))
    assert outcome(data) == parser_outcome(data)
    assert len(parse_listing(data).files) == 10


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
