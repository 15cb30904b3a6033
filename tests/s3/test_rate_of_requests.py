"""What a storage with a `RateLimit` sends, and when the server asks it to slow down."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from careflow_storage import BackblazeStorage, RateLimit
from careflow_storage.errors import ServiceUnavailableError
from careflow_storage.settings import StorageSettings
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import NOTHING_HELD, PART, held, storage_behind

SMALL = b"a short recording"
LARGE = bytes(3 * PART)
NEVER = 1e-9
AT_ONCE = 1e9


class CountingRateLimit(RateLimit):
    """Counts the turns that are taken."""

    turns = 0

    async def acquire(self, *, first: bool = False) -> None:
        self.turns += 1
        await super().acquire(first=first)


@pytest.fixture
def limit() -> CountingRateLimit:
    return CountingRateLimit(AT_ONCE)


@pytest.fixture
async def storage(
    proxy: FaultProxy, settings: StorageSettings, limit: RateLimit
) -> AsyncIterator[BackblazeStorage]:
    async with storage_behind(proxy, settings, limit=limit) as opened:
        yield opened


def stop(limit: RateLimit) -> None:
    """Let no turn come until the rate changes."""
    limit.per_second = NEVER
    limit._bucket._tokens = 0.0


Call = Callable[[BackblazeStorage], Awaitable[object]]


async def lent_client(storage: BackblazeStorage) -> object:
    return await (await storage.client()).list_buckets()


async def chunks(storage: BackblazeStorage) -> object:
    return [chunk async for chunk in storage.stream_file("there")]


CALLS: dict[str, Call] = {
    "put": lambda storage: storage.upload_file("key", SMALL),
    "parts": lambda storage: storage.upload_file("large", LARGE),
    "get": lambda storage: storage.get_file("there"),
    "stream": chunks,
    "head": lambda storage: storage.get_file_metadata("there"),
    "delete": lambda storage: storage.delete_file("there"),
    "delete many": lambda storage: storage.delete_files(["there"]),
    "list": lambda storage: storage.list_files(),
    "copy, by aioboto3": lambda storage: storage.admin.copy_file("there", "copied"),
    "unfinished uploads, by aioboto3": lambda storage: storage.list_incomplete_uploads(),
    "the lent client": lent_client,
}


@pytest.mark.parametrize("call", CALLS)
async def test_every_request_takes_a_turn_and_retries_too(
    storage: BackblazeStorage, proxy: FaultProxy, limit: CountingRateLimit, call: str
) -> None:
    await storage.upload_file("there", SMALL)
    before, limit.turns = proxy.count(), 0
    if call != "the lent client":
        proxy.add(times=1, status=503, code="SlowDown")
    await CALLS[call](storage)

    assert limit.turns == proxy.count() - before > 0


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_is_sent_before_its_turn(
    storage: BackblazeStorage, proxy: FaultProxy, limit: CountingRateLimit, call: str
) -> None:
    await storage.upload_file("there", SMALL)
    await storage.client()
    before = proxy.count()
    stop(limit)
    running = asyncio.create_task(_await(CALLS[call](storage)))
    await _until(lambda: len(limit._waiting) == 1)

    # It waits without a slot, which other storages of the limit do not need.
    assert held(storage) == NOTHING_HELD | {"bytes": held(storage)["bytes"]}
    assert proxy.count() == before
    limit.per_second = AT_ONCE
    await running
    assert proxy.count() > before


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - states that set no event
        await asyncio.sleep(0.001)


SLOWER: list[tuple[int, str | None, bool]] = [
    (503, "SlowDown", True),
    (429, "TooManyRequests", True),
    (503, None, True),
    (503, "ServiceUnavailable", False),
    (500, "InternalError", False),
]


@pytest.mark.parametrize(("status", "code", "slower"), SLOWER)
@pytest.mark.parametrize("call", ["put", "head", "unfinished uploads, by aioboto3"])
async def test_the_rate_halves_when_requests_come_too_fast(
    storage: BackblazeStorage,
    proxy: FaultProxy,
    limit: CountingRateLimit,
    status: int,
    code: str | None,
    slower: bool,
    call: str,
) -> None:
    if call == "head" and code == "ServiceUnavailable":
        pytest.skip("A HEAD response cannot tell its code.")
    await storage.upload_file("there", SMALL)
    proxy.add(times=1, status=status, code=code)
    await CALLS[call](storage)

    assert (limit.current_per_second < limit.per_second) is slower


@pytest.mark.parametrize("call", ["put", "get", "unfinished uploads, by aioboto3"])
async def test_a_long_retry_after_pauses_all_requests(
    storage: BackblazeStorage, proxy: FaultProxy, limit: CountingRateLimit, call: str
) -> None:
    await storage.upload_file("there", SMALL)
    await storage.client()
    refusal = proxy.add(times=1, status=503, code="SlowDown", retry_after=120)
    refused = asyncio.create_task(_await(CALLS[call](storage)))
    await refusal.fired.wait()
    await _until(lambda: limit.is_paused)
    others = [asyncio.create_task(_await(CALLS[other](storage))) for other in ("list", "head")]
    await _until(lambda: len(limit._waiting) == 3)
    sent = proxy.count()

    limit._paused_until = -math.inf
    limit.per_second = AT_ONCE
    await asyncio.gather(refused, *others)
    assert proxy.count() >= sent + 3


async def test_a_pause_also_holds_requests_that_wait_for_a_slot(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    limit = CountingRateLimit(AT_ONCE)
    async with storage_behind(proxy, settings, max_connections=1, limit=limit) as storage:
        await storage.upload_file("there", LARGE[:PART])
        async with storage.stream_file("there"):
            waiting = asyncio.create_task(storage.get_file_metadata("there"))
            await _until(lambda: storage._runtime.context().session.limiter._others != deque())
            limit.pause(3600)
            sent = proxy.count()
        await _until(lambda: held(storage) == NOTHING_HELD)
        assert not waiting.done()
        assert proxy.count() == sent
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert held(storage) == NOTHING_HELD


@pytest.mark.parametrize("seconds", [3601, 86400])
async def test_a_server_that_asks_for_more_than_an_hour_is_an_error_at_once(
    storage: BackblazeStorage, proxy: FaultProxy, limit: CountingRateLimit, seconds: int
) -> None:
    proxy.add(times=1, status=503, code="SlowDown", retry_after=seconds)
    with pytest.raises(ServiceUnavailableError) as caught:
        await storage.list_files()
    assert caught.value.retry_after == seconds
    assert not limit.is_paused
    await storage.list_files()


async def test_the_last_refusal_is_raised_and_pauses_the_others(
    proxy: FaultProxy, settings: StorageSettings
) -> None:
    limit = CountingRateLimit(AT_ONCE)
    async with storage_behind(proxy, settings, retry_attempts=1, limit=limit) as storage:
        proxy.add(times=1, status=429, code="TooManyRequests", retry_after=60)
        with pytest.raises(ServiceUnavailableError):
            await storage.list_files()
        assert limit.is_paused


async def test_the_clean_up_of_a_cancelled_upload_goes_first(
    storage: BackblazeStorage, proxy: FaultProxy, limit: CountingRateLimit
) -> None:
    parts = proxy.add(path="partNumber=", cut="hang")
    upload = asyncio.create_task(storage.upload_file("key", LARGE))
    # No other part is sent while these hang, so what waits in the end is the abort.
    await _until(lambda: parts.hits == storage.settings.transfer_concurrency)
    stop(limit)
    queue = [asyncio.create_task(_await(storage.list_files())) for _ in range(50)]
    await _until(lambda: len(limit._waiting) >= 50)
    first = limit._waiting[0]
    upload.cancel()
    await _until(lambda: len(limit._waiting) >= 51)
    # What the server logs first depends on the connections, too.
    assert limit._waiting[0] is not first
    sent = len(proxy.log)
    limit.per_second = AT_ONCE
    with pytest.raises(asyncio.CancelledError):
        await upload
    await asyncio.gather(*queue)
    assert "AbortMultipartUpload" in {attempt.operation for attempt in proxy.log[sent:]}
    assert await storage.list_incomplete_uploads() == []


async def test_a_limit_that_storages_share_limits_them_together(
    server: B2Server, limit: CountingRateLimit
) -> None:
    settings = server.settings()
    async with (
        BackblazeStorage(settings, rate_limit=limit) as one,
        BackblazeStorage(settings, rate_limit=limit) as other,
    ):
        stop(limit)
        calls = [asyncio.create_task(_await(each.list_files())) for each in (one, other)]
        await _until(lambda: len(limit._waiting) == 2)
        limit.per_second = AT_ONCE
        await asyncio.gather(*calls)
    assert limit.turns == 2


async def test_the_setting_limits_a_storage(server: B2Server) -> None:
    settings = server.settings(rate_limit=100_000, retry_base_delay=0.0)
    server.faults.next("PutObject", status=503, code="SlowDown")
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("key", SMALL)
        rate = storage._runtime.context().session.rate
        assert rate is not None
        assert rate.per_second == 100_000 > rate.current_per_second


async def test_an_overloaded_server_gets_what_it_can_take(server: B2Server) -> None:
    """It refuses every third request: all are stored, and the rate ends below its limit."""
    settings = server.settings(retry_base_delay=0.001, retry_max_delay=0.01)
    limit = RateLimit(1e6)
    seen = 0

    def third(_: object) -> bool:
        nonlocal seen
        seen += 1
        return seen % 3 == 0

    server.faults.always(status=503, code="SlowDown", when=third)
    async with BackblazeStorage(settings, rate_limit=limit) as storage:
        await asyncio.gather(*(storage.upload_file(f"{n}", SMALL) for n in range(60)))
        server.faults.clear()
        assert len(await storage.list_files()) == 60
    assert limit.current_per_second < limit.per_second
