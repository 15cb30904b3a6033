"""Batch deletions: one odd key does not stop the others, and no result is lost."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidInputError,
    ServiceUnavailableError,
    StorageError,
)
from careflow_storage.recordings import validate_key
from careflow_storage.testing import B2Server
from tests.support.command import Command
from tests.support.hostile import Asked, HostileServer, raw_response

MARK: dict[str, Any] = {"x-amz-request-id": "7"}
ODD = ["k\uffff", "\ufffe", "a/\uffffb/ä"]


def batch_response(asked: Asked) -> bytes:
    """Delete all keys that the body names."""
    names = asked.body.decode().split("<Key>")[1:]
    deleted = "".join(f"<Deleted><Key>{name.partition('<')[0]}</Key></Deleted>" for name in names)
    return raw_response(f"<DeleteResult>{deleted}</DeleteResult>".encode(), **MARK)


def denied(status: str = "403 Forbidden", code: str = "AccessDenied") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>Not Entitled</Message></Error>"
    return raw_response(body.encode(), status, **MARK)


@pytest.mark.parametrize("key", ODD)
async def test_a_key_that_xml_cannot_name_is_not_stored(key: str) -> None:
    with pytest.raises(InvalidInputError, match="noncharacter"):
        validate_key(key)
    async with (
        HostileServer(lambda asked: raw_response()) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(InvalidInputError):
            await storage.upload_file(key, b"x")
        with pytest.raises(InvalidInputError):
            await storage.get_signed_url(key, method="PUT")
        with pytest.raises(InvalidInputError):
            await storage.admin.copy_file("a", key)
        assert not server.asked


async def test_a_file_that_others_stored_with_such_a_key_can_be_read_and_deleted() -> None:
    there = {"ETag": '"a"', "Last-Modified": "Mon, 23 Nov 2026 06:36:09 GMT", **MARK}

    def response(asked: Asked) -> bytes:
        return (
            raw_response(b"", "204 X", **MARK)
            if asked.method == "DELETE"
            else raw_response(b"", **there)
        )

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        for key in ODD:
            assert await storage.get_file(key) == b""
            assert await storage.file_exists(key)
            assert (await storage.get_file_metadata(key)).key == key
            assert (await storage.delete_file(key)).deleted
            assert key not in await storage.get_signed_url(key)
            assert server.asked[-1].target.endswith(quote(key))


async def test_odd_keys_do_not_keep_a_thousand_others_from_being_deleted() -> None:
    def response(asked: Asked) -> bytes:
        if asked.method == "POST":
            return batch_response(asked)
        return (
            denied() if asked.target.endswith(quote(ODD[1])) else raw_response(b"", "204 X", **MARK)
        )

    keys = [f"k{number:04}" for number in range(1001)]
    keys[3:3], keys[1000:1000], keys[len(keys) :] = [ODD[0]], [ODD[1]], [ODD[2]]
    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        results = await storage.delete_files(keys)
        methods = [asked.method for asked in server.asked]
    assert [result.key for result in results] == keys
    assert [result.key for result in results if not result.deleted] == [ODD[1]]
    assert results[1000].error_code == "AccessDenied"
    assert (methods.count("POST"), methods.count("DELETE")) == (2, 3)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (denied(), AccessDeniedError),
        (denied("503 X", "SlowDown"), ServiceUnavailableError),
        (raw_response(b"<DeleteResult>", **MARK), StorageError),
        (raw_response(b"<html>", "502 Bad Gateway"), StorageError),
        (b"", StorageError),
    ],
    ids=["denied", "busy", "cut off", "a proxy", "connection lost"],
)
async def test_the_results_of_the_batches_before_are_not_lost(
    failure: bytes, expected: type[StorageError], odd: bool
) -> None:
    def response(asked: Asked) -> Any:
        if asked.method == "DELETE" or b"<Key>k0" in asked.body:
            return batch_response(asked) if asked.method == "POST" else raw_response(b"", "204 X")
        return failure or _nothing()

    keys = [f"k{number:04}" for number in range(2500)]
    if odd:
        keys[5] = ODD[0]
    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        with pytest.raises(expected) as caught:
            await storage.delete_files(keys)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert [result.key for result in error.results] == keys
    assert [result.deleted for result in error.results] == [True] * 1000 + [False] * 1500
    assert error.results[-1].error_message == error.message
    assert error.results[-1].error_code == error.code


async def _nothing() -> Any:
    return
    yield b""


async def test_a_first_batch_that_fails_has_no_results() -> None:
    async with (
        HostileServer(lambda asked: denied()) as server,
        BackblazeStorage(server.settings()) as storage,
    ):
        with pytest.raises(AccessDeniedError) as caught:
            await storage.delete_files(["a", "b"])
    assert list(caught.value.results) == []


async def test_a_deletion_that_is_cancelled_between_batches_is_cancelled() -> None:
    second = asyncio.Event()

    def response(asked: Asked) -> Any:
        if b"<Key>k0" in asked.body:
            return batch_response(asked)
        second.set()
        return _silence()

    async def _silence() -> Any:
        await asyncio.Event().wait()
        yield b""

    keys = [f"k{number:04}" for number in range(1500)]
    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        task = asyncio.create_task(storage.delete_files(keys))
        await second.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_purge_erases_what_xml_cannot_name() -> None:
    left = {(key, f"v{number}") for number, key in enumerate([*ODD, "a\x01", "b\rc", "plain"])}

    def response(asked: Asked) -> bytes:
        if "uploads" in asked.target:
            root = "ListMultipartUploadsResult"
            return raw_response(
                f"<{root}><IsTruncated>false</IsTruncated></{root}>".encode(), **MARK
            )
        if asked.method == "GET":
            entries = "".join(
                f"<Version><Key>{quote(key)}</Key><VersionId>{version}</VersionId>"
                "<IsLatest>true</IsLatest><LastModified>2026-11-23T06:36:09Z</LastModified>"
                "<ETag>a</ETag><Size>1</Size></Version>"
                for key, version in sorted(left)
            )
            document = (
                "<ListVersionsResult><IsTruncated>false</IsTruncated>"
                f"<EncodingType>url</EncodingType>{entries}</ListVersionsResult>"
            )
            return raw_response(document.encode(), **MARK)
        if asked.method == "DELETE":
            path = asked.target.partition("?")[0]
            left.discard(next(pair for pair in left if path.endswith("/" + quote(pair[0]))))
            return raw_response(b"", "204 X", **MARK)
        left.discard(("plain", "v5"))
        return raw_response(
            b"<DeleteResult><Deleted><Key>plain</Key><VersionId>v5</VersionId></Deleted>"
            b"</DeleteResult>",
            **MARK,
        )

    async with HostileServer(response) as server, BackblazeStorage(server.settings()) as storage:
        result = await storage.admin.purge_files("", confirm="recordings-bucket")
    assert result.versions == 6
    assert not left


async def test_the_command_line_reports_what_it_has_hidden_before_a_failure() -> None:
    def listing(first: int, more: str) -> bytes:
        entries = "".join(
            f"<Contents><Key>{escape(f'k{number}')}</Key><Size>1</Size><ETag>a</ETag>"
            "<LastModified>2026-11-23T06:36:09Z</LastModified></Contents>"
            for number in range(first, first + 2)
        )
        return raw_response(
            f"<ListBucketResult>{more}{entries}</ListBucketResult>".encode(), **MARK
        )

    def response(asked: Asked) -> bytes:
        if asked.method == "POST":
            return batch_response(asked) if b"<Key>k1<" in asked.body else denied()
        if "continuation-token" in asked.target:
            return listing(3, "<IsTruncated>false</IsTruncated>")
        return listing(
            1,
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        )

    async with HostileServer(response) as server:
        ran = await Command(server.settings())("rm", "--prefix", "k", "--yes")
    assert ran.code != 0
    assert "Hidden before the error: 2 files" in ran.err


async def test_on_the_emulator_odd_keys_and_others_are_deleted_together() -> None:
    with B2Server() as server:
        async with BackblazeStorage(server.settings()) as storage:
            await storage.upload_file("a", b"x")
            results = await storage.delete_files(["a", *ODD])
            assert all(result.deleted for result in results)
            assert await storage.list_files() == []
