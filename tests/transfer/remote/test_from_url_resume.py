"""A source that breaks, stalls, is busy or changes: stored whole, or not at all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web

from careflow_storage import BackblazeStorage, SourceError, StorageSettings, StorageTimeoutError
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.behind_proxy import PART, storage_behind
from tests.support.bodies import MIB, noise
from tests.support.url_source import Source, assert_nothing_stored, redirect, store

pytestmark = pytest.mark.slow

LARGE = noise(3 * PART + 1)
CUT = ("body", 2 * PART)
LAST_MODIFIED = {
    "ETag": None,
    "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT",
    "Date": "Mon, 23 Nov 2026 12:00:09 GMT",
}


class Scene:
    """A source behind a fault proxy."""

    def __init__(self, **fields: Any) -> None:
        self.source = Source(**{"body": LARGE, **fields})

    async def __aenter__(self) -> Scene:
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self.source)
        self.proxy = await self._stack.enter_async_context(FaultProxy(self.source.origin))
        self.url = f"{self.proxy.url}/call"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def assert_stored(self, storage: BackblazeStorage, **fields: Any) -> None:
        result = await store(storage, self.url, **fields)
        assert await storage.get_file(result.key) == LARGE

    async def refused(self, storage: BackblazeStorage, **fields: Any) -> SourceError:
        with pytest.raises(SourceError) as caught:
            await store(storage, self.url, **fields)
        await assert_nothing_stored(storage)
        return caught.value


@pytest.mark.parametrize("cut", ["rst", "fin"])
@pytest.mark.parametrize("headers", [{}, LAST_MODIFIED], ids=["etag", "last-modified"])
async def test_given_a_broken_connection_then_only_the_rest_is_requested(
    storage: BackblazeStorage, cut: str, headers: dict[str, str | None]
) -> None:
    async with Scene(headers=headers) as scene:
        if headers:
            # The value that If-Range is compared with.
            scene.source.validator = str(headers["Last-Modified"])
        scene.proxy.add(method="GET", cut=cut, at=CUT, times=1)
        await scene.assert_stored(storage)
        first, second = scene.source.asked
        assert "Range" not in first.headers
        start = int(second.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        assert 0 < start <= 2 * PART
        assert second.headers["If-Range"] == (headers.get("Last-Modified") or '"v1"')


async def test_given_a_broken_connection_after_every_piece_then_it_still_succeeds(
    small_parts: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", cut="fin", at=("body", 40_000), times=20)
        await scene.assert_stored(small_parts)
        assert len(scene.source.asked) > small_parts.settings.retry_attempts


@pytest.mark.parametrize("place", ["head", "resp", CUT], ids=["head", "response", "body"])
async def test_given_a_stall_then_it_resumes_after_the_idle_timeout(
    settings: StorageSettings, place: Any
) -> None:
    impatient = settings.model_copy(update={"idle_timeout": 0.3})
    async with Scene() as scene, BackblazeStorage(impatient) as storage:
        scene.proxy.add(method="GET", cut="hang", at=place, times=1)
        await scene.assert_stored(storage)
        assert scene.proxy.count() == 2


async def test_given_a_stall_then_the_deadline_of_the_call_holds(
    small_parts: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", cut="hang", at=CUT)
        with pytest.raises(StorageTimeoutError):
            await store(small_parts, scene.url, timeout=0.3)
        await assert_nothing_stored(small_parts)


async def test_given_a_source_of_unknown_size_then_the_range_response_has_its_size(
    storage: BackblazeStorage,
) -> None:
    async with Scene(chunked=True) as scene:
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        await scene.assert_stored(storage)
        assert len(scene.source.asked) == 2


async def test_given_no_ranges_but_the_same_etag_then_the_known_bytes_are_skipped(
    storage: BackblazeStorage,
) -> None:
    for chunked in (False, True):
        async with Scene(ranges=False, chunked=chunked) as scene:
            scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
            await scene.assert_stored(storage)
            assert len(scene.source.asked) == 2


async def test_given_no_ranges_and_a_shorter_body_with_the_same_etag_then_nothing_is_stored(
    storage: BackblazeStorage,
) -> None:
    async with Scene(ranges=False, chunked=True) as scene:

        async def shorter(request: web.Request) -> web.StreamResponse:
            if len(scene.source.asked) > 1:
                scene.source.body = LARGE[:PART]
            return await scene.source.give(request)

        scene.source.routes["/call"] = shorter
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        assert "changed" in str(await scene.refused(storage))


async def test_given_no_ranges_and_a_break_at_the_same_place_always_then_it_ends(
    small_parts: BackblazeStorage,
) -> None:
    async with Scene(ranges=False) as scene:
        scene.proxy.add(method="GET", cut="fin", at=CUT)
        assert (await scene.refused(small_parts)).retryable
        assert len(scene.source.asked) <= small_parts.settings.retry_attempts + 1


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": None},
        {"ETag": 'W/"v1"'},
        {**LAST_MODIFIED, "Date": LAST_MODIFIED["Last-Modified"]},
        {**LAST_MODIFIED, "Last-Modified": "yesterday"},
        {**LAST_MODIFIED, "Date": f"Mon, 23 Nov {'9' * 20} 12:00:09 GMT"},
    ],
)
async def test_given_nothing_that_pins_the_content_then_a_break_fails_and_may_be_tried_again(
    storage: BackblazeStorage, headers: dict[str, str | None]
) -> None:
    async with Scene(headers=headers) as scene:
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        error = await scene.refused(storage)
        assert error.retryable
        assert len(scene.source.asked) == 1
        assert "ETag" in str(error)
        await scene.assert_stored(storage)


@pytest.mark.parametrize("ranges", [True, False])
async def test_given_another_content_after_the_break_then_nothing_is_stored(
    small_parts: BackblazeStorage, ranges: bool
) -> None:
    async with Scene(ranges=ranges) as scene:

        async def replaced(request: web.Request) -> web.StreamResponse:
            if len(scene.source.asked) > 1:
                scene.source.body = LARGE[::-1]
                scene.source.headers["ETag"] = '"v2"'
            return await scene.source.give(request)

        scene.source.routes["/call"] = replaced
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        error = await scene.refused(small_parts)
        assert "changed" in str(error)
        assert error.retryable


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": f"bytes 0-{len(LARGE) - 1}/{len(LARGE)}"},
        {"Content-Range": f"bytes 614401-{len(LARGE) - 1}/{len(LARGE)}"},
        {"Content-Range": f"bytes 614400-{len(LARGE)}/{len(LARGE) + 1}"},
        {"Content-Range": "bytes 614400-*/*"},
        {"Content-Range": None},
        {"ETag": '"v2"'},
        {"ETag": None},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_given_a_range_that_was_not_asked_for_then_nothing_is_stored(
    storage: BackblazeStorage, headers: dict[str, str | None]
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        scene.proxy.add(method="GET", headers=headers)
        await scene.refused(storage)
        assert len(scene.source.asked) == 2


async def test_given_a_body_longer_than_its_range_says_then_nothing_is_stored(
    small_parts: BackblazeStorage,
) -> None:
    async with Scene() as scene:

        async def too_long(request: web.Request) -> web.StreamResponse:
            if "Range" not in request.headers:
                return await scene.source.give(request)
            start = int(request.headers["Range"][6:-1])
            total = len(LARGE)
            content_range = f"bytes {start}-{total - 1}/{total}"
            return web.Response(
                status=206,
                body=LARGE[start:] + b"more",
                headers={"ETag": '"v1"', "Content-Range": content_range},
            )

        scene.source.routes["/call"] = too_long
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        assert "it sends more than its" in str(await scene.refused(small_parts))


async def test_given_a_source_that_is_gone_after_the_break_then_the_error_has_its_status(
    small_parts: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        scene.proxy.add(method="GET", status=403)
        assert (await scene.refused(small_parts)).status == 403


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_given_a_busy_source_then_the_request_is_retried(
    storage: BackblazeStorage, status: int
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", status=status, times=3)
        await scene.assert_stored(storage)
        scene.proxy.clear()
        scene.proxy.add(method="GET", status=status)
        with pytest.raises(SourceError) as caught:
            await store(storage, scene.url)
        assert (caught.value.status, caught.value.retryable) == (status, True)
        assert scene.proxy.count() == storage.settings.retry_attempts


async def test_given_a_source_that_demands_a_long_wait_then_the_error_says_so(
    storage: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", status=429, headers={"Retry-After": "120"})
        error = await scene.refused(storage)
        assert (error.retry_after, error.retryable) == (120.0, True)
        assert scene.proxy.count() == 1


async def test_given_a_connection_lost_before_the_response_then_the_request_is_retried(
    storage: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        scene.proxy.add(method="GET", cut="rst", at="head", times=2)
        await scene.assert_stored(storage)
        assert scene.proxy.count() == 3


async def test_given_a_break_after_a_redirect_then_the_first_url_is_requested_again(
    storage: BackblazeStorage,
) -> None:
    async with Scene() as scene:
        number = 0

        async def sign(_: web.Request) -> web.Response:
            nonlocal number
            number += 1
            location = f"{scene.url}?signature={number}"
            return web.Response(status=302, headers={"Location": location})

        scene.source.routes["/recording"] = sign
        scene.proxy.add(method="GET", cut="fin", at=CUT, times=1)
        result = await store(storage, f"{scene.source.origin}/recording", auth=("AC1", "token"))
        assert await storage.get_file(result.key) == LARGE
        assert [request.path_qs for request in scene.source.asked] == [
            *("/recording", "/call?signature=1", "/recording", "/call?signature=2")
        ]


# --- memory -----------------------------------------------------------------------------


class Generator:
    """A generated recording of 64 MiB; measures how far it is ahead of the bucket."""

    size = 64 * MIB

    def __init__(self, bucket: FaultProxy) -> None:
        self._bucket = bucket
        self.most_ahead = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        piece = bytes(256 * 1024)
        response = web.StreamResponse(headers={"Content-Type": "audio/x-wav"})
        response.content_length = self.size
        await response.prepare(request)
        for sent in range(0, self.size, len(piece)):
            arrived = sum(attempt.body_bytes for attempt in self._bucket.log)
            self.most_ahead = max(self.most_ahead, sent - arrived)
            await response.write(piece)
        return response


async def test_given_a_fast_source_and_a_slow_bucket_then_the_source_waits(
    settings: StorageSettings,
) -> None:
    tight = settings.model_copy(
        update={
            "part_size": 5 * MIB,
            "multipart_threshold": 5 * MIB,
            "memory_budget": 10 * MIB,
            "transfer_concurrency": 1,
        }
    )
    async with FaultProxy(settings.endpoint or "") as bucket, Source() as source:
        generator = source.routes["/call"] = Generator(bucket)
        bucket.add(method="PUT", upload_rate=16 * MIB)
        behind = tight.model_copy(update={"endpoint": bucket.url})
        async with BackblazeStorage(behind) as storage:
            result = await store(storage, source.url)
        assert result.size == Generator.size
        # The budget, one part in the spool, and the buffers of the kernel.
        assert generator.most_ahead < 32 * MIB


async def test_given_all_request_slots_taken_by_uploads_then_their_sources_still_flow(
    settings: StorageSettings,
) -> None:
    async with Source(LARGE) as source, FaultProxy(settings.endpoint or "") as proxy:
        source.routes["/old"] = redirect("/call")
        async with storage_behind(proxy, settings, max_connections=1) as storage:
            results = await asyncio.gather(
                *(store(storage, f"{source.origin}/old", f"call{n}") for n in range(8))
            )
            assert {result.size for result in results} == {len(LARGE)}
        await source.until_left()
