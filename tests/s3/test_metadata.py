"""User metadata: what is refused, what travels, and that it always comes back."""

from __future__ import annotations

import re
from email.header import decode_header, make_header
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from careflow_storage._s3.headers.metadata import (
    MAX_NAME_BYTES,
    MAX_TOTAL_BYTES,
    PARTIAL_MARKER,
    UPLOAD_MARKER,
    decode_metadata,
    encode_metadata,
)
from careflow_storage.errors import InvalidInputError

NAME_CHARS = "ABCXYZabcxyz0189-_.~!#$%^&*'|+`"
names = st.text(NAME_CHARS, min_size=1, max_size=12).filter(
    lambda name: not name.lower().startswith("b2-")
)
values = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60),
    st.text("=?_ utf-8bqBQäöü🎙日", max_size=60),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)


def wire(value: str) -> str:
    return encode_metadata({"a": value})["x-amz-meta-a"]


def read(value: str) -> str:
    return decode_metadata({"x-amz-meta-a": value})["a"]


# --- what goes in comes out ---------------------------------------------------------------


@settings(deadline=None)  # machines may be busy
@given(st.dictionaries(names, values, max_size=4))
@example({"a": ""})
@example({"a": "=?utf-8?b?w6Q=?="})
@example({"a": "=?", "b": "?=", "c": "= ?"})
@example({"a": "_", "b": "ä_ _", "c": "=C3=A4"})
def test_metadata_comes_back_exactly_as_it_was_given(metadata: dict[str, str]) -> None:
    assume(len({name.lower() for name in metadata}) == len(metadata))
    headers = encode_metadata(metadata)
    expected = {name.lower(): value for name, value in metadata.items()}
    assert decode_metadata(headers) == expected
    assert decode_metadata({"etag": "x", **headers}) == expected


@settings(deadline=None)  # machines may be busy
@given(values)
@example("ä" * 500)
@example(" " * 200)
@example("🎙" * 100)
def test_what_is_sent_is_one_safe_line_of_ascii(value: str) -> None:
    sent = wire(value)
    assert sent.isascii()
    assert sent.isprintable()
    # Servers sign, and some store, a value with its white space collapsed.
    assert sent
    assert " ".join(sent.split()) == sent


@settings(deadline=None)  # machines may be busy
@given(values.filter(bool))
def test_encoded_words_obey_rfc_2047_and_others_read_them_too(value: str) -> None:
    sent = wire(value)
    if sent == value:
        return
    words = sent.split(" ")
    assert all(len(word) <= 75 for word in words)
    for word in words:
        assert re.fullmatch(r"=\?utf-8\?[bq]\?[!->@-~]+\?=", word)
        # Each word alone is whole characters.
        assert read(word)
        assert str(make_header(decode_header(word))) == read(word)
    assert "".join(read(word) for word in words) == value


@pytest.mark.parametrize(
    "value",
    ["anna", "50%25 + x", "2026-11-23T06:36:09Z", "a?b=c&d", '{"a": 1}', "~!@#$%^&*()", "=", "?="],
)
def test_plain_ascii_is_sent_as_it_is(value: str) -> None:
    assert wire(value) == value
    assert read(value) == value


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("Jörg called", "=?utf-8?q?J=C3=B6rg_called?="),
        ("Grüße", "=?utf-8?b?R3LDvMOfZQ==?="),  # whichever is shorter
        ("日本語", "=?utf-8?b?5pel5pys6Kqe?="),
        (" padded ", "=?utf-8?q?_padded_?="),
        ("two  spaces", "=?utf-8?q?two__spaces?="),
        ("", "=?utf-8?q??="),  # SeaweedFS drops empty headers
        ("=?utf-8?q?x?=", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?="),
    ],
)
def test_what_could_be_changed_on_its_way_is_encoded(value: str, sent: str) -> None:
    assert wire(value) == sent
    assert read(sent) == value


def test_long_text_becomes_several_words() -> None:
    sent = wire("日" * 100)
    assert len(sent.split(" ")) > 1
    assert read(sent) == "日" * 100


# --- what others wrote --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?iso-8859-1?Q?Gr=FC=DFe?=", "Grüße"),
        ("=?windows-1252?q?=80?=", "€"),
        ("=?utf-8*de?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("call by =?utf-8?q?J=C3=B6rg?= today", "call by Jörg today"),
        ("=?utf-8?b?w6Q=?=  =?iso-8859-1?q?=E4?=", "ää"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),  # cut between the bytes of a character
        ("Grüße", "Grüße"),  # bare UTF-8, as some servers send it
        ("Gr\udcfc\udcdfe", "Grüße"),  # bare Latin-1, as aiohttp shows it
    ],
)
def test_values_of_other_writers_are_decoded(sent: str, value: str) -> None:
    assert read(sent) == value


@pytest.mark.parametrize(
    "sent",
    [
        "=?utf-8?b?not base64?=",
        "=?utf-8?b?w6Q?=",
        "=?utf-8?b?wA==?=",
        "=?utf-8?q?=FF?=",
        "=?utf-7?q?+AGE-?=",
        "=?klingon?q?x?=",
        "=?utf-8?x?x?=",
        "=?utf-8?q?x",
        "=?",
        "=?????=",
    ],
)
def test_what_cannot_be_decoded_stays_as_it_is(sent: str) -> None:
    assert read(sent) == sent


@settings(deadline=None)  # machines may be busy
@given(st.text("=?utf-8bqBQ_ AZaz09+/=*\udcff", max_size=40))
def test_no_header_crashes_the_decoder(sent: str) -> None:
    read(sent).encode()


def test_only_user_metadata_is_taken_from_a_response_and_the_mark_is_left_to_the_caller() -> None:
    headers = {
        "Content-Type": "audio/webm",
        "x-amz-request-id": "1",
        "x-amz-meta-call-id": "CA1",
        f"x-amz-meta-{UPLOAD_MARKER}": "m",
    }
    assert decode_metadata(headers) == {"call-id": "CA1", UPLOAD_MARKER: "m"}


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a:b",
        "a/b",
        "a(b)",
        "a@b",
        "ä",
        "\u212a",
        "a\n",
        "a\r\nx: y",
        "\0",
        'a"b',
        "\ud800",
    ],
)
def test_a_name_with_other_characters_than_backblaze_allows_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="does not allow") as caught:
        encode_metadata({name: "x"})
    assert f"metadata[{name!r}]" in caught.value.message


@pytest.mark.parametrize(
    "name", ["b2-x", "B2-", "careflow-upload", "Careflow-Upload", "careflow-partial"]
)
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="reserve") as caught:
        encode_metadata({name: "x"})
    assert f"metadata[{name!r}]" in caught.value.message


def test_names_that_would_collide_are_refused_rather_than_one_lost() -> None:
    with pytest.raises(InvalidInputError, match=r"metadata\['CALL'\].*differs only in case"):
        encode_metadata({"call": "1", "CALL": "2"})


def test_a_name_may_have_fifty_bytes_and_not_one_more() -> None:
    longest = "n" * MAX_NAME_BYTES
    assert encode_metadata({longest: "x"}) == {f"x-amz-meta-{longest}": "x"}
    with pytest.raises(InvalidInputError, match="longer than 50 bytes"):
        encode_metadata({longest + "n": "x"})


@pytest.mark.parametrize("char", ["\0", "\t", "\r", "\n", "\x1f", "\x7f", "\x85", "\x9f"])
@pytest.mark.parametrize("form", ["{}", "a{}b", "ä{}"])
def test_a_value_with_a_control_character_is_refused(char: str, form: str) -> None:
    with pytest.raises(InvalidInputError, match=r"metadata\['a'\].*control character"):
        wire(form.format(char))


def test_a_value_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"metadata\['a'\].*surrogate"):
        wire("x\ud83c")


@pytest.mark.parametrize("value", [1, None, b"x", 1.5, ["x"]])
def test_a_value_that_is_no_text_is_refused_with_a_hint(value: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"metadata\['a'\].*must be str") as caught:
        encode_metadata({"a": value})
    assert caught.value.hint


@pytest.mark.parametrize("metadata", [[("a", "b")], "ab", 1])
def test_metadata_that_is_no_mapping_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be a mapping"):
        encode_metadata(metadata)


def test_a_name_that_is_no_text_is_refused() -> None:
    names: Any = {b"a": "x"}
    with pytest.raises(InvalidInputError, match="a name must be str, not bytes"):
        encode_metadata(names)


def test_the_total_is_counted_as_sent_and_refused_beyond_the_limit() -> None:
    fitting = {"ab": "x" * (MAX_TOTAL_BYTES - 2)}
    assert len(encode_metadata(fitting)) == 1
    with pytest.raises(InvalidInputError, match=r"1961 bytes as sent"):
        encode_metadata({"abc": fitting["ab"]})
    # 800 characters, but 800 * 3 bytes in base64.
    with pytest.raises(InvalidInputError, match="bytes as sent"):
        encode_metadata({"a": "ä" * 800})


def test_our_own_marks_still_fit_beside_the_largest_metadata() -> None:
    largest_mark = "0" * 32 + "-" + "9" * 10 + "+"
    ours = len(UPLOAD_MARKER) + len(largest_mark) + len(PARTIAL_MARKER) + len("true")
    assert MAX_TOTAL_BYTES + ours <= 2048


def test_no_error_repeats_a_value_since_it_may_be_about_a_patient() -> None:
    for value in ("secret\n", "secret\ud800", "secret" * 1000):
        with pytest.raises(InvalidInputError) as caught:
            wire(value)
        assert "secret" not in str(caught.value)
