"""Sets of key ranges: what is left of a whole, with open ends anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from careflow_storage.jobs._planning.spans import merge, unfinished
from careflow_storage.jobs.models import KeyRange

LETTERS = "abcdefgh"
ENDS = st.none() | st.sampled_from(LETTERS)
RANGES = st.builds(lambda after, until: KeyRange(after=after, until=until), ENDS, ENDS)


def keys_of(*ranges: KeyRange) -> set[str]:
    """Return the keys of some ranges. Between any two ends there is a key."""
    keys = [f"{letter}{end}" for letter in f"!{LETTERS}~" for end in ("", "+")]
    return {
        key
        for key in keys
        for one in ranges
        if (one.after is None or key > one.after) and (one.until is None or key <= one.until)
    }


def are_apart_and_in_order(ranges: list[KeyRange]) -> bool:
    return all(
        one.until is not None and other.after is not None and one.until <= other.after
        for one, other in pairwise(ranges)
    )


@given(RANGES, st.lists(RANGES))
def test_what_is_unfinished_is_the_whole_less_what_is_finished(
    whole: KeyRange, finished: list[KeyRange]
) -> None:
    left = unfinished(whole, finished)
    assert keys_of(*left) == keys_of(whole) - keys_of(*finished)
    assert are_apart_and_in_order(left)
    assert all(keys_of(one) for one in left)


@given(st.lists(RANGES))
def test_merged_ranges_hold_the_same_keys(ranges: list[KeyRange]) -> None:
    merged = merge(ranges)
    assert keys_of(*merged) == keys_of(*ranges)
    assert are_apart_and_in_order(merged)
    assert merge(merged) == merged


def test_adjacent_ranges_become_one() -> None:
    parts = [KeyRange(after="c"), KeyRange(until="b"), KeyRange(after="b", until="c")]
    assert merge(parts) == [KeyRange()]
    assert unfinished(KeyRange(), parts) == []


def test_open_ends_are_no_gaps() -> None:
    whole = KeyRange()
    assert unfinished(whole, []) == [whole]
    assert unfinished(whole, [KeyRange(until="m")]) == [KeyRange(after="m")]
    assert unfinished(whole, [KeyRange(after="m")]) == [KeyRange(until="m")]
    assert unfinished(whole, [KeyRange(after="", until="m")]) == [KeyRange(after="m")]
    assert unfinished(whole, [KeyRange(after="c", until="f")]) == [
        KeyRange(until="c"),
        KeyRange(after="f"),
    ]


def test_keys_beyond_ascii_are_in_the_order_of_their_utf_8_bytes() -> None:
    # UTF-16 would sort U+1F4DE before U+FF5E.
    whole = KeyRange(after="～", until="📞")
    assert unfinished(whole, [KeyRange(until="～"), KeyRange(after="📞")]) == [whole]
