"""Encryption by the server: with its own keys (SSE-B2) and with a customer's (SSE-C)."""

from __future__ import annotations

import functools
import itertools
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    ServerResponseError,
    StorageError,
    StorageSettings,
)
from careflow_storage._s3.headers.encryption import (
    encryption_headers,
    lasting,
    protection_parameters,
)
from careflow_storage._transfer.live.writer import RecordingWriter
from careflow_storage.testing import B2Server
from careflow_storage.testing.proxy.proxy import FaultProxy
from tests.support.bodies import noise, pieces, stream
from tests.support.hostile import Asked, HostileServer
from tests.support.protected import BOTH, KEY, OTHER_KEY, Place, b2_server, opened, settings_on
from tests.support.url_source import Source

__all__ = ["b2_server"]


@pytest.fixture(params=BOTH)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with opened(*settings_on(request.param, request)) as found:
        yield found


@pytest.fixture
async def b2(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with opened(*settings_on("emulator", request)) as found:
        yield found


# --- every way in -----------------------------------------------------------------------


async def upload_small(place: Place, data: bytes) -> str:
    return (await place.storage.upload_file("a", data[:1000], encryption=KEY)).key


async def upload_large(place: Place, data: bytes) -> str:
    return (await place.storage.upload_file("a", data, encryption=KEY)).key


async def upload_stream(place: Place, data: bytes) -> str:
    return (await place.storage.upload_file("a", stream(data), encryption=KEY)).key


async def upload_without_overwriting(place: Place, data: bytes) -> str:
    result = await place.storage.upload_file("a", data, encryption=KEY, overwrite=False)
    return result.key


async def upload_with_crc32(place: Place, data: bytes) -> str:
    result = await place.storage.upload_file("a", data, encryption=KEY, checksum="crc32")
    return result.key


async def upload_recording(place: Place, data: bytes) -> str:
    result = await place.storage.upload_recording("CA1", data, "a.wav", encryption=KEY)
    return result.key


async def record_live(place: Place, data: bytes) -> str:
    async with place.storage.open_recording("CA1", "a.wav", encryption=KEY) as writer:
        for chunk in pieces(data):
            await writer.write(chunk)
    return writer.result.key


async def record_a_short_call(place: Place, data: bytes) -> str:
    async with place.storage.open_recording("CA1", "a.wav", encryption=KEY) as writer:
        await writer.write(data[:1000])
    return writer.result.key


async def upload_from_url(place: Place, data: bytes) -> str:
    async with Source(data, headers={"Content-Type": "audio/wav"}) as source:
        result = await place.storage.upload_from_url(
            "CA1", source.url, "a.wav", encryption=KEY, allow_private_addresses=True
        )
    return result.key


WAYS_IN: list[Callable[[Place, bytes], Awaitable[str]]] = [
    upload_small,
    upload_large,
    upload_stream,
    upload_without_overwriting,
    upload_with_crc32,
    upload_recording,
    record_live,
    record_a_short_call,
    upload_from_url,
]
WAYS_TO_CUT_SHORT = (upload_small, record_a_short_call)


@pytest.mark.parametrize("upload", WAYS_IN)
async def test_whatever_the_way_in_only_the_same_key_reads_it_again(
    place: Place, upload: Callable[[Place, bytes], Awaitable[str]]
) -> None:
    data = noise(2 * place.part + 7)
    key = await upload(place, data)
    expected = data[:1000] if upload in WAYS_TO_CUT_SHORT else data
    assert await place.storage.get_file(key, encryption=KEY) == expected
    about = await place.storage.get_file_metadata(key, encryption=KEY)
    assert (about.encryption, about.size) == ("SSE-C", len(expected))
    for wrong in (None, OTHER_KEY):
        with pytest.raises(AccessDeniedError):
            await place.storage.get_file(key, encryption=wrong)
    assert await place.storage.list_incomplete_uploads() == []


# --- every way out ----------------------------------------------------------------------


async def get(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    return await place.storage.get_file("a", encryption=key)


async def get_stream(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    async with place.storage.stream_file("a", encryption=key) as found:
        return await found.read()


async def get_ranges(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    read = place.storage.stream_file
    head = await read("a", end=place.part + 3, encryption=key).read()
    return head + await read("a", start=place.part + 3, encryption=key).read()


async def get_opened(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    async with await place.storage.open_file("a", encryption=key) as reader:
        await reader.seek(-5, 2)
        tail = await reader.read()
        await reader.seek(0)
        whole = await reader.read()
        assert whole.endswith(tail)
        return whole


async def get_downloaded(place: Place, key: CustomerKey | None, folder: Path) -> bytes:
    result = await place.storage.download_file("a", folder / "a", encryption=key)
    assert result.verified == "length"
    return (folder / "a").read_bytes()


async def get_by_url(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    url = await place.storage.get_signed_url("a", encryption=key)
    async with (
        aiohttp.ClientSession() as http,
        http.get(url, headers=key.headers() if key else {}) as response,
    ):
        if response.status in (400, 403):
            raise AccessDeniedError(await response.text())
        return await response.read()


async def get_metadata(place: Place, key: CustomerKey | None, _: Path) -> bytes:
    found = await place.storage.get_file_metadata("a", encryption=key)
    return noise(found.size)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


WAYS_OUT = [get, get_stream, get_ranges, get_opened, get_downloaded, get_by_url, get_metadata]


@pytest.mark.parametrize("read", WAYS_OUT)
async def test_whatever_the_way_out_the_right_key_opens_it_and_no_other(
    place: Place, tmp_path: Path, read: Callable[..., Awaitable[bytes]]
) -> None:
    data = noise(2 * place.part + 7)
    await place.storage.upload_file("a", data, encryption=KEY)
    assert await read(place, KEY, tmp_path) == data
    for wrong in (None, OTHER_KEY):
        with pytest.raises(AccessDeniedError):
            await read(place, wrong, tmp_path)
    assert names_in(tmp_path) <= {"a"}


async def test_without_the_key_the_error_says_that_one_is_needed(place: Place) -> None:
    await place.storage.upload_file("a", b"x", encryption=KEY)
    for call in (place.storage.get_file, place.storage.get_file_metadata, place.storage.open_file):
        with pytest.raises(AccessDeniedError, match=r"customer's key .* was not given") as caught:
            await call("a")
        assert "encryption=CustomerKey" in str(caught.value)
        assert caught.value.status == 400


async def test_with_a_wrong_key_the_error_says_that_it_may_be_the_wrong_one(place: Place) -> None:
    await place.storage.upload_file("a", b"x", encryption=KEY)
    for call in (place.storage.get_file, place.storage.get_file_metadata):
        with pytest.raises(AccessDeniedError, match="may be the wrong one"):
            await call("a", encryption=OTHER_KEY)


async def test_a_file_exists_whether_its_key_is_given_or_not(place: Place) -> None:
    await place.storage.upload_file("a", b"x", encryption=KEY)
    assert await place.storage.file_exists("a", encryption=KEY)
    assert await place.storage.file_exists("a")
    assert await place.storage.file_exists("a", encryption=OTHER_KEY)
    assert not await place.storage.file_exists("b", encryption=KEY)


async def test_a_key_for_a_file_that_has_none_is_told(b2: Place) -> None:
    await b2.storage.upload_file("a", b"x")
    with pytest.raises(InvalidInputError, match=r"encryption: .* not encrypted"):
        await b2.storage.get_file("a", encryption=KEY)


async def test_an_empty_file_can_be_encrypted(place: Place) -> None:
    await place.storage.upload_file("a", b"", encryption=KEY)
    assert await place.storage.get_file("a", encryption=KEY) == b""


async def test_ones_own_upload_is_not_in_the_way_of_overwrite_false(place: Place) -> None:
    await place.storage.upload_file("a", b"x", encryption=KEY)
    with pytest.raises(StorageError, match="exists already"):
        await place.storage.upload_file("a", b"y", encryption=OTHER_KEY, overwrite=False)


async def test_each_version_has_the_key_that_it_was_stored_with(place: Place) -> None:
    first = await place.storage.upload_file("a", b"first", encryption=KEY)
    await place.storage.upload_file("a", b"second", encryption=OTHER_KEY)
    read = place.storage.get_file
    assert await read("a", version_id=first.version_id, encryption=KEY) == b"first"
    assert await read("a", encryption=OTHER_KEY) == b"second"


# --- SSE-B2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
async def test_sse_b2_is_asked_for_and_told_and_needs_no_key(place: Place, large: bool) -> None:
    data = noise(place.part + 7 if large else 10)
    await place.storage.upload_file("a", data, encryption="SSE-B2")
    about = await place.storage.get_file_metadata("a")
    assert about.encryption == "SSE-B2"
    assert await place.storage.get_file("a") == data


async def test_sse_b2_leaves_the_etag_an_md5_that_downloads_are_held_to(
    b2: Place, tmp_path: Path
) -> None:
    await b2.storage.upload_file("a", b"x", encryption="SSE-B2")
    assert (await b2.storage.download_file("a", tmp_path / "a")).verified == "md5"


async def test_the_headers_go_with_each_request_that_needs_them_and_no_other(
    b2: Place, b2_server: B2Server
) -> None:
    data = noise(b2.part + 7)
    await b2.storage.upload_file("a", data, encryption=KEY, overwrite=False)
    await b2.storage.upload_file("b", data, encryption="SSE-B2")
    customer = "x-amz-server-side-encryption-customer-algorithm"
    by_operation = {
        (seen.key, seen.operation): (customer in seen.headers, seen.headers)
        for seen in b2_server.requests
    }
    has_key = {name for (key, name), (has, _) in by_operation.items() if has and key == "a"}
    # Of the missing file a GET tells whether at least the bucket is there.
    assert has_key == {"HeadObject", "GetObject", "CreateMultipartUpload", "UploadPart"}
    told = {
        name
        for (key, name), (_, headers) in by_operation.items()
        if "x-amz-server-side-encryption" in headers and key == "b"
    }
    assert told == {"CreateMultipartUpload"}


# --- presigned --------------------------------------------------------------------------


async def test_a_browser_uploads_with_the_key_whose_headers_were_signed(place: Place) -> None:
    url = await place.storage.get_signed_url("a", method="PUT", encryption=KEY)
    assert KEY.to_base64() not in url
    async with aiohttp.ClientSession() as http:
        async with http.put(url, data=b"body", headers=OTHER_KEY.headers()) as response:
            assert response.status == 403
        async with http.put(url, data=b"body", headers=KEY.headers()) as response:
            assert response.status == 200
    assert await place.storage.get_file("a", encryption=KEY) == b"body"


async def test_urls_of_a_page_are_signed_for_the_key(b2: Place) -> None:
    await b2.storage.upload_file("a", b"x", encryption=KEY)
    [url] = await b2.storage.get_signed_urls(["a"], encryption=KEY)
    async with aiohttp.ClientSession() as http, http.get(url, headers=KEY.headers()) as response:
        assert await response.read() == b"x"


async def test_a_presigned_put_asks_for_sse_b2(b2: Place) -> None:
    url = await b2.storage.get_signed_url("a", method="PUT", encryption="SSE-B2")
    headers = {"x-amz-server-side-encryption": "AES256"}
    async with (
        aiohttp.ClientSession() as http,
        http.put(url, data=b"x", headers=headers) as response,
    ):
        assert response.status == 200
    with pytest.raises(InvalidInputError, match="encryption"):
        await b2.storage.get_signed_url("a", encryption="SSE-B2")
    with pytest.raises(InvalidInputError, match="encryption"):
        await b2.storage.get_signed_url("a", method="DELETE", encryption=KEY)


# --- when things go wrong ---------------------------------------------------------------


async def test_resuming_with_a_customers_key_is_refused_before_any_request(
    b2: Place, b2_server: B2Server, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(noise(b2.part + 7))
    b2_server.requests.clear()
    with pytest.raises(InvalidInputError, match="resume=True cannot be combined with"):
        await b2.storage.upload_file("a", path, encryption=KEY, resume=True)
    assert b2_server.requests == []


async def test_a_lost_response_to_complete_is_settled_with_the_key(
    b2: Place, b2_server: B2Server
) -> None:
    data = noise(b2.part + 7)
    b2_server.faults.next("CompleteMultipartUpload", cut="rst", at="resp")
    result = await b2.storage.upload_file("a", data, encryption=KEY)
    assert await b2.storage.get_file("a", encryption=KEY) == data
    assert len(b2_server.versions("a")) == 1
    assert result.parts == 2


async def break_off(writer: RecordingWriter, data: bytes) -> None:
    async with writer:
        await writer.write(data)
        raise RuntimeError("the call broke off")


async def test_a_cut_off_call_is_kept_marked_and_encrypted(place: Place) -> None:
    data = noise(place.part + 7)
    writer = place.storage.open_recording("CA1", "a.wav", on_error="keep", encryption=KEY)
    with pytest.raises(RuntimeError):
        await break_off(writer, data)
    about = await place.storage.get_file_metadata(writer.key, encryption=KEY)
    assert (about.partial, about.encryption) == (True, "SSE-C")
    assert await place.storage.get_file(writer.key, encryption=KEY) == data


@pytest.mark.parametrize("encryption", [KEY, "SSE-B2"])
async def test_what_a_killed_process_has_sent_is_kept_as_it_was_encrypted(
    place: Place, encryption: Any
) -> None:
    client, bucket = await place.storage.client(), place.storage.settings.bucket_name
    key = encryption if isinstance(encryption, CustomerKey) else None
    where = {"Bucket": bucket, "Key": "a"}
    headers = protection_parameters(encryption_headers(encryption))
    begun = await client.create_multipart_upload(**where, **headers)
    data, upload_id = noise(1000), begun["UploadId"]
    key_alone = protection_parameters(encryption_headers(key))
    await client.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=data, **key_alone)

    done = await place.storage.keep_incomplete_upload("a", upload_id, encryption=key)
    assert (done.partial, done.size) == (True, 1000)
    assert await place.storage.get_file(done.key, encryption=key) == data
    about = await place.storage.get_file_metadata(done.key, encryption=key)
    assert about.encryption == ("SSE-C" if key else "SSE-B2")


async def test_a_stream_that_breaks_goes_on_with_the_key(seaweed_settings: StorageSettings) -> None:
    async with FaultProxy(str(seaweed_settings.endpoint)) as proxy:
        settings = seaweed_settings.model_copy(update={"endpoint": proxy.url})
        async with BackblazeStorage(settings) as storage:
            data = noise(600_000)
            await storage.upload_file("a", data, encryption=KEY)
            proxy.add(method="GET", cut="rst", at=("body", 100_000), times=1)
            assert await storage.get_file("a", encryption=KEY) == data


async def test_a_download_that_was_interrupted_goes_on_with_the_key(
    b2: Place, b2_server: B2Server, tmp_path: Path
) -> None:
    data = noise(3 * b2.part)
    await b2.storage.upload_file("a", data, encryption=KEY)
    ranges = itertools.count()
    refused = b2_server.faults.always(
        "GetObject", status=403, code="AccessDenied", when=lambda _: next(ranges) >= 2
    )
    with pytest.raises(AccessDeniedError):
        await b2.storage.download_file("a", tmp_path / "a", encryption=KEY, resume=True)
    assert refused.hits
    b2_server.faults.clear()
    result = await b2.storage.download_file("a", tmp_path / "a", encryption=KEY, resume=True)
    assert result.reused > 0
    assert (tmp_path / "a").read_bytes() == data


def always(response: bytes, _: Asked) -> bytes:
    return response


async def test_a_response_with_impossible_protection_is_the_servers_error() -> None:
    bad = (
        "x-amz-object-lock-mode: ETERNAL",
        "x-amz-object-lock-mode: GOVERNANCE",
        "x-amz-object-lock-retain-until-date: 2027-01-01T00:00:00Z",
        "x-amz-object-lock-mode: GOVERNANCE\r\nx-amz-object-lock-retain-until-date: soon",
        "x-amz-object-lock-mode: GOVERNANCE\r\nx-amz-object-lock-retain-until-date: 2027-01-01",
        "x-amz-object-lock-mode: GOVERNANCE\r\n"
        "x-amz-object-lock-retain-until-date: 9999-12-31T23:59:59-14:00",
        "x-amz-object-lock-legal-hold: MAYBE",
    )
    for headers in bad:
        head = (
            'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nETag: "a"\r\n'
            f"Last-Modified: Mon, 23 Nov 2026 06:48:48 GMT\r\n{headers}\r\n\r\nx"
        )
        async with HostileServer(functools.partial(always, head.encode())) as server:
            settings = server.settings(retry_attempts=1)
            async with BackblazeStorage(settings) as storage:
                with pytest.raises(ServerResponseError):
                    await storage.get_file("a")


# --- what is refused before any request -------------------------------------------------


@pytest.mark.parametrize("bad", ["AES256", b"0" * 32, "A" * 43 + "=", True, "SSE-C"])
async def test_what_is_no_encryption_is_refused_and_not_repeated(
    b2: Place, b2_server: B2Server, bad: Any
) -> None:
    b2_server.requests.clear()
    for call in (
        lambda: b2.storage.upload_file("a", b"x", encryption=bad),
        lambda: b2.storage.get_file("a", encryption=bad),
        lambda: b2.storage.file_exists("a", encryption=bad),
        lambda: b2.storage.get_signed_url("a", encryption=bad),
    ):
        with pytest.raises(InvalidInputError, match="encryption") as caught:
            await call()
        assert str(bad) not in str(caught.value)
    assert b2_server.requests == []


async def test_a_key_is_not_sent_over_http_to_another_machine(settings: StorageSettings) -> None:
    far = StorageSettings.model_validate(
        settings.model_dump() | {"endpoint": "http://storage.example", "allow_http": True}
    )
    async with BackblazeStorage(far) as storage:
        for call in (
            lambda: storage.upload_file("a", b"x", encryption=KEY),
            lambda: storage.upload_recording("CA1", b"x", "a.wav", encryption=KEY),
            lambda: storage.upload_from_url("CA1", "https://x.example/a", "a", encryption=KEY),
            lambda: storage.get_file("a", encryption=KEY),
            lambda: storage.open_file("a", encryption=KEY),
            lambda: storage.download_file("a", "a", encryption=KEY),
            lambda: storage.get_file_metadata("a", encryption=KEY),
            lambda: storage.file_exists("a", encryption=KEY),
            lambda: storage.get_signed_url("a", encryption=KEY),
            lambda: storage.keep_incomplete_upload("a", "id", encryption=KEY),
            lambda: storage.admin.copy_file("a", "b", source_encryption=KEY),
            lambda: storage.admin.copy_file("a", "b", encryption=KEY),
        ):
            with pytest.raises(InvalidInputError, match="https"):
                await call()
        with pytest.raises(InvalidInputError, match="https"):
            storage.open_recording("CA1", "a.wav", encryption=KEY)
        assert storage.request_counts() == {}


@pytest.mark.parametrize("bad", [b"short", b"0" * 33, "0" * 32, None])
def test_a_key_has_32_bytes(bad: Any) -> None:
    with pytest.raises(InvalidInputError, match="32 bytes"):
        CustomerKey(bad)
    with pytest.raises(InvalidInputError, match="32 bytes"):
        CustomerKey.from_base64(bad)


# --- secrecy ----------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(whole.format()) + repr(vars(error)) + repr(error.args)


async def error_of(call: Callable[[], Awaitable[Any]]) -> StorageError:
    """Caught here, since the frames of the test itself know the key."""
    try:
        await call()
    except StorageError as error:
        return error
    raise AssertionError("it should have failed")


@pytest.mark.parametrize("large", [False, True])
async def test_the_key_is_in_no_log_and_no_traceback(
    b2: Place, b2_server: B2Server, caplog: pytest.LogCaptureFixture, large: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = CustomerKey.generate()
    texts = (secret.to_base64(), repr(secret._key)[2:-1])
    data = noise(b2.part + 7) if large else b"x"
    b2_server.faults.next("UploadPart" if large else "PutObject", status=400, code="Bad")
    errors: list[BaseException] = []
    for call in (
        lambda: b2.storage.upload_file("a", data, encryption=secret),
        lambda: b2.storage.get_file("missing", encryption=secret),
        lambda: b2.storage.get_file_metadata("missing", encryption=secret),
        lambda: b2.storage.get_signed_url("a", 0, encryption=secret),
    ):
        error = await error_of(call)
        errors += [error, *filter(None, (error.__cause__,))]
    await b2.storage.upload_file("a", data, encryption=secret)
    for each in errors:
        assert not [text for text in texts if text in shown(each)]
    assert not [text for text in texts if text in caplog.text]
    assert not [text for text in texts for seen in b2_server.requests if text in repr(seen)]


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_shown_and_pickled_nowhere(key: bytes) -> None:
    customer = CustomerKey(key)
    assert CustomerKey.from_base64(customer.to_base64()) == customer
    headers = encryption_headers(customer)
    for text in (repr(customer), str(customer), repr(headers), repr([headers]), f"{headers!s}"):
        assert customer.to_base64() not in text
    assert customer.to_base64() not in lasting(headers).values()
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(customer)


def test_a_key_that_is_refused_is_in_no_traceback() -> None:
    almost = CustomerKey.generate().to_base64()[:-5]
    try:
        CustomerKey.from_base64(almost)
    except InvalidInputError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        ours = [frame for frame in frames.stack if "protection" in frame.filename]
        assert ours
        assert almost not in repr([frame.locals for frame in ours])
