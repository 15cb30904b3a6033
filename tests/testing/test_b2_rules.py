"""Where B2 differs from other S3 servers, the emulator does as B2."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from careflow_storage import (
    BackblazeStorage,
    CapExceededError,
    NoSuchKeyError,
    PreconditionFailedError,
)
from careflow_storage._s3.signing.signer import UNSIGNED_PAYLOAD, Credentials, Signer
from careflow_storage.testing import B2Server
from tests.support.b2_wire import RawClient, wire_to

pytest_plugins = ["careflow_storage.testing.plugin"]

BODY = b"hello"
MD5 = base64.b64encode(hashlib.md5(BODY, usedforsecurity=False).digest()).decode()


@pytest.fixture
async def wire(b2_server: B2Server) -> AsyncIterator[RawClient]:
    async with wire_to(b2_server) as opened:
        yield opened


@pytest.fixture
async def storage(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings()) as opened:
        yield opened


async def test_buckets_keep_every_version_and_deleting_by_name_hides(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    await storage.upload_file("key", b"one")
    stored = await storage.upload_file("key", b"two")
    assert stored.version_id is not None
    hidden = await storage.delete_file("key")
    assert hidden.delete_marker
    newest, second, first = b2_server.versions("key")
    assert (newest.is_delete_marker, newest.version_id) == (True, hidden.version_id)
    assert (second.body, second.version_id, second.is_latest) == (b"two", stored.version_id, False)
    assert first.body == b"one"


async def test_a_hidden_key_is_a_404_that_says_so_and_unhides_when_its_marker_goes(
    storage: BackblazeStorage, wire: RawClient
) -> None:
    await storage.upload_file("key", BODY)
    hidden = await storage.delete_file("key")
    for method in ("GET", "HEAD"):
        reply = await wire.ask(method, "key")
        assert reply.status == 404
        assert reply.headers["x-amz-delete-marker"] == "true"
    with pytest.raises(NoSuchKeyError, match="delete marker"):
        await storage.get_file("key")
    erased = await wire.ask("DELETE", "key", {"versionId": str(hidden.version_id)})
    assert (erased.status, erased.headers["x-amz-delete-marker"]) == (204, "true")
    assert await storage.get_file("key") == BODY


async def test_versioning_cannot_be_switched_off(wire: RawClient) -> None:
    body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    reply = await wire.ask("PUT", query={"versioning": ""}, body=body)
    assert reply.refusal == (501, "NotImplemented")
    assert "Enabled" in (await wire.ask("GET", query={"versioning": ""})).body.decode()


@pytest.mark.parametrize("name", ["if-match", "if-none-match"])
async def test_conditional_writes_are_not_implemented(wire: RawClient, name: str) -> None:
    reply = await wire.ask("PUT", "key", headers={name: "*"}, body=BODY)
    assert reply.refusal == (501, "NotImplemented")
    assert reply.field("Message").startswith("A header you provided implies functionality")


async def test_overwrite_false_is_kept_without_conditional_writes(
    storage: BackblazeStorage,
) -> None:
    await storage.upload_file("key", BODY, overwrite=False)
    with pytest.raises(PreconditionFailedError):
        await storage.upload_file("key", b"other", overwrite=False)
    assert await storage.get_file("key") == BODY


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({"x-amz-tagging": "a=b"}, (400, "InvalidArgument")),
        ({"x-amz-acl": "public-read-write"}, (400, "InvalidArgument")),
        ({"x-amz-grant-read": "id=x"}, (400, "InvalidArgument")),
        ({"x-amz-server-side-encryption": "aws:kms"}, (400, "InvalidArgument")),
        ({"x-amz-meta-b2-x": "1"}, (400, "InvalidArgument")),
        ({f"x-amz-meta-{'n' * 51}": "1"}, (400, "InvalidArgument")),
        ({"x-amz-meta-n": "v" * 2048}, (400, "MetadataTooLarge")),
        ({"content-md5": MD5[::-1]}, (400, "InvalidDigest")),
        ({"content-md5": base64.b64encode(bytes(16)).decode()}, (400, "BadDigest")),
        ({"x-amz-checksum-crc32": base64.b64encode(bytes(4)).decode()}, (400, "BadDigest")),
        ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, (400, "BadDigest")),
        ({"x-amz-checksum-sha1": "?"}, (400, "InvalidRequest")),
    ],
)
async def test_a_put_with_a_bad_header_is_refused_and_stores_nothing(
    wire: RawClient, b2_server: B2Server, headers: dict[str, str], refusal: tuple[int, str]
) -> None:
    reply = await wire.ask("PUT", "key", headers=headers, body=BODY)
    assert reply.refusal == refusal
    assert b2_server.versions() == []


async def test_a_put_with_all_good_headers_is_stored(wire: RawClient, b2_server: B2Server) -> None:
    headers = {
        "content-md5": MD5,
        "x-amz-acl": "private",
        "x-amz-checksum-crc32": base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode(),
        "x-amz-meta-odd!~name": "v",
        "x-amz-meta-full": "v" * 2000,
        "x-amz-server-side-encryption": "AES256",
    }
    reply = await wire.ask("PUT", "key", headers=headers, body=BODY)
    assert reply.status == 200
    assert reply.headers["ETag"] == f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
    (stored,) = b2_server.versions("key")
    assert reply.headers["x-amz-version-id"] == stored.version_id
    assert stored.metadata == {"odd!~name": "v", "full": "v" * 2000}


async def test_the_tagging_message_is_b2s(wire: RawClient) -> None:
    reply = await wire.ask("PUT", "key", headers={"x-amz-tagging": "a=b"}, body=BODY)
    expected = "Unsupported header 'x-amz-tagging' received for this API call."
    assert reply.field("Message") == expected


async def test_the_payload_hash_is_verified(wire: RawClient) -> None:
    reply = await wire.ask("PUT", "key", body=BODY, payload_hash="0" * 64)
    assert reply.refusal == (400, "XAmzContentSHA256Mismatch")


@pytest.mark.parametrize(
    ("crc", "status"), [(zlib.crc32(BODY), 200), (0, 400)], ids=["right", "wrong"]
)
async def test_a_trailing_checksum_is_verified_and_its_framing_taken_away(
    wire: RawClient, b2_server: B2Server, crc: int, status: int
) -> None:
    checksum = base64.b64encode(crc.to_bytes(4, "big"))
    framed = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + checksum + b"\r\n\r\n"
    headers = {
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    reply = await wire.ask(
        "PUT",
        "key",
        headers=headers,
        body=framed,
        payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    )
    assert reply.status == status
    assert [version.body for version in b2_server.versions()] == [BODY] * (status == 200)


@pytest.mark.parametrize(
    ("key", "refusal"),
    [("k" * 1025, (400, "KeyTooLongError")), ("a\x1fb", (400, "InvalidArgument"))],
)
async def test_a_bad_key_is_refused(wire: RawClient, key: str, refusal: tuple[int, str]) -> None:
    assert (await wire.ask("PUT", key, body=BODY)).refusal == refusal


@pytest.mark.parametrize("path", ["a%FFb", "a%C3", "%ED%A0%80", "%C0%AF"])
async def test_a_key_that_is_no_utf_8_is_refused(
    wire: RawClient, b2_server: B2Server, path: str
) -> None:
    target, key = f"/{b2_server.bucket}/{path}", b2_server.key
    headers = Signer(b2_server.region).sign(
        Credentials(key.key_id, key.application_key),
        "PUT",
        b2_server.endpoint.removeprefix("http://"),
        target,
        "",
        {},
        "UNSIGNED-PAYLOAD",
    )
    assert (await wire.send("PUT", target, headers, BODY)).refusal == (400, "InvalidArgument")
    assert b2_server.versions() == []


async def test_a_key_with_the_replacement_character_can_be_used_for_everything(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    key, copied = "a\ufffdb/\ufffd", "\ufffd\ufffd"
    await storage.upload_file(key, BODY, metadata={"name": "\ufffd"})
    await storage.admin.copy_file(key, copied)
    assert (await storage.get_file_metadata(copied)).metadata == {"name": "\ufffd"}
    assert [file.key for file in await storage.list_files("a\ufffd")] == [key]
    url = await storage.get_signed_url(key)
    async with aiohttp.ClientSession() as player, player.get(URL(url, encoded=True)) as response:
        assert await response.read() == BODY
    assert all(result.deleted for result in await storage.delete_files([key, copied]))
    assert await storage.list_files() == []
    assert (await storage.purge_file(key)).versions == 1


@pytest.mark.parametrize(
    "key",
    ["größe/録音 🎙️.webm", "a//b///c", "+%41 &=?#", "end/", "k" * 1024, "\ufffd", "a\ufffd/b"],
)
async def test_a_strange_but_good_key_is_kept_byte_by_byte(
    storage: BackblazeStorage, b2_server: B2Server, key: str
) -> None:
    await storage.upload_file(key, BODY)
    assert await storage.get_file(key) == BODY
    assert [file.key for file in await storage.list_files()] == [key]
    assert [version.key for version in b2_server.versions()] == [key]


async def test_a_put_of_more_than_5_gb_is_refused_before_it_is_sent(
    b2_server: B2Server,
) -> None:
    host = b2_server.endpoint.removeprefix("http://")
    path, key = f"/{b2_server.bucket}/key", b2_server.key
    headers = Signer(b2_server.region).sign(
        Credentials(key.key_id, key.application_key), "PUT", host, path, "", {}, UNSIGNED_PAYLOAD
    )
    reader, writer = await asyncio.open_connection(*host.split(":"))
    lines = [f"PUT {path} HTTP/1.1", f"Host: {host}", "Content-Length: 5000000001"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert response.startswith(b"HTTP/1.1 400 ")
    assert b"<Code>EntityTooLarge</Code>" in response


async def test_post_policies_and_unknown_calls_are_refused(wire: RawClient) -> None:
    assert (await wire.ask("POST", body=b"form")).refusal == (501, "NotImplemented")
    assert (await wire.ask("GET", query={"policy": ""})).refusal == (501, "NotImplemented")
    assert (await wire.ask("PUT", "key", {"tagging": ""})).refusal == (501, "NotImplemented")
    assert (await wire.ask("PATCH", "key")).refusal == (405, "MethodNotAllowed")


async def test_bucket_names_follow_b2(wire: RawClient) -> None:
    for name in ("short", "b2-reserved", "two..dots"):
        assert (await wire.ask("PUT", bucket=name)).refusal == (400, "InvalidBucketName")
    assert (await wire.ask("PUT", bucket="long-enough")).status == 200
    assert (await wire.ask("PUT", bucket="long-enough")).status == 409
    assert (await wire.ask("GET", bucket="not-there")).refusal == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("cap", "works", "fails"),
    [
        ("download", "PUT", "GET"),
        ("storage", "GET", "PUT"),
        ("transaction", "PUT", "HEAD"),
    ],
)
async def test_a_used_up_cap_refuses_what_it_is_about(
    wire: RawClient, b2_server: B2Server, cap: str, works: str, fails: str
) -> None:
    assert (await wire.ask("PUT", "key", body=BODY)).status == 200
    b2_server.capped = {cap}
    assert (await wire.ask(works, "key")).status == 200
    assert (await wire.ask(fails, "key")).status == 403


async def test_the_storage_distinguishes_a_cap_from_a_missing_permission(
    storage: BackblazeStorage, b2_server: B2Server
) -> None:
    b2_server.capped = {"storage", "download"}
    with pytest.raises(CapExceededError):
        await storage.upload_file("key", BODY)
    with pytest.raises(CapExceededError):
        await storage.get_file("key")


async def test_cors_lets_in_whom_the_bucket_names(wire: RawClient) -> None:
    rules = (
        b"<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>"
        b"<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader>"
        b"<ExposeHeader>etag</ExposeHeader></CORSRule></CORSConfiguration>"
    )
    md5 = base64.b64encode(hashlib.md5(rules, usedforsecurity=False).digest()).decode()
    put = await wire.ask("PUT", query={"cors": ""}, body=rules, headers={"content-md5": md5})
    assert put.status == 200
    for origin, status in (("https://app.example", 200), ("https://other.example", 403)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        reply = await wire.send("OPTIONS", f"/{wire.server.bucket}/key", headers)
        assert reply.status == status


async def test_every_response_has_request_ids(wire: RawClient) -> None:
    for reply in (await wire.ask("GET", "key"), await wire.ask("PUT", "key", body=BODY)):
        assert reply.headers["x-amz-request-id"]
        assert reply.headers["x-amz-id-2"]


async def test_the_whole_life_of_a_real_recording(
    storage: BackblazeStorage, b2_server: B2Server, recordings: dict[str, Path], tmp_path: Path
) -> None:
    for name, path in recordings.items():
        result = await storage.upload_recording("CA123", path, name)
        done = await storage.download_file(result.key, tmp_path / name)
        assert (tmp_path / name).read_bytes() == path.read_bytes()
        assert (done.verified, done.version_id) == ("md5", result.version_id)
        copied = await (await storage.client()).copy_object(
            Bucket=b2_server.bucket,
            Key=f"copy/{name}",
            CopySource={"Bucket": b2_server.bucket, "Key": result.key},
        )
        assert copied["CopyObjectResult"]["ETag"] == f'"{result.etag}"'
    keys = [file.key for file in await storage.list_files("recordings/CA123/")]
    assert len(keys) == len(recordings)
    assert all(result.deleted for result in await storage.delete_files(keys))
    for key in keys:
        assert (await storage.purge_file(key)).versions == 1
    left = await storage.list_files()
    assert {version.key for version in b2_server.versions()} == {file.key for file in left}
