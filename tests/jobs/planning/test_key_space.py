"""Keys between keys: in order, valid, and about in the middle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from careflow_storage.jobs._planning.key_space import after_prefix, midpoint
from careflow_storage.recordings import validate_key

# Characters at both ends of each length in UTF-8, and where UTF-16 sorts otherwise.
EDGES = "\x00\x1f !./0A~\x7f\x80\x9f\xa0\xa1\u07ff\u0800\ud7ff\ue000\ufffd\U00010000\U0010ffff"
KEYS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(EDGES), min_size=1)


def has_no_control_characters(key: str) -> bool:
    return all(ord(one) >= 0x20 and not 0x7F <= ord(one) < 0xA0 for one in key)


@given(KEYS, KEYS | st.none(), KEYS | st.just(""))
def test_a_midpoint_is_a_valid_key_between_its_bounds(
    one: str, other: str | None, prefix: str
) -> None:
    low, end = prefix + one, None if other is None else prefix + other
    found = midpoint(low, end)
    if found is not None:
        validate_key(found)
        assert low.encode() <= found.encode()
        assert end is None or found.encode() < end.encode()
        made = found.removeprefix(prefix) if has_no_control_characters(prefix) else ""
        assert has_no_control_characters(made) or not has_no_control_characters(low)


def test_a_midpoint_is_short_and_in_the_middle() -> None:
    assert midpoint("recordings/CA100/a", "recordings/CA900/b") == "recordings/CA5"
    assert midpoint("a0", "a2") == "a1"
    assert midpoint("a1999", "a2500") == "a2"
    assert midpoint("x", "x") is None
    assert midpoint("y", "x") is None


def test_characters_of_one_kind_are_expected_where_the_first_is_of_that_kind() -> None:
    assert midpoint("0bc", None) == "5"
    assert midpoint("7bc", "日本") == "8"
    assert midpoint("9bc", "日本") == ":"
    assert midpoint("Abc", None) == "N"
    assert midpoint("ä", None) == "Ѳ"


def test_a_long_key_gets_no_midpoint_that_is_too_long() -> None:
    low = "a" * 1024
    assert midpoint(low, low + "b") is None
    assert midpoint("a" * 1023 + "~", "a" * 1023 + "日") is None, "2 bytes do not fit"


@given(KEYS)
def test_what_follows_a_prefix_follows_all_its_keys(prefix: str) -> None:
    found = after_prefix(prefix)
    if found is not None:
        validate_key(found)
        assert (prefix + "\U0010ffff" * 3).encode() < found.encode()


def test_no_control_character_is_made() -> None:
    assert after_prefix("calls~") == "calls\xa1"
    assert after_prefix("\ud7ff") == "\ue000"
    assert after_prefix("a\U0010fffd") == "b"
    assert after_prefix("\U0010fffd") is None
    assert after_prefix("a-") == "a.0", "no segment that ends with a dot"
