"""`RateLimit`: turns, pauses and changes, without asserting on time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, RateLimit, StorageSettings
from careflow_storage.errors import InvalidInputError, StorageTimeoutError, WrongLoopError

NEVER = 1e-9
AT_ONCE = 1e9


def used_up(burst: int = 1) -> RateLimit:
    """Whose next turn does not come, until the rate changes."""
    limit = RateLimit(NEVER, burst=burst)
    for _ in range(burst):
        limit._bucket.take(0.0)
    return limit


async def all_wait(*tasks: asyncio.Task[Any]) -> None:
    """Let each task begin, and see that it waits."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@pytest.mark.parametrize(
    "wrong",
    [0, -1, 0.0, -0.5, math.nan, math.inf, -math.inf, True, "400", None, 10**400],
    ids=lambda wrong: f"{wrong!r:.20}",
)
def test_a_rate_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="per_second"):
        RateLimit(wrong)
    limit = RateLimit(5)
    with pytest.raises(InvalidInputError, match="per_second"):
        limit.per_second = wrong
    assert limit.per_second == 5.0


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "10"])
def test_a_burst_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="burst"):
        RateLimit(400, burst=wrong)


@pytest.mark.parametrize(("rate", "burst"), [(400, 40), (5, 1), (0.01, 1), (1e6, 100_000)])
def test_by_default_a_burst_is_a_tenth_of_a_second(rate: float, burst: int) -> None:
    limit = RateLimit(rate)
    assert limit.burst == burst
    assert repr(limit) == f"RateLimit(per_second={rate:g}, burst={burst})"
    limit.per_second = 20
    assert limit.burst == 2


@pytest.mark.parametrize("wrong", [400, 400.0, "400", RateLimit])
def test_a_storage_takes_only_a_rate_limit(settings: StorageSettings, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="rate_limit"):
        BackblazeStorage(settings, rate_limit=wrong)


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "inf", "fast"])
def test_the_variable_is_checked(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("BACKBLAZE_RATE_LIMIT", wrong)
    with pytest.raises(ValueError, match="BACKBLAZE_RATE_LIMIT"):
        StorageSettings()


async def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    limit, order = used_up(), list[int]()

    async def ask(number: int) -> None:
        await limit.acquire()
        order.append(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(50)]
    await all_wait(*tasks)
    limit.per_second = AT_ONCE
    await asyncio.gather(*tasks)

    assert order == list(range(50))


async def test_what_goes_first_passes_all_that_wait() -> None:
    limit, order = used_up(), list[str]()

    async def ask(name: str, *, first: bool = False) -> None:
        await limit.acquire(first=first)
        order.append(name)

    tasks = [asyncio.create_task(ask("one")), asyncio.create_task(ask("two"))]
    await all_wait(*tasks)
    tasks.append(asyncio.create_task(ask("clean-up", first=True)))
    await all_wait(*tasks)
    limit.per_second = AT_ONCE
    await asyncio.gather(*tasks)

    assert order == ["clean-up", "one", "two"]


@pytest.mark.parametrize("cancelled", [0, 1, 4])
async def test_a_cancelled_request_takes_no_turn(cancelled: int) -> None:
    limit = used_up()
    tasks = [asyncio.create_task(limit.acquire()) for _ in range(5)]
    await all_wait(*tasks)
    tasks[cancelled].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[cancelled]
    limit.per_second = AT_ONCE
    await asyncio.gather(*tasks[:cancelled], *tasks[cancelled + 1 :])


async def test_a_turn_that_comes_with_a_cancellation_goes_to_the_next() -> None:
    limit = used_up()
    loser, winner = (asyncio.create_task(limit.acquire()) for _ in range(2))
    await all_wait(loser, winner)
    # One token for one turn.
    limit._bucket.give_back()
    limit._reschedule()
    loser.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loser
    await winner


async def test_nothing_begins_during_a_pause() -> None:
    limit = RateLimit(AT_ONCE)
    assert not limit.is_paused
    limit.pause(3600)
    limit.pause(1)
    waiting = asyncio.create_task(limit.acquire())
    resuming = asyncio.create_task(limit.resume())
    await all_wait(waiting, resuming)
    assert limit.is_paused
    # A shorter pause has not ended the longer one.
    assert limit._paused_until - time.monotonic() > 3000
    limit._paused_until = -math.inf
    limit.per_second = AT_ONCE
    await waiting
    resuming.cancel()


async def test_after_a_pause_all_go_on() -> None:
    limit = RateLimit(AT_ONCE)
    limit.pause(0.05)
    await asyncio.gather(*(limit.acquire() for _ in range(20)), limit.resume())
    assert not limit.is_paused


async def test_the_rate_in_force_is_shown() -> None:
    limit = RateLimit(400)
    assert limit.current_per_second == 400.0
    limit.slow_down()
    assert 200.0 <= limit.current_per_second < 400.0
    assert limit.per_second == 400.0


def test_a_limit_serves_one_event_loop_after_another() -> None:
    limit = used_up()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limit.acquire(), 0.01)

    asyncio.run(give_up())
    limit.per_second = AT_ONCE
    asyncio.run(limit.acquire())


def test_a_limit_does_not_serve_two_event_loops_at_once() -> None:
    limit = used_up()

    async def ask() -> None:
        with pytest.raises(WrongLoopError):
            await limit.acquire()

    async def wait_and_ask_elsewhere() -> None:
        waiting = asyncio.create_task(limit.acquire())
        await all_wait(waiting)
        await asyncio.to_thread(asyncio.run, ask())
        limit.per_second = AT_ONCE
        await waiting

    asyncio.run(wait_and_ask_elsewhere())


async def test_a_deadline_ends_the_wait(settings: StorageSettings) -> None:
    limit = used_up()
    async with BackblazeStorage(settings, rate_limit=limit) as storage:
        with pytest.raises(StorageTimeoutError):
            await storage.list_files(timeout=0.01)
        assert storage.request_counts() == {}
