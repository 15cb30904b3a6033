"""Cancelled at any moment, a copy leaves nothing behind: no upload, task, slot or byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from careflow_storage.testing.proxy.rule import Attempt, Rule
from tests.support.behind_proxy import PART
from tests.support.bodies import noise
from tests.support.cancelled import cancelled_at_step
from tests.support.two_storages import Pair, pair, two_servers

__all__ = ["pair", "two_servers"]

BODIES = {"small": noise(1000), "streamed": noise(290_000), "large": noise(3 * PART + 7)}


async def cancelled_at_request(
    pair: Pair, copy: Coroutine[Any, Any, Any], number: int
) -> BaseException | None:
    """Cancel when the n-th request of both servers arrives; return what came out."""
    loop, left = asyncio.get_running_loop(), number

    def cancel(_attempt: Attempt) -> bool:
        nonlocal left
        left -= 1
        if left == 0:
            loop.call_soon_threadsafe(task.cancel)
        return False

    for server in (pair.source_server, pair.target_server):
        server.faults.always(when=cancel)
    task = asyncio.create_task(copy)
    try:
        await task
    except asyncio.CancelledError as error:
        return error
    finally:
        pair.source_server.faults.clear()
        pair.target_server.faults.clear()
    return None


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_cancelled_at_any_request_a_copy_leaves_nothing(
    pair: Pair, body: bytes, number: int
) -> None:
    await pair.store("key", body)
    copy = pair.target.copy_from(pair.source, "key")
    cancelled = await cancelled_at_request(pair, copy, number)
    pair.assert_nothing_left()
    # The cancellation may come after the object was stored.
    assert pair.copied("key") in (None, body)
    assert cancelled is not None or pair.copied("key") == body
    await pair.target.copy_from(pair.source, "key")
    assert pair.copied("key") == body


@pytest.mark.parametrize("number", range(1, 9))
async def test_cancelled_at_any_request_a_copy_that_resumes_keeps_its_parts(
    pair: Pair, number: int
) -> None:
    body = BODIES["large"]
    await pair.store("key", body)
    copy = pair.target.copy_from(pair.source, "key", resume=True)
    await cancelled_at_request(pair, copy, number)
    kept = pair.target_server.incomplete_uploads()
    assert len(kept) <= 1
    result = await pair.target.copy_from(pair.source, "key", resume=True)
    assert pair.copied("key") == body
    assert len(pair.target_server.versions("key")) == 1
    if kept:
        assert result.reused >= sum(kept[0].parts.values()) > 0
    pair.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_cancelled_whenever_it_waits_a_copy_leaves_nothing(pair: Pair, body: bytes) -> None:
    await pair.store("key", body)
    number = 1
    while await cancelled_at_step(pair.target.copy_from(pair.source, "key"), number):
        pair.assert_nothing_left()
        assert pair.copied("key") in (None, body)
        number += 1
        assert number < 500
    assert number > 2
    assert pair.copied("key") == body


def of_the_last(attempt: Attempt) -> bool:
    """Whether the request stores the object."""
    return attempt.operation in ("PutObject", "CompleteMultipartUpload")


Broken = Callable[[Pair], Rule]
BROKEN: dict[str, Broken] = {
    "a source that goes silent": lambda pair: pair.source_server.faults.always(
        "GetObject", cut="hang", at=("body", 500)
    ),
    "a target that goes silent": lambda pair: pair.target_server.faults.always(
        method="PUT", cut="hang", at=("req", 500)
    ),
    "a target that never confirms": lambda pair: pair.target_server.faults.always(
        when=of_the_last, cut="hang", at="resp"
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_copy_that_hangs_can_be_cancelled_and_leaves_nothing(
    pair: Pair, body: bytes, broken: Broken
) -> None:
    await pair.store("key", body)
    rule = broken(pair)
    copy = asyncio.create_task(pair.target.copy_from(pair.source, "key"))
    await rule.fired.wait()
    copy.cancel()
    await asyncio.wait({copy})
    assert copy.cancelled()
    for server in (pair.source_server, pair.target_server):
        server.faults.clear()
    pair.assert_nothing_left()
