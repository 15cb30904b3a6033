"""The routes for Uppy, on a real server, with requests as both generations of Uppy send them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.routing import Mount

from careflow_storage import BackblazeStorage, ServiceUnavailableError, UploadResult
from careflow_storage.browser import BrowserUploads, UploadPolicy
from careflow_storage.integrations.uppy import uppy_router
from careflow_storage.testing import B2Server
from tests.support.bodies import noise
from tests.support.served import served
from tests.support.web import site

pytest_plugins = ["careflow_storage.testing.plugin"]

MIB = 1024 * 1024
SECRET = "a secret of sixteen bytes or more"
DATA = noise(6 * MIB)
META = {"call_id": "CA1", "size": len(DATA), "name": "a.webm", "relativePath": None}
FILE = {"filename": "a.webm", "type": "audio/webm", "metadata": META}


async def user(request: Request) -> str:
    name = request.headers.get("x-user", "")
    if name == "locked":
        raise PermissionError("secret details")
    if name == "slow down":
        raise HTTPException(429, "Slow down.", {"Retry-After": "7"})
    return name


def own_call(request: Request, metadata: Mapping[str, str]) -> str:
    if metadata.get("call_id") == "CA2":
        raise PermissionError
    return metadata.get("call_id", "")


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
async def page(storage: BackblazeStorage) -> AsyncIterator[httpx.AsyncClient]:
    """The page of a user, whose addresses are relative to the routes."""
    policy = UploadPolicy(part_size=5 * MIB, multipart_threshold=8 * MIB, max_size=20 * MIB)
    broker = BrowserUploads(storage, secret=SECRET, policy=policy)
    app = FastAPI()
    app.include_router(uppy_router(broker, authorize=user, call_id_of=own_call), prefix="/uploads")
    async with (
        served(app) as url,
        httpx.AsyncClient(base_url=f"{url}/uploads/", headers={"x-user": "user 1"}) as client,
    ):
        yield client


def parts_of(data: bytes) -> dict[int, bytes]:
    return {number + 1: data[number * 5 * MIB :][: 5 * MIB] for number in range(2)}


async def send_parts(page: httpx.AsyncClient, at: str) -> list[dict[str, Any]]:
    sent = []
    for number, data in parts_of(DATA).items():
        signed = (await page.get(f"{at}/{number}?key=ignored")).json()
        assert signed["method"] == "PUT"
        assert 0 < signed["expires"] <= 600
        async with httpx.AsyncClient() as bucket:
            put = await bucket.put(signed["url"], headers=signed["headers"], content=data)
        assert put.status_code == 200, put.text
        sent.append({"PartNumber": number, "ETag": put.headers["etag"]})
    return sent


async def test_the_companion_routes_upload_in_parts(
    page: httpx.AsyncClient, storage: BackblazeStorage
) -> None:
    begun = (await page.post("s3/multipart", json=FILE)).json()
    assert set(begun) == {"key", "uploadId"}
    at = f"s3/multipart/{begun['uploadId']}"
    sent = await send_parts(page, at)
    listed = await page.get(at)
    assert listed.headers["cache-control"] == "no-store"
    assert [part["Size"] for part in listed.json()] == [5 * MIB, MIB]
    batch = (await page.get(f"{at}/batch", params={"key": "x", "partNumbers": "1,2"})).json()
    assert set(batch["presignedUrls"]) == {"1", "2"}
    unquoted = [{**part, "ETag": part["ETag"].strip('"')} for part in reversed(sent)]
    for parts in (sent, unquoted):  # as Uppy 5 and as Uppy 6, which is a repetition here
        done = await page.post(f"{at}/complete?key=ignored", json={"parts": parts})
        assert done.status_code == 200, done.text
        assert done.json()["location"].endswith(begun["key"])
        assert done.json()["key"] == begun["key"]
    assert await storage.get_file(begun["key"]) == DATA
    stored = await storage.get_file_metadata(begun["key"])
    assert (stored.content_type, stored.metadata) == ("audio/webm", {})


async def test_the_companion_routes_upload_with_one_put(
    page: httpx.AsyncClient, storage: BackblazeStorage
) -> None:
    query = {"filename": "a.webm", "type": "audio/webm", "metadata[size]": "4"}
    signed = (await page.get("s3/params", params={**query, "metadata[call_id]": "CA1"})).json()
    async with httpx.AsyncClient() as bucket:
        put = await bucket.put(signed["url"], headers=signed["headers"], content=b"call")
    assert put.status_code == 200
    done = await page.post(f"s3/multipart/{signed['ticket']}/complete", json={})
    assert done.json()["key"] == signed["fields"]["key"]
    assert await storage.get_file(done.json()["key"]) == b"call"


async def test_an_abort_leaves_nothing_and_responds_with_json(
    page: httpx.AsyncClient, storage: BackblazeStorage
) -> None:
    begun = (await page.post("s3/multipart", json=FILE)).json()
    at = f"s3/multipart/{begun['uploadId']}"
    await send_parts(page, at)
    for _ in range(2):
        aborted = await page.delete(at)
        assert (aborted.status_code, aborted.json()) == (200, {})
    assert await storage.list_incomplete_uploads() == []
    assert (await page.post(f"{at}/complete", json={})).status_code == 404
    assert (await page.get(at)).status_code == 404


async def test_missing_parts_are_a_conflict(page: httpx.AsyncClient) -> None:
    begun = (await page.post("s3/multipart", json=FILE)).json()
    done = await page.post(f"s3/multipart/{begun['uploadId']}/complete", json={"parts": []})
    assert (done.status_code, done.json()["missing"]) == (409, [1, 2])


async def test_sign_request_signs_what_the_page_begins(
    page: httpx.AsyncClient, storage: BackblazeStorage
) -> None:
    created = await page.post(
        "create", json={**FILE, "size": len(DATA), "multipart": True, "begunByPage": True}
    )
    upload = created.json()
    assert (upload["partSize"], upload["partCount"]) == (5 * MIB, 2)

    async def sign(**wanted: Any) -> dict[str, Any]:
        body = {"ticket": upload["ticket"], "key": "ignored", **wanted}
        response = await page.post("s3/presign", json=body)
        assert response.status_code == 200, response.text
        signed: dict[str, Any] = response.json()
        return signed

    async with httpx.AsyncClient() as bucket:
        signed = await sign(method="POST")
        begun = await bucket.post(signed["url"], headers=signed["headers"])
        upload_id = begun.text.partition("<UploadId>")[2].partition("<")[0]
        listed = ""
        for number, data in parts_of(DATA).items():
            signed = await sign(method="PUT", uploadId=upload_id, partNumber=number)
            put = await bucket.put(signed["url"], content=data)
            etag = put.headers["etag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        signed = await sign(method="POST", uploadId=upload_id)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        assert (await bucket.post(signed["url"], content=body.encode())).status_code == 200
    done = await page.post(f"s3/multipart/{upload['ticket']}/complete", json={})
    assert done.status_code == 200, done.text
    assert await storage.get_file(upload["key"]) == DATA


async def test_the_routes_can_be_mounted_in_starlette(emulated: BackblazeStorage) -> None:
    router = uppy_router(BrowserUploads(emulated, secret=SECRET), authorize=lambda request: "me")
    app = Starlette(routes=[Mount("/uploads", app=router)])
    async with served(app) as url, httpx.AsyncClient(base_url=f"{url}/uploads/") as client:
        begun = await client.post("s3/multipart", json=FILE)
        assert begun.status_code == 200, begun.text
        assert (await client.delete(f"s3/multipart/{begun.json()['uploadId']}")).json() == {}


async def test_an_upload_whose_page_has_left_meanwhile_is_aborted(
    emulated: BackblazeStorage,
) -> None:
    reached, aborted = asyncio.Event(), asyncio.Event()

    class Broker(BrowserUploads):
        async def abort(self, ticket: str, **options: Any) -> None:
            assert len(await emulated.list_incomplete_uploads()) == 1
            await super().abort(ticket, **options)
            aborted.set()

    async def call_id(request: Request, metadata: Mapping[str, str]) -> str:
        reached.set()
        assert (await request.receive())["type"] == "http.disconnect"
        return "CA1"

    broker = Broker(emulated, secret=SECRET)
    app = Starlette(
        routes=uppy_router(broker, authorize=lambda request: "me", call_id_of=call_id).routes
    )
    async with served(app) as url, httpx.AsyncClient(base_url=url) as client:
        leaving = asyncio.create_task(client.post("s3/multipart", json=FILE))
        await reached.wait()
        leaving.cancel()
        await aborted.wait()
    assert await emulated.list_incomplete_uploads() == []


async def test_a_page_that_leaves_in_its_request_is_no_error(emulated: BackblazeStorage) -> None:
    broker = BrowserUploads(emulated, secret=SECRET)
    router = uppy_router(broker, authorize=lambda request: "me")
    async with site(Starlette(routes=router.routes)) as running:
        _, writer = await running.connect()
        head = "POST /create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f'{head}Content-Length: 100\r\n\r\n{{"filename": '.encode())
        writer.close()
        assert await running.ended() is None


@pytest.mark.parametrize("storage", ["emulator"], indirect=True)
class TestRefused:
    async def test_a_ticket_of_another_secret(
        self, page: httpx.AsyncClient, storage: BackblazeStorage
    ) -> None:
        other = BrowserUploads(storage, secret=SECRET[::-1])
        upload = await other.create(
            "CA1", "a.webm", content_type="audio/webm", size=len(DATA), subject="user 1"
        )
        response = await page.get(f"s3/multipart/{upload.ticket}/1")
        assert response.status_code == 403
        assert "not valid" in response.json()["message"]

    async def test_a_clock_that_is_off_is_a_failure_of_the_server_alone(
        self, page: httpx.AsyncClient, b2_server: B2Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        b2_server.faults.always("CreateMultipartUpload", status=403, code="RequestTimeTooSkewed")
        response = await page.post("s3/multipart", json=FILE)
        assert response.status_code == 502
        assert "clock" not in response.text
        assert "RequestTimeTooSkewed" in caplog.text

    @pytest.mark.parametrize(("name", "status"), [("", 401), ("locked", 403), ("slow down", 429)])
    async def test_who_may_not_upload(
        self, page: httpx.AsyncClient, storage: BackblazeStorage, name: str, status: int
    ) -> None:
        response = await page.post("s3/multipart", json=FILE, headers={"x-user": name})
        assert response.status_code == status
        assert set(response.json()) == {"message"}
        assert "secret" not in response.text
        assert response.headers.get("retry-after") == ("7" if status == 429 else None)
        assert storage.request_counts() == {}

    async def test_a_call_of_another_user(self, page: httpx.AsyncClient) -> None:
        other = {**FILE, "metadata": {**META, "call_id": "CA2"}}
        assert (await page.post("s3/multipart", json=other)).status_code == 403

    async def test_a_ticket_of_another_user(
        self, page: httpx.AsyncClient, storage: BackblazeStorage
    ) -> None:
        ticket = (await page.post("s3/multipart", json=FILE)).json()["uploadId"]
        counts = storage.request_counts()
        at, stranger = f"s3/multipart/{ticket}", {"x-user": "user 2"}
        for response in (
            await page.get(at, headers=stranger),
            await page.get(f"{at}/1", headers=stranger),
            await page.get(f"{at}/batch?partNumbers=1", headers=stranger),
            await page.post(f"{at}/complete", json={}, headers=stranger),
            await page.delete(at, headers=stranger),
            await page.post("s3/presign", json={"ticket": ticket, "method": "POST"}),
            await page.get("s3/multipart/forged/1"),
        ):
            assert response.status_code in (403, 422), response.url
            assert "message" in response.json()
        assert storage.request_counts() == counts

    @pytest.mark.parametrize(
        ("change", "status"),
        [
            ({"type": "text/html"}, 415),
            ({"type": None}, 415),
            ({"type": 5}, 415),
            ({"metadata": {**META, "size": 21 * MIB}}, 413),
            ({"metadata": {**META, "size": -1}}, 422),
            ({"metadata": {**META, "size": "1" * 30}}, 422),
            ({"metadata": {**META, "size": 0}}, 422),
            ({"metadata": {"call_id": "CA1"}}, 422),
            ({"metadata": {**META, "call_id": "../CA2"}}, 422),
            ({"metadata": {"size": 5}}, 422),
            ({"metadata": ["size"]}, 422),
            ({"filename": "../a.webm"}, 422),
            ({"filename": "../../x"}, 422),
            ({"filename": "C:\\x.webm"}, 422),
            ({"filename": "a\0.webm"}, 422),
            ({"filename": "a\r\nx.webm"}, 422),
            ({"filename": "a" * 300}, 422),
            ({"filename": "ä" * 150}, 422),
            ({"filename": "a\u202emp3.exe"}, 422),
            ({"filename": "a\ud800.webm"}, 422),
            ({"filename": ".."}, 422),
            ({"type": "audio/\ud800"}, 415),
            ({"metadata": {**META, "call_id": "\ud800"}}, 422),
            ({"filename": 5}, 422),
            ({"filename": ""}, 422),
        ],
    )
    async def test_a_file_that_may_not_be_uploaded(
        self,
        page: httpx.AsyncClient,
        storage: BackblazeStorage,
        change: dict[str, Any],
        status: int,
    ) -> None:
        # In ASCII, since half of a surrogate pair can be in JSON, but not in UTF-8.
        response = await page.post(
            "s3/multipart",
            content=json.dumps(FILE | change),
            headers={"content-type": "application/json"},
        )
        assert response.status_code == status, response.text
        assert set(response.json()) == {"message"}
        assert storage.request_counts() == {}

    @pytest.mark.parametrize(
        ("content", "content_type", "status"),
        [
            (b"{", "application/json", 400),
            (b"[]", "application/json", 400),
            (b"[" * 60_000, "application/json", 400),
            (b"\xff", "application/json", 400),
            (b" " * 70_000, "application/json", 413),
            (json.dumps(FILE).encode(), "text/plain", 415),
            (json.dumps(FILE).encode(), "", 415),
        ],
    )
    async def test_a_body_that_cannot_be_read(
        self, page: httpx.AsyncClient, content: bytes, content_type: str, status: int
    ) -> None:
        for path in ("create", "s3/multipart", "s3/presign"):
            response = await page.post(
                path, content=content, headers={"content-type": content_type}
            )
            assert response.status_code == status, response.text
            assert "message" in response.json()

    @pytest.mark.parametrize(
        "body",
        [
            {"parts": 5},
            {"parts": [5]},
            {"parts": [{"PartNumber": 1}]},
            {"parts": [{"PartNumber": "x", "ETag": "e"}]},
            {"parts": [{"PartNumber": 1, "ETag": None}]},
            {"parts": [{"PartNumber": 3, "ETag": "e"}]},
        ],
    )
    async def test_parts_that_are_none(self, page: httpx.AsyncClient, body: Any) -> None:
        ticket = (await page.post("s3/multipart", json=FILE)).json()["uploadId"]
        response = await page.post(f"s3/multipart/{ticket}/complete", json=body)
        assert response.status_code == 422, response.text

    @pytest.mark.parametrize("part", ["0", "3", "-1", "x", "１", "9" * 20])
    async def test_a_part_that_is_none(self, page: httpx.AsyncClient, part: str) -> None:
        ticket = (await page.post("s3/multipart", json=FILE)).json()["uploadId"]
        at = f"s3/multipart/{ticket}"
        assert (await page.get(f"{at}/{part}")).status_code == 422
        assert (await page.get(f"{at}/batch?partNumbers={part}")).status_code == 422

    async def test_ten_thousand_parts_fit_into_a_body(self, page: httpx.AsyncClient) -> None:
        ticket = (await page.post("s3/multipart", json=FILE)).json()["uploadId"]
        parts = [{"PartNumber": n, "ETag": f'"{"a" * 64}"'} for n in range(1, 10_001)]
        response = await page.post(f"s3/multipart/{ticket}/complete", json={"parts": parts})
        assert "no part 3" in response.json()["message"]

    async def test_a_storage_that_fails_is_unavailable_and_says_no_more(
        self, page: httpx.AsyncClient, b2_server: B2Server, storage: BackblazeStorage
    ) -> None:
        b2_server.faults.always("CreateMultipartUpload", status=503)
        response = await page.post("s3/multipart", json=FILE)
        assert response.status_code == 503, response.text
        assert response.headers["retry-after"]
        assert response.json()["message"] == "The storage is not available. Try again later."


def test_without_fastapi_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import careflow_storage.integrations.uppy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "careflow-storage[fastapi]"' in done.stderr


# --- what the app does with a completed upload ------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("secret details"), 500, "The file is stored, but the server made an error."),
        (HTTPException(507, "The database is full."), 507, "The database is full."),
        (ServiceUnavailableError("secret details"), 503, "The storage is not available. Try"),
    ],
)
async def test_the_app_is_called_with_each_completed_upload(
    emulated: BackblazeStorage,
    error: Exception,
    status: int,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[tuple[UploadResult, str]] = []
    errors = [error]

    async def on_complete(result: UploadResult, subject: str) -> None:
        seen.append((result, subject))
        if errors:
            raise errors.pop()

    broker = BrowserUploads(emulated, secret=SECRET)
    app = FastAPI()
    app.include_router(uppy_router(broker, authorize=user, on_complete=on_complete))
    async with (
        served(app) as url,
        httpx.AsyncClient(base_url=url, headers={"x-user": "user 1"}) as page,
    ):
        query = {"filename": "a.webm", "type": "audio/webm", "metadata[size]": "4"}
        signed = (await page.get("s3/params", params={**query, "metadata[call_id]": "CA1"})).json()
        at = f"s3/multipart/{signed['ticket']}/complete"
        assert (await page.post(at, json={})).status_code == 409
        assert seen == []
        await page.put(signed["url"], headers=signed["headers"], content=b"call")
        failed = await page.post(at, json={})
        assert failed.status_code == status
        assert failed.json()["message"].startswith(message)
        assert (await page.post(at, json={})).status_code == 200
    assert await emulated.get_file(signed["fields"]["key"]) == b"call"
    assert [(each.key, subject) for each, subject in seen] == [
        (signed["fields"]["key"], "user 1")
    ] * 2
    assert seen[0][0].version_id == seen[1][0].version_id
    assert ("on_complete failed" in caplog.text) == isinstance(error, ValueError)
