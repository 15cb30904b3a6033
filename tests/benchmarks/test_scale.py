"""The simulation of jobs: its keys are in order, its time is virtual, its planner the real one."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from benchmarks.key_distributions import DISTRIBUTIONS, Keys
from benchmarks.scale import Limits, simulate
from benchmarks.virtual_time import run_in_virtual_time
from careflow_storage.recordings import validate_key

LIMITS = Limits(ways=10, rate=500, latency=0.1, shard_keys=1000)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_keys_of_a_distribution_are_valid_and_in_order(name: str) -> None:
    keys = Keys(DISTRIBUTIONS[name], 3_000)
    for one, other in pairwise(keys):
        assert one.encode() < validate_key(other).encode()
    assert keys.up_to(None) == 0
    assert keys.up_to(keys[17]) == 18
    assert keys.up_to(keys[17] + "\x00") == 18

    many = Keys(DISTRIBUTIONS[name], 10**9)
    places = [*range(1000), *range(10**9 // 3, 10**9 // 3 + 1000), *range(10**9 - 1000, 10**9)]
    found = [many[place] for place in places]
    assert found == sorted(set(found))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_key_is_visited_once_without_many_small_shards(name: str) -> None:
    outcome = simulate(name, 100_000, LIMITS)
    assert outcome.empty == 0
    assert 100 <= outcome.shards < 150
    assert outcome.probes < 3 * outcome.shards


def test_the_time_is_at_least_what_the_limits_allow() -> None:
    one_way = simulate("flat", 20_000, Limits(ways=1, rate=500, latency=0.1, shard_keys=1000))
    assert one_way.seconds == pytest.approx(20 * 2 * (0.1 + 1 / 500))
    assert one_way.idle == pytest.approx(0)
    many_ways = simulate("flat", 100_000, Limits(ways=100, rate=50, latency=0.1, shard_keys=1000))
    assert many_ways.seconds >= many_ways.requests / 50


def test_virtual_time_passes_only_where_all_sleep() -> None:
    async def sleep() -> int:
        await asyncio.gather(*(asyncio.sleep(hours * 3600) for hours in range(1000)))
        return 7

    result, seconds = run_in_virtual_time(sleep())
    assert result == 7
    assert seconds == pytest.approx(999 * 3600)


def test_virtual_time_refuses_to_wait_for_what_never_happens() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="never happens"):
        run_in_virtual_time(wait())
