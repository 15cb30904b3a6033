"""Signed uploads: what was signed is stored, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import urllib.parse
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import httpx
import pytest

from careflow_storage import (
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    NoSuchKeyError,
    Retention,
    SignedRequest,
    StorageClosedError,
)
from careflow_storage.admin import DefaultRetention
from careflow_storage.testing import B2Server
from tests.support.bodies import noise

pytest_plugins = ["careflow_storage.testing.plugin"]

DATA = noise(10_000)
MD5 = hashlib.md5(DATA, usedforsecurity=False)
WRONG_MD5 = base64.b64encode(bytes(16)).decode()
ALL: dict[str, Any] = {
    "content_type": "audio/webm;codecs=opus",
    "size": len(DATA),
    "md5": MD5.hexdigest(),
    "metadata": {"call": "CA1", "place": "größe 録音"},
    "cache_control": "private, max-age=60",
}


@pytest.fixture
async def sender() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that knows nothing but the signed request."""
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def emulated(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


@pytest.fixture(params=["emulator", pytest.param("seaweed", marks=pytest.mark.integration)])
def any_storage(request: pytest.FixtureRequest) -> BackblazeStorage:
    """Of the emulator and of a real server."""
    name = "emulated" if request.param == "emulator" else "seaweed_storage"
    found: BackblazeStorage = request.getfixturevalue(name)
    return found


class TestTheRightRequest:
    async def test_when_httpx_sends_it_then_all_of_it_is_stored(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient
    ) -> None:
        signed = await any_storage.sign_upload("größe/a b.webm", **ALL)
        response = await sender.put(signed.url, headers=signed.headers, content=DATA)
        assert response.status_code == 200, response.text
        assert await any_storage.get_file("größe/a b.webm") == DATA
        stored = await any_storage.get_file_metadata("größe/a b.webm")
        assert stored.content_type == ALL["content_type"]
        assert stored.metadata == ALL["metadata"]

    async def test_when_aiohttp_sends_it_then_it_is_stored(
        self, any_storage: BackblazeStorage
    ) -> None:
        signed = await any_storage.sign_upload("a.webm", **ALL)
        async with (
            aiohttp.ClientSession() as session,
            session.put(signed.url, headers=signed.headers, data=DATA) as response,
        ):
            assert response.status == 200
        assert await any_storage.get_file("a.webm") == DATA

    @pytest.mark.parametrize("size", [0, 1])
    async def test_given_few_bytes_then_they_are_stored(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient, size: int
    ) -> None:
        signed = await any_storage.sign_upload("a", content_type="audio/wav", size=size)
        response = await sender.put(signed.url, headers=signed.headers, content=bytes(size))
        assert response.status_code == 200, response.text
        assert (await any_storage.get_file_metadata("a")).size == size

    async def test_given_a_type_alone_then_any_size_is_stored(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient
    ) -> None:
        signed = await any_storage.sign_upload("a", content_type="audio/wav")
        assert signed.headers == {"content-type": "audio/wav"}
        for body in (b"x", DATA):
            response = await sender.put(signed.url, headers=signed.headers, content=body)
            assert response.status_code == 200
            assert await any_storage.get_file("a") == body

    @pytest.mark.parametrize(
        "md5",
        [MD5.hexdigest(), MD5.hexdigest().upper(), MD5.digest(), None],
        ids=["hex", "HEX", "bytes", "base64"],
    )
    async def test_given_an_md5_in_any_form_then_the_header_is_base64(
        self, emulated: BackblazeStorage, sender: httpx.AsyncClient, md5: str | bytes | None
    ) -> None:
        encoded = base64.b64encode(MD5.digest()).decode()
        signed = await emulated.sign_upload("a", content_type="audio/wav", md5=md5 or encoded)
        assert signed.headers["content-md5"] == encoded
        response = await sender.put(signed.url, headers=signed.headers, content=DATA)
        assert response.status_code == 200


class TestAnotherRequest:
    @pytest.mark.parametrize(
        "body", [DATA[:-1], DATA + b"x", b"", bytes(len(DATA))], ids=["less", "more", "no", "other"]
    )
    async def test_given_other_bytes_then_they_are_refused_and_nothing_is_stored(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient, body: bytes
    ) -> None:
        signed = await any_storage.sign_upload("a.webm", **ALL)
        response = await sender.put(signed.url, headers=signed.headers, content=body)
        assert response.status_code in (400, 403), response.text
        with pytest.raises(NoSuchKeyError):
            await any_storage.get_file_metadata("a.webm")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("content-type", "text/html"),
            ("content-type", "audio/webm"),
            ("content-type", None),
            ("content-md5", WRONG_MD5),
            ("content-md5", None),
            ("x-amz-meta-call", "CA2"),
            ("x-amz-meta-call", None),
            ("cache-control", "public"),
            ("cache-control", None),
        ],
    )
    async def test_given_another_header_then_it_is_refused_and_nothing_is_stored(
        self,
        any_storage: BackblazeStorage,
        sender: httpx.AsyncClient,
        name: str,
        value: str | None,
    ) -> None:
        signed = await any_storage.sign_upload("a.webm", **ALL)
        assert name in signed.headers
        sent = dict(signed.headers)
        del sent[name]
        response = await sender.put(
            signed.url, headers=sent | ({} if value is None else {name: value}), content=DATA
        )
        assert response.status_code in (400, 403), response.text
        with pytest.raises(NoSuchKeyError):
            await any_storage.get_file_metadata("a.webm")

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
    async def test_given_another_method_then_it_is_refused(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient, method: str
    ) -> None:
        await any_storage.upload_file("a.webm", DATA)
        signed = await any_storage.sign_upload("a.webm", **ALL)
        response = await sender.request(method, signed.url, headers=signed.headers)
        assert response.status_code >= 400
        assert await any_storage.get_file("a.webm") == DATA

    async def test_given_another_key_or_a_changed_query_then_it_is_refused(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient
    ) -> None:
        signed = await any_storage.sign_upload("a.webm", **ALL)
        longer = signed.url.replace("X-Amz-Expires=600", "X-Amz-Expires=6000")
        for url in (signed.url.replace("a.webm", "b.webm"), longer, signed.url + "&x=y"):
            assert url != signed.url
            response = await sender.put(url, headers=signed.headers, content=DATA)
            assert response.status_code == 403
        assert await any_storage.list_files() == []

    async def test_given_it_has_expired_then_it_is_refused(
        self, any_storage: BackblazeStorage, sender: httpx.AsyncClient
    ) -> None:
        signed = await any_storage.sign_upload("a.webm", expires_in=1, **ALL)
        statuses: list[int] = []
        async with asyncio.timeout(30):
            while not statuses or statuses[-1] == 200:
                response = await sender.put(signed.url, headers=signed.headers, content=DATA)
                statuses.append(response.status_code)
        assert statuses[-1] in (401, 403)
        assert datetime.now(UTC) >= signed.expires_at


class TestTheResult:
    async def test_then_every_header_is_in_the_signature(self, emulated: BackblazeStorage) -> None:
        signed = await emulated.sign_upload("a.webm", **ALL)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(signed.url).query))
        assert signed.method == "PUT"
        names = {"host", "content-length", *signed.headers}
        assert set(query["X-Amz-SignedHeaders"].split(";")) == names

    async def test_the_result_shows_when_it_expires_and_hides_its_signature(
        self, emulated: BackblazeStorage
    ) -> None:
        before = datetime.now(UTC).replace(microsecond=0)
        signed = await emulated.sign_upload("a.webm", expires_in=60, **ALL)
        after = datetime.now(UTC)
        assert before <= signed.expires_at - timedelta(seconds=60) <= after
        assert signed.expires_at.utcoffset() == timedelta()
        assert "Signature" not in repr(signed) + str(signed)
        assert SignedRequest.model_validate_json(signed.model_dump_json()) == signed

    async def test_given_a_bucket_that_locks_all_files_then_one_with_an_md5_is_stored(
        self, emulated: BackblazeStorage, b2_server: B2Server, sender: httpx.AsyncClient
    ) -> None:
        await emulated.admin.set_object_lock(DefaultRetention(mode="governance", days=1))
        with_md5 = await emulated.sign_upload("a", content_type="audio/wav", md5=MD5.digest())
        response = await sender.put(with_md5.url, headers=with_md5.headers, content=DATA)
        assert response.status_code == 200
        bare = await emulated.sign_upload("b", content_type="audio/wav")
        response = await sender.put(bare.url, headers=bare.headers, content=DATA)
        assert (response.status_code, "Content-MD5" in response.text) == (400, True)

    async def test_given_retention_and_encryption_then_they_are_stored(
        self, emulated: BackblazeStorage, sender: httpx.AsyncClient
    ) -> None:
        await emulated.admin.set_object_lock()
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        retention = Retention(mode="governance", retain_until=until)
        signed = await emulated.sign_upload(
            "a", **ALL, retention=retention, legal_hold=True, encryption="SSE-B2"
        )
        response = await sender.put(signed.url, headers=signed.headers, content=DATA)
        assert response.status_code == 200, response.text
        stored = await emulated.get_file_metadata("a")
        assert (stored.retention, stored.legal_hold) == (retention, True)
        assert stored.encryption == "SSE-B2"


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("wrong", "named"),
        [
            *[
                ({"content_type": each}, "content_type")
                for each in ("", "audio", "/", "a/b\r\nx: y", "größe/x", None, 5, " audio/wav")
            ],
            *[({"size": each}, "size") for each in (-1, True, 1.0, "5", 5_000_000_001)],
            *[
                ({"md5": each}, "md5")
                for each in ("", "abc", "0" * 31, "g" * 32, b"x", b"0" * 32, 5, "=" * 24)
            ],
            ({"metadata": {"a": "b\nc"}}, "metadata"),
            ({"metadata": "a"}, "metadata"),
            ({"cache_control": "a\r\nb"}, "cache_control"),
            ({"content_disposition": "attachment; filename*=UTF-8''a%E2%80%AE"}, "U\\+202E"),
            ({"encryption": CustomerKey(bytes(32))}, "encryption"),
            ({"encryption": "AES256"}, "encryption"),
            ({"legal_hold": True}, "md5"),
            *[({"expires_in": each}, "expires_in") for each in (0, 604_801, True, 1.5, None)],
        ],
        ids=repr,
    )
    async def test_given_an_argument_that_cannot_be_signed_then_it_is_refused(
        self, emulated: BackblazeStorage, wrong: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=named) as caught:
            await emulated.sign_upload("a.webm", **({"content_type": "audio/webm"} | wrong))
        assert (caught.value.method, caught.value.key) == ("sign_upload", "a.webm")

    async def test_given_a_bad_key_or_a_closed_storage_then_nothing_is_signed(
        self, emulated: BackblazeStorage
    ) -> None:
        with pytest.raises(InvalidInputError):
            await emulated.sign_upload("../a", content_type="audio/webm")
        await emulated.close()
        with pytest.raises(StorageClosedError):
            await emulated.sign_upload("a", content_type="audio/webm")


class Temporary:
    """A session whose credentials expire, at a time that they may report."""

    def __init__(self, lives_for: timedelta | None) -> None:
        self._expiry_time = None if lives_for is None else datetime.now(UTC) + lives_for
        self.access_key, self.secret_key, self.token = "id", "secret", "the-token"

    async def get_credentials(self) -> Temporary:
        return self

    async def get_frozen_credentials(self) -> Temporary:
        return self

    def create_client(self) -> None:
        raise AssertionError("no client is needed")


class TestTemporaryCredentials:
    @pytest.mark.parametrize(
        ("lives_for", "expires_in", "warned"),
        [
            (timedelta(hours=1), 604_800, True),
            (timedelta(hours=1), 3_660, True),
            (timedelta(hours=1), 600, False),
            (timedelta(days=30), 604_800, False),
            (None, 604_800, True),
            (None, 3_600, False),
        ],
        ids=repr,
    )
    async def test_given_a_url_that_outlives_them_then_one_line_warns(
        self,
        b2_server: B2Server,
        caplog: pytest.LogCaptureFixture,
        lives_for: timedelta | None,
        expires_in: int,
        warned: bool,
    ) -> None:
        session: Any = Temporary(lives_for)
        async with BackblazeStorage(b2_server.settings(), session=session) as storage:
            calls = (
                storage.get_signed_url("a", expires_in),
                storage.get_signed_urls(["a", "b"], expires_in),
                storage.sign_upload("a", content_type="audio/wav", expires_in=expires_in),
            )
            for call in calls:
                caplog.clear()
                await call
                lines = [each for each in caplog.records if each.levelno >= logging.WARNING]
                assert len(lines) == warned
                assert "the-token" not in caplog.text

    async def test_then_the_end_of_the_credentials_is_that_of_the_request(
        self, b2_server: B2Server
    ) -> None:
        session: Any = Temporary(timedelta(minutes=5))
        async with BackblazeStorage(b2_server.settings(), session=session) as storage:
            signed = await storage.sign_upload("a", content_type="audio/wav")
        assert signed.expires_at == session._expiry_time
