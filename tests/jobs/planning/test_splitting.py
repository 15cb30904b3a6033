"""A range is split where keys are: no key lost, no part too small, few probes."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage.jobs._planning.spans import merge
from careflow_storage.jobs._planning.splitting import split_rest
from careflow_storage.jobs.models import KeyRange
from tests.jobs.planning.test_key_space import KEYS

SHORT = st.text("ab/-é", min_size=1, max_size=6)


class Listing:
    """Keys in order, and the probes for the last key of a page."""

    def __init__(self, keys: Iterable[str], page: int = 1) -> None:
        self.keys = sorted(set(keys))
        self.page = page
        self.probes: list[str | None] = []

    async def probe(self, after: str | None) -> str | None:
        self.probes.append(after)
        await asyncio.sleep(0)
        place = bisect_right(self.keys, after or "") + self.page - 1
        return self.keys[place] if place < len(self.keys) else None

    def within(self, part: KeyRange) -> list[str]:
        start = bisect_right(self.keys, part.after or "")
        end = len(self.keys) if part.until is None else bisect_right(self.keys, part.until)
        return self.keys[start:end]


@given(
    st.lists(KEYS | SHORT, max_size=60),
    SHORT | st.none(),
    SHORT | st.none(),
    st.integers(1, 20),
    st.integers(1, 5),
)
async def test_the_parts_cover_the_range_and_each_has_a_page_of_keys(
    keys: list[str], after: str | None, until: str | None, parts: int, page: int
) -> None:
    listing = Listing(keys, page)
    rest = KeyRange(after=after, until=until)
    found = await split_rest(rest, listing.probe, parts)

    assert 1 <= len(found) <= parts
    assert found[0].after == rest.after
    assert found[-1].until == rest.until
    for one, other in pairwise(found):
        assert one.until == other.after
    if len(found) > 1:
        assert merge(found) == [rest]
        assert all(len(listing.within(part)) >= page for part in found)


@given(st.sets(SHORT, min_size=2))
async def test_any_keys_can_be_split_to_the_last(keys: set[str]) -> None:
    listing = Listing(keys)
    found = await split_rest(KeyRange(), listing.probe, len(keys))
    assert [listing.within(part) for part in found] == [[key] for key in listing.keys]


DISTRIBUTIONS = {
    "flat": [f"{n:08d}.wav" for n in range(20_000)],
    "folders": [f"recordings/CA{n // 4:032x}/{1_700_000_000_000 + n}" for n in range(20_000)],
    "uuids": [f"recordings/{UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128)}"
              for n in range(20_000)],
    "placeholder": ["recordings/", *(f"recordings/{n:05d}" for n in range(2_000))],
    "unicode": [f"Gespräche/{chr(0x4E00 + n)}/📞{n}" for n in range(2_000)],
    "beyond the BMP": [f"{chr(0x10000 + 31 * n)}" for n in range(2_000)],
}  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
async def test_a_split_costs_few_probes(name: str) -> None:
    listing = Listing(DISTRIBUTIONS[name])
    found = await split_rest(KeyRange(), listing.probe, 16)
    assert len(found) == 16
    assert sum(len(listing.within(part)) for part in found) == len(listing.keys)
    assert len(listing.probes) <= 16 * 8
    assert max(len(listing.within(part)) for part in found) < len(listing.keys) / 2


async def test_the_parts_of_one_giant_folder_are_halved_where_the_keys_are() -> None:
    small = [f"recordings/CA{n}/a" for n in range(10)]
    giant = [f"recordings/CA5/{n:06d}" for n in range(10_000)]
    listing = Listing([*small, *giant])
    found = await split_rest(KeyRange(), listing.probe, 32)
    assert max(len(listing.within(part)) for part in found) < 5_000


async def test_a_range_without_keys_comes_back_whole() -> None:
    listing = Listing(["a", "z"])
    rest = KeyRange(after="b", until="c")
    assert await split_rest(rest, listing.probe, 8) == [rest]
    assert listing.probes == ["b"]


async def test_one_part_needs_no_probe() -> None:
    listing = Listing(["a", "b"])
    assert await split_rest(KeyRange(), listing.probe, 1) == [KeyRange()]
    assert not listing.probes


async def test_a_range_of_less_than_two_pages_stays_whole_for_three_probes() -> None:
    listing = Listing((f"{n:04d}" for n in range(150)), page=100)
    assert await split_rest(KeyRange(), listing.probe, 8) == [KeyRange()]
    assert len(listing.probes) <= 3


async def test_keys_that_vanish_between_probes_lose_no_other_key() -> None:
    listing = Listing(f"{n:04d}" for n in range(1000))

    async def probe(after: str | None) -> str | None:
        found = await listing.probe(after)
        if found is not None:
            listing.keys.remove(found)
        return found

    found = await split_rest(KeyRange(), probe, 30)
    assert merge(found) == [KeyRange()]
    assert sum(len(listing.within(part)) for part in found) == len(listing.keys)
