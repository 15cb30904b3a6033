"""The broker with a real HTTP client in the browser's place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from careflow_storage import BackblazeStorage, NoSuchUploadError, SignedRequest
from careflow_storage.browser import (
    BrowserUpload,
    BrowserUploads,
    ExpiredTicketError,
    FileTooLargeError,
    FileTypeError,
    InvalidTicketError,
    UploadedPart,
    UploadIncompleteError,
    UploadMismatchError,
    UploadPolicy,
)
from careflow_storage.browser.tickets import LEEWAY
from careflow_storage.errors import InvalidInputError
from careflow_storage.testing import B2Server
from tests.support.bodies import noise
from tests.support.cancelled import cancelled_at_step

pytest_plugins = ["careflow_storage.testing.plugin"]

MIB = 1024 * 1024
SECRET = "a secret of sixteen bytes or more"
POLICY = UploadPolicy(part_size=5 * MIB, multipart_threshold=6 * MIB)
SMALL = noise(10_000)
LARGE = noise(11 * MIB)


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def emulated(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


@pytest.fixture(params=["emulator", pytest.param("seaweed", marks=pytest.mark.integration)])
def storage(request: pytest.FixtureRequest) -> BackblazeStorage:
    name = "emulated" if request.param == "emulator" else "seaweed_storage"
    found: BackblazeStorage = request.getfixturevalue(name)
    return found


@pytest.fixture
def broker(storage: BackblazeStorage) -> BrowserUploads:
    return BrowserUploads(storage, secret=SECRET, policy=POLICY)


async def create(broker: BrowserUploads, data: bytes, **options: Any) -> BrowserUpload:
    return await broker.create(
        "CA1", "größe 1.webm", content_type="audio/webm", size=len(data), **options
    )


async def send(
    browser: httpx.AsyncClient, signed: SignedRequest, data: bytes = b""
) -> httpx.Response:
    return await browser.request(signed.method, signed.url, headers=signed.headers, content=data)


async def send_parts(
    browser: httpx.AsyncClient, broker: BrowserUploads, upload: BrowserUpload, data: bytes
) -> list[UploadedPart]:
    sent = []
    for number in range(upload.part_count, 0, -1):
        part = data[(number - 1) * upload.part_size : number * upload.part_size]
        response = await send(browser, await broker.sign(upload.ticket, part=number), part)
        assert response.status_code == 200, response.text
        sent.append(UploadedPart(number=number, etag=response.headers["etag"]))
    return sent


async def test_one_put_is_stored_and_completed_twice_alike(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, SMALL, metadata={"call": "größe"})
    assert (upload.multipart, upload.part_size, upload.part_count) == (False, len(SMALL), 1)
    with pytest.raises(UploadIncompleteError):
        await broker.complete(upload.ticket)
    assert (await send(browser, await broker.sign(upload.ticket), SMALL)).status_code == 200
    result = await broker.complete(upload.ticket)
    assert result == await broker.complete(upload.ticket)
    assert (result.key, result.size, result.parts) == (upload.key, len(SMALL), 1)
    assert await storage.get_file(upload.key) == SMALL
    stored = await storage.get_file_metadata(upload.key)
    assert (stored.content_type, stored.metadata) == ("audio/webm", {"call": "größe"})


async def test_an_empty_file_is_one_put(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, b"")
    assert (await send(browser, await broker.sign(upload.ticket), b"")).status_code == 200
    assert (await broker.complete(upload.ticket)).size == 0
    with pytest.raises(InvalidInputError, match="empty"):
        await create(broker, b"", multipart=True)


async def test_parts_in_any_order_are_stored_and_completed_twice_alike(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, LARGE)
    assert (upload.multipart, upload.part_size, upload.part_count) == (True, 5 * MIB, 3)
    sent = await send_parts(browser, broker, upload, LARGE)
    held = await broker.list_parts(upload.ticket)
    assert [(part.number, part.size) for part in held] == [(1, 5 * MIB), (2, 5 * MIB), (3, MIB)]
    result = await broker.complete(upload.ticket, sent)
    assert result == await broker.complete(upload.ticket, sent)
    assert (result.size, result.parts) == (len(LARGE), 3)
    assert await storage.get_file(upload.key) == LARGE
    assert await storage.list_incomplete_uploads() == []
    with pytest.raises(NoSuchUploadError):
        await broker.list_parts(upload.ticket)
    await broker.abort(upload.ticket)
    assert await storage.file_exists(upload.key)


async def test_concurrent_completions_return_the_same_file(
    emulated: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    upload = await create(broker, LARGE)
    await send_parts(browser, broker, upload, LARGE)
    results = await asyncio.gather(*(broker.complete(upload.ticket) for _ in range(5)))
    assert len({result.etag for result in results}) == 1


async def test_missing_parts_are_named_and_can_be_sent_later(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, LARGE)
    signed = await broker.sign(upload.ticket, part=2)
    await send(browser, signed, LARGE[5 * MIB : 10 * MIB])
    with pytest.raises(UploadIncompleteError) as caught:
        await broker.complete(upload.ticket)
    assert caught.value.missing == (1, 3)
    await send_parts(browser, broker, upload, LARGE)
    assert (await broker.complete(upload.ticket)).size == len(LARGE)


async def test_a_part_that_is_not_the_reported_one_is_named(
    broker: BrowserUploads,
    storage: BackblazeStorage,
    browser: httpx.AsyncClient,
    request: pytest.FixtureRequest,
) -> None:
    upload = await create(broker, LARGE)
    sent = await send_parts(browser, broker, upload, LARGE)
    signed = await broker.sign(upload.ticket, part=2)
    await send(browser, signed, noise(5 * MIB))
    if "seaweed" in request.node.name:
        # It still has the reported part, too, and completes with that one.
        await broker.complete(upload.ticket, sent)
        assert await storage.get_file(upload.key) == LARGE
        return
    with pytest.raises(UploadIncompleteError) as caught:
        await broker.complete(upload.ticket, sent)
    assert caught.value.missing == (2,)
    assert not await storage.file_exists(upload.key)
    with pytest.raises(InvalidInputError, match="listed twice"):
        await broker.complete(upload.ticket, [*sent, sent[0]])
    with pytest.raises(InvalidInputError, match="no part 4"):
        await broker.complete(upload.ticket, [*sent, UploadedPart(number=4, etag="a")])


@pytest.mark.parametrize("size", [len(SMALL) - 1, len(SMALL) + 1])
async def test_a_body_of_another_size_is_refused_by_the_signature(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient, size: int
) -> None:
    upload = await create(broker, SMALL)
    assert (await send(browser, await broker.sign(upload.ticket), noise(size))).status_code == 403
    parts = await create(broker, LARGE)
    signed = await broker.sign(parts.ticket, part=1)
    assert (await send(browser, signed, noise(size))).status_code == 403
    assert not await storage.file_exists(upload.key)
    assert await broker.list_parts(parts.ticket) == []


async def test_another_type_is_refused_by_the_signature(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, SMALL)
    signed = await broker.sign(upload.ticket)
    headers = {**signed.headers, "content-type": "text/html"}
    response = await browser.put(signed.url, headers=headers, content=SMALL)
    assert response.status_code == 403
    assert not await storage.file_exists(upload.key)


async def test_an_aborted_upload_leaves_nothing_and_cannot_be_completed(
    broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    upload = await create(broker, LARGE)
    await send(browser, await broker.sign(upload.ticket, part=3), LARGE[10 * MIB :])
    await broker.abort(upload.ticket)
    await broker.abort(upload.ticket)
    assert await storage.list_incomplete_uploads() == []
    with pytest.raises(NoSuchUploadError, match="aborted"):
        await broker.complete(upload.ticket)


async def test_a_part_that_changes_during_the_completion_is_no_failure_of_the_storage(
    emulated: BackblazeStorage, b2_server: B2Server, browser: httpx.AsyncClient
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    upload = await create(broker, LARGE)
    await send_parts(browser, broker, upload, LARGE)
    b2_server.faults.next("CompleteMultipartUpload", status=400, code="InvalidPart")
    with pytest.raises(UploadIncompleteError, match="sent again"):
        await broker.complete(upload.ticket)
    assert (await broker.complete(upload.ticket)).size == len(LARGE)


async def test_a_creation_that_is_cancelled_at_any_moment_leaves_no_upload(
    emulated: BackblazeStorage,
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    step = 1
    while await cancelled_at_step(create(broker, LARGE), step):
        assert await emulated.list_incomplete_uploads() == []
        step += 1
    assert len(await emulated.list_incomplete_uploads()) == 1


async def test_an_expired_ticket_can_only_abort(
    emulated: BackblazeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    for begun_by_page in (False, True):
        upload = await create(broker, LARGE, subject="user 1", begun_by_page=begun_by_page)
        with monkeypatch.context() as patch:
            patch.setattr("careflow_storage.browser.tickets.LEEWAY", -POLICY.expires_in)
            for call in (
                broker.sign_request(upload.ticket, "POST", subject="user 1"),
                broker.complete(upload.ticket, subject="user 1"),
            ):
                with pytest.raises(ExpiredTicketError):
                    await call
            with pytest.raises(InvalidTicketError, match="another subject"):
                await broker.abort(upload.ticket, subject="user 2")
            await broker.abort(upload.ticket, subject="user 1")
    assert await emulated.list_incomplete_uploads() == []


class TestBegunByThePage:
    async def begin(self, browser: httpx.AsyncClient, signed: SignedRequest) -> str:
        response = await send(browser, signed)
        assert response.status_code == 200, response.text
        found = re.search(r"<UploadId>([^<]+)</UploadId>", response.text)
        assert found
        return found[1]

    async def finish(
        self,
        browser: httpx.AsyncClient,
        broker: BrowserUploads,
        upload: BrowserUpload,
        upload_id: str,
        numbers: list[int],
    ) -> int:
        """Send these parts, and complete the upload with them in this order; return the status."""
        listed = ""
        for number in numbers:
            signed = await broker.sign_request(
                upload.ticket, "PUT", upload_id=upload_id, part=number
            )
            part = LARGE[(number - 1) * upload.part_size : number * upload.part_size]
            response = await send(browser, signed, part)
            assert response.status_code == 200, response.text
            etag = response.headers["etag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        signed = await broker.sign_request(upload.ticket, "POST", upload_id=upload_id)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        response = await browser.post(
            signed.url, content=body, headers={"content-type": "application/xml"}
        )
        return response.status_code

    async def test_parts_completed_in_the_wrong_order_are_no_file(
        self, broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
    ) -> None:
        upload = await create(broker, LARGE, begun_by_page=True)
        upload_id = await self.begin(browser, await broker.sign_request(upload.ticket, "POST"))
        assert await self.finish(browser, broker, upload, upload_id, [2, 1, 3]) == 400
        with pytest.raises(UploadIncompleteError):
            await broker.complete(upload.ticket)
        assert not await storage.file_exists(upload.key)

    async def test_the_whole_file_is_stored(
        self, broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
    ) -> None:
        upload = await create(broker, LARGE, begun_by_page=True)
        assert await storage.list_incomplete_uploads() == []
        upload_id = await self.begin(browser, await broker.sign_request(upload.ticket, "POST"))
        signed = await broker.sign_request(upload.ticket, "GET", upload_id=upload_id)
        assert (await send(browser, signed)).status_code == 200
        with pytest.raises(UploadIncompleteError):
            await broker.complete(upload.ticket)
        assert await self.finish(browser, broker, upload, upload_id, [1, 2, 3]) == 200
        assert (await broker.complete(upload.ticket)).size == len(LARGE)
        assert await storage.get_file(upload.key) == LARGE

    async def test_a_file_that_is_too_short_is_erased(
        self, broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
    ) -> None:
        upload = await create(broker, LARGE, begun_by_page=True)
        upload_id = await self.begin(browser, await broker.sign_request(upload.ticket, "POST"))
        assert await self.finish(browser, broker, upload, upload_id, [1, 2]) == 200
        with pytest.raises(UploadMismatchError, match="10485760 bytes"):
            await broker.complete(upload.ticket)
        assert not await storage.file_exists(upload.key)
        assert await storage.admin.list_file_versions(upload.key) == []

    async def test_each_upload_that_the_page_began_is_aborted(
        self, broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
    ) -> None:
        upload = await create(broker, LARGE, begun_by_page=True)
        for _ in range(2):
            await self.begin(browser, await broker.sign_request(upload.ticket, "POST"))
        other = await create(broker, LARGE)
        await broker.abort(upload.ticket)
        left = await storage.list_incomplete_uploads()
        assert [each.key for each in left] == [other.key]

    async def test_the_page_aborts_its_upload(
        self, broker: BrowserUploads, storage: BackblazeStorage, browser: httpx.AsyncClient
    ) -> None:
        upload = await create(broker, LARGE, begun_by_page=True)
        upload_id = await self.begin(browser, await broker.sign_request(upload.ticket, "POST"))
        signed = await broker.sign_request(upload.ticket, "DELETE", upload_id=upload_id)
        assert (await send(browser, signed)).status_code == 204
        assert await storage.list_incomplete_uploads() == []


class TestRefused:
    @pytest.fixture
    def broker(self, emulated: BackblazeStorage) -> BrowserUploads:
        return BrowserUploads(emulated, secret=SECRET, policy=POLICY)

    async def test_what_the_policy_does_not_allow_sends_no_request(
        self, broker: BrowserUploads, emulated: BackblazeStorage
    ) -> None:
        with pytest.raises(FileTypeError):
            await broker.create("CA1", "a.html", content_type="text/html", size=1)
        with pytest.raises(FileTooLargeError):
            await broker.create("CA1", "a.webm", content_type="audio/webm", size=6 * 1024**3)
        for call_id, filename in (("../CA2", "a.webm"), ("CA1", "a/b.webm"), ("", "a")):
            with pytest.raises(InvalidInputError):
                await broker.create(call_id, filename, content_type="audio/webm", size=9 * MIB)
        with pytest.raises(InvalidInputError, match="content_type"):
            await broker.create("CA1", "a", content_type="audio/webm;x=\x7f", size=9 * MIB)
        with pytest.raises(InvalidInputError, match="subject"):
            await broker.create("CA1", "a", content_type="audio/webm", size=9 * MIB, subject="")
        assert emulated.request_counts() == {}

    async def test_a_ticket_of_another_subject_or_secret(
        self, broker: BrowserUploads, emulated: BackblazeStorage
    ) -> None:
        upload = await create(broker, LARGE, subject="user 1")
        stranger = BrowserUploads(emulated, secret=SECRET[::-1], policy=POLICY)
        counts = emulated.request_counts()
        for each, subject in ((broker, None), (broker, "user 2"), (stranger, "user 1")):
            for call in (
                each.sign(upload.ticket, part=1, subject=subject),
                each.sign_request(upload.ticket, "POST", subject=subject),
                each.list_parts(upload.ticket, subject=subject),
                each.complete(upload.ticket, subject=subject),
                each.abort(upload.ticket, subject=subject),
            ):
                with pytest.raises(InvalidTicketError) as caught:
                    await call
                assert str(caught.value.method).startswith("BrowserUploads.")
        assert emulated.request_counts() == counts
        await broker.sign(upload.ticket, part=1, subject="user 1")

    async def test_no_signature_outlives_the_ticket(self, emulated: BackblazeStorage) -> None:
        policy = UploadPolicy(expires_in=1)
        broker = BrowserUploads(emulated, secret=SECRET, policy=policy)
        upload = await create(broker, SMALL)
        signed = await broker.sign(upload.ticket)
        assert (signed.expires_at - upload.expires_at).total_seconds() <= LEEWAY + 1

    async def test_an_expired_ticket_is_refused(
        self, broker: BrowserUploads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("careflow_storage.browser.tickets.LEEWAY", -POLICY.expires_in)
        upload = await create(broker, SMALL)
        for call in (broker.sign(upload.ticket), broker.complete(upload.ticket)):
            with pytest.raises(ExpiredTicketError):
                await call

    @pytest.mark.parametrize("part", [None, 0, 4, -1, True, "1", 1.0])
    async def test_a_part_that_the_upload_does_not_have(
        self, broker: BrowserUploads, part: int | None
    ) -> None:
        upload = await create(broker, LARGE)
        with pytest.raises(InvalidInputError, match="part must be"):
            await broker.sign(upload.ticket, part=part)

    async def test_requests_that_do_not_fit_the_upload(self, broker: BrowserUploads) -> None:
        single = (await create(broker, SMALL)).ticket
        parts = (await create(broker, LARGE)).ticket
        page = (await create(broker, LARGE, begun_by_page=True)).ticket
        for call in (
            broker.sign(single, part=1),
            broker.list_parts(single),
            broker.sign_request(single, "POST"),
            broker.sign_request(single, "DELETE"),
            broker.sign_request(parts, "POST"),
            broker.sign(page, part=1),
            broker.list_parts(page),
            broker.sign_request(page, "PUT"),
            broker.sign_request(page, "GET"),
            broker.sign_request(page, "DELETE"),
            broker.sign_request(page, "GET", upload_id="a\nb"),
            broker.sign_request(page, "GET", upload_id="a", part=1),
            broker.sign_request(page, "HEAD", upload_id="a"),  # type: ignore[arg-type]  # wrong
        ):
            with pytest.raises(InvalidInputError):
                await call

    async def test_the_ticket_is_not_in_the_repr(self, broker: BrowserUploads) -> None:
        upload = await create(broker, SMALL)
        assert upload.ticket not in repr(upload)


async def test_an_abort_makes_sure_that_no_part_in_flight_is_left(
    emulated: BackblazeStorage,
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    upload = await create(broker, LARGE)
    await broker.abort(upload.ticket)
    assert emulated.request_counts() == {"CreateMultipartUpload": 1, "AbortMultipartUpload": 2}


async def test_an_upload_in_parts_needs_no_aioboto3(
    emulated: BackblazeStorage, browser: httpx.AsyncClient
) -> None:
    broker = BrowserUploads(emulated, secret=SECRET, policy=POLICY)
    upload = await create(broker, LARGE)
    sent = await send_parts(browser, broker, upload, LARGE)
    await broker.list_parts(upload.ticket)
    await broker.complete(upload.ticket, sent)
    counts = emulated.request_counts()
    assert counts == {
        "CreateMultipartUpload": 1,
        "ListParts": 2,
        "CompleteMultipartUpload": 1,
        "HeadObject": 1,
    }
