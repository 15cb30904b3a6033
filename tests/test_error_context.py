"""What an error says about the call that failed: its public method, and S3's operation."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ConnectionFailedError,
    InvalidInputError,
    ServerResponseError,
    StorageClosedError,
    StorageError,
    StorageSettings,
)
from careflow_storage.admin import CorsRule, LifecycleRule, StorageAdmin
from careflow_storage.outbox import Outbox, OutboxEntry
from tests.support.hostile import Asked, HostileServer, raw_response

Call = Callable[[BackblazeStorage, str], Awaitable[Any]]
OutboxCall = Callable[[Outbox], Awaitable[Any]]

DENIED = raw_response(
    b"<Error><Code>AccessDenied</Code><Message>not entitled</Message></Error>", "403 Forbidden"
)
RULE = CorsRule(
    name="browser-uploads", allowed_origins=["https://app.example"], allowed_methods=["PUT"]
)
EXPIRY = LifecycleRule(prefix="recordings/", hide_after_days=30)


async def write_live(storage: BackblazeStorage, call_id: str) -> None:
    async with storage.open_recording(call_id, "a.wav") as writer:
        await writer.write(b"x")


async def stream(storage: BackblazeStorage, key: str) -> list[bytes]:
    return [chunk async for chunk in storage.stream_file(key)]


async def list_all(storage: BackblazeStorage, prefix: str) -> Any:
    return [file async for file in storage.list_files(prefix)]


async def list_folder(storage: BackblazeStorage, prefix: str) -> Any:
    return await storage.list_folder(prefix)


async def list_versions(storage: BackblazeStorage, prefix: str) -> Any:
    return [version async for version in storage.admin.list_file_versions(prefix)]


def from_url(storage: BackblazeStorage, call_id: str) -> Awaitable[Any]:
    url = f"{storage.settings.endpoint}/source"
    return storage.upload_from_url(call_id, url, "a.wav", allow_private_addresses=True)


# Each takes a key (or prefix, or call ID); S3's operations are those that may be the first to fail.
STORAGE_CALLS: dict[str, tuple[tuple[str, ...], Call]] = {
    "upload_file": (("PutObject",), lambda storage, key: storage.upload_file(key, b"x")),
    "upload_recording": (
        ("PutObject",),
        lambda storage, key: storage.upload_recording(key, b"x", "a.wav"),
    ),
    "open_recording": (("PutObject",), write_live),
    "get_file": (("GetObject",), lambda storage, key: storage.get_file(key)),
    "stream_file": (("GetObject",), stream),
    "serve_file": (("GetObject",), lambda storage, key: storage.serve_file(key)),
    "download_file": (
        ("HeadObject",),
        lambda storage, key: storage.download_file(key, Path("never-made")),
    ),
    "open_file": (("HeadObject",), lambda storage, key: storage.open_file(key)),
    "copy_from": (
        ("HeadObject",),
        lambda storage, key: storage.copy_from(storage, key, "target"),
    ),
    "delete_file": (("DeleteObject",), lambda storage, key: storage.delete_file(key)),
    "delete_files": (("DeleteObjects",), lambda storage, key: storage.delete_files([key])),
    "purge_file": (
        ("ListObjectVersions", "ListMultipartUploads"),
        lambda storage, key: storage.purge_file(key),
    ),
    "list_files": (("ListObjectsV2",), list_all),
    "list_folder": (("ListObjectsV2",), list_folder),
    "get_file_metadata": (("HeadObject",), lambda storage, key: storage.get_file_metadata(key)),
    "file_exists": (("HeadObject",), lambda storage, key: storage.file_exists(key)),
    "list_incomplete_uploads": (
        ("ListMultipartUploads",),
        lambda storage, key: storage.list_incomplete_uploads(key),
    ),
    "abort_upload": (
        ("AbortMultipartUpload",),
        lambda storage, key: storage.abort_upload(key, "id"),
    ),
    "abort_stale_uploads": (
        ("ListMultipartUploads",),
        lambda storage, key: storage.abort_stale_uploads(timedelta(days=1), prefix=key),
    ),
    "keep_incomplete_upload": (
        ("ListParts",),
        lambda storage, key: storage.keep_incomplete_upload(key, "id"),
    ),
}
ADMIN_CALLS: dict[str, tuple[tuple[str, ...], Call]] = {
    "create_bucket": (("CreateBucket",), lambda s, key: s.admin.create_bucket(f"new-{key}")),
    "list_buckets": (("ListBuckets",), lambda s, key: s.admin.list_buckets()),
    "head_bucket": (("HeadBucket", "ListObjectsV2"), lambda s, key: s.admin.head_bucket()),
    "delete_bucket": (
        ("ListObjectVersions",),
        lambda s, key: s.admin.delete_bucket("a-bucket", confirm="a-bucket"),
    ),
    "get_bucket_encryption": (
        ("GetBucketEncryption",),
        lambda s, key: s.admin.get_bucket_encryption(),
    ),
    "set_bucket_encryption": (
        ("PutBucketEncryption",),
        lambda s, key: s.admin.set_bucket_encryption("SSE-B2"),
    ),
    "get_cors_rules": (("GetBucketCors",), lambda s, key: s.admin.get_cors_rules()),
    "set_cors_rules": (("PutBucketCors",), lambda s, key: s.admin.set_cors_rules([RULE])),
    "put_cors_rule": (("GetBucketCors",), lambda s, key: s.admin.put_cors_rule(RULE)),
    "remove_cors_rule": (("GetBucketCors",), lambda s, key: s.admin.remove_cors_rule("web")),
    "allow_browser_uploads": (
        ("GetBucketCors",),
        lambda s, key: s.admin.allow_browser_uploads("https://app.example"),
    ),
    "check_cors": (
        ("GetBucketCors", "Preflight"),
        lambda s, key: s.admin.check_cors("https://app.example", key=key),
    ),
    "get_lifecycle_rules": (
        ("GetBucketLifecycleConfiguration",),
        lambda s, key: s.admin.get_lifecycle_rules(),
    ),
    "set_lifecycle_rules": (
        ("PutBucketLifecycleConfiguration",),
        lambda s, key: s.admin.set_lifecycle_rules([EXPIRY]),
    ),
    "put_lifecycle_rule": (
        ("GetBucketLifecycleConfiguration",),
        lambda s, key: s.admin.put_lifecycle_rule(EXPIRY),
    ),
    "remove_lifecycle_rule": (
        ("GetBucketLifecycleConfiguration",),
        lambda s, key: s.admin.remove_lifecycle_rule("recordings/"),
    ),
    "expire_recordings": (
        ("GetBucketLifecycleConfiguration",),
        lambda s, key: s.admin.expire_recordings(hide_after_days=30),
    ),
    "list_file_versions": (("ListObjectVersions",), list_versions),
    "delete_file_version": (
        ("ListObjectVersions",),
        lambda s, key: s.admin.delete_file_version(key, "v1"),
    ),
    "delete_file_versions": (
        ("DeleteObjects",),
        lambda s, key: s.admin.delete_file_versions([(key, "v1")]),
    ),
    "restore_file": (("ListObjectVersions",), lambda s, key: s.admin.restore_file(key)),
    "purge_file": (
        ("ListObjectVersions", "ListMultipartUploads"),
        lambda s, key: s.admin.purge_file(key, confirm=key),
    ),
    "purge_files": (
        ("ListObjectVersions", "ListMultipartUploads"),
        lambda s, key: s.admin.purge_files(key, confirm=key),
    ),
    "copy_file": (("HeadObject",), lambda s, key: s.admin.copy_file(key, "target")),
    "move_file": (("HeadObject",), lambda s, key: s.admin.move_file(key, "target")),
    "get_object_lock": (
        ("GetObjectLockConfiguration",),
        lambda s, key: s.admin.get_object_lock(),
    ),
    "set_object_lock": (
        ("PutObjectLockConfiguration",),
        lambda s, key: s.admin.set_object_lock(),
    ),
    "get_retention": (("GetObjectRetention",), lambda s, key: s.admin.get_retention(key)),
    "set_retention": (
        ("PutObjectRetention", "GetObjectLockConfiguration"),
        lambda s, key: s.admin.set_retention(key, None),
    ),
    "get_legal_hold": (("GetObjectLegalHold",), lambda s, key: s.admin.get_legal_hold(key)),
    "set_legal_hold": (
        ("PutObjectLegalHold", "GetObjectLockConfiguration"),
        lambda s, key: s.admin.set_legal_hold(key, True),
    ),
    "usage": (("ListObjectVersions", "ListMultipartUploads"), lambda s, key: s.admin.usage(key)),
}
SENDING = [
    *((f"storage.{name}", *row) for name, row in STORAGE_CALLS.items()),
    *((f"admin.{name}", *row) for name, row in ADMIN_CALLS.items()),
]
# A refused preflight is the result of check_cors, not an error.
REFUSED = [row for row in SENDING if row[0] != "admin.check_cors"]

# Bad input for every method that has parameters: what `SENDING` refuses with a key that no
# object can have, and what takes none.
NO_KEY = "bad\nkey"
BAD_INPUT: dict[str, Call] = {
    **{f"storage.{name}": call for name, (_, call) in STORAGE_CALLS.items()},
    **{f"admin.{name}": call for name, (_, call) in ADMIN_CALLS.items()},
    "storage.upload_from_url": from_url,
    "storage.get_signed_url": lambda storage, key: storage.get_signed_url(key),
    "storage.get_signed_urls": lambda storage, key: storage.get_signed_urls([key]),
    "storage.sign_upload": lambda storage, key: storage.sign_upload(key, content_type="audio/wav"),
    "storage.close": lambda storage, key: storage.close(-1.0),
    "admin.list_buckets": lambda s, key: s.admin.list_buckets(timeout=-1.0),
    "admin.head_bucket": lambda s, key: s.admin.head_bucket(key),
    "admin.delete_bucket": lambda s, key: s.admin.delete_bucket("a-bucket", confirm="other"),
    "admin.get_bucket_encryption": lambda s, key: s.admin.get_bucket_encryption(name=key),
    "admin.set_bucket_encryption": lambda s, key: s.admin.set_bucket_encryption(None, name=key),
    "admin.get_cors_rules": lambda s, key: s.admin.get_cors_rules(timeout=-1.0),
    "admin.set_cors_rules": lambda s, key: s.admin.set_cors_rules([key]),  # type: ignore[list-item]  # bad input
    "admin.put_cors_rule": lambda s, key: s.admin.put_cors_rule(key),  # type: ignore[arg-type]  # bad input
    "admin.remove_cors_rule": lambda s, key: s.admin.remove_cors_rule("web", timeout=-1.0),
    "admin.allow_browser_uploads": lambda s, key: s.admin.allow_browser_uploads(key),
    "admin.get_lifecycle_rules": lambda s, key: s.admin.get_lifecycle_rules(timeout=-1.0),
    "admin.set_lifecycle_rules": lambda s, key: s.admin.set_lifecycle_rules([key]),  # type: ignore[list-item]  # bad input
    "admin.put_lifecycle_rule": lambda s, key: s.admin.put_lifecycle_rule(key),  # type: ignore[arg-type]  # bad input
    "admin.remove_lifecycle_rule": lambda s, key: s.admin.remove_lifecycle_rule("", timeout=-1.0),
    "admin.expire_recordings": lambda s, key: s.admin.expire_recordings(hide_after_days=-1),
    "admin.get_object_lock": lambda s, key: s.admin.get_object_lock(timeout=-1.0),
    "admin.set_object_lock": lambda s, key: s.admin.set_object_lock(timeout=-1.0),
}
# These raise nothing that names a method, or take nothing that could be bad.
WITHOUT_INPUT = {"storage.is_configured", "storage.initialize", "storage.request_counts"} | {
    "storage.client",
    "storage.count_requests",
}


def public_methods(kind: type, prefix: str) -> set[str]:
    members = inspect.getmembers(kind, inspect.isfunction)
    return {f"{prefix}.{name}" for name, _ in members if not name.startswith("_")}


def test_every_public_method_is_called_here() -> None:
    methods = public_methods(BackblazeStorage, "storage") | public_methods(StorageAdmin, "admin")
    assert methods == set(BAD_INPUT) | WITHOUT_INPUT
    assert public_methods(Outbox, "outbox") == {f"outbox.{name}" for name in OUTBOX_CALLS}


async def failure(call: Awaitable[Any], kind: type[StorageError]) -> StorageError:
    with pytest.raises(kind) as caught:
        await call
    return caught.value


def starts_with_both(error: StorageError) -> bool:
    return str(error).startswith(f"{error.method} ({error.operation}): {error.message}")


@pytest.mark.parametrize("name", BAD_INPUT)
async def test_bad_input_names_the_method_and_no_operation(
    name: str, settings: StorageSettings
) -> None:
    async with BackblazeStorage(settings) as storage:

        async def call() -> Any:
            return await BAD_INPUT[name](storage, NO_KEY)

        error = await failure(call(), InvalidInputError)
    assert error.method == name.partition(".")[2]
    assert error.operation is None
    assert str(error).startswith(f"{error.method}: {error.message}")


@pytest.mark.parametrize(("name", "operations", "call"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_a_refusal_names_the_method_and_the_operation(
    name: str, operations: tuple[str, ...], call: Call
) -> None:
    async with (
        HostileServer(lambda asked: DENIED) as server,
        BackblazeStorage(server.settings(retry_attempts=1)) as storage,
    ):
        error = await failure(call(storage, "k"), AccessDeniedError)
    assert error.method == name.partition(".")[2]
    assert error.operation in operations
    assert starts_with_both(error)


@pytest.mark.parametrize(("name", "operations", "call"), SENDING, ids=[row[0] for row in SENDING])
async def test_a_lost_connection_names_the_method_and_the_operation(
    name: str, operations: tuple[str, ...], call: Call
) -> None:
    async with HostileServer(hang_up) as server:
        settings = server.settings(retry_attempts=1)
        async with BackblazeStorage(settings) as storage:
            error = await failure(call(storage, "k"), ConnectionFailedError)
    assert error.method == name.partition(".")[2]
    assert error.operation in operations
    assert starts_with_both(error)


# What a web server, a captive portal or a proxy sends for every path.
PAGE = b"<!doctype html><html><head><title>Log in</title></head></html>"
VALIDATORS: dict[str, Any] = {
    "ETag": '"5f3c-abc"',
    "Last-Modified": "Mon, 23 Nov 2026 06:48:48 GMT",
}


@pytest.mark.parametrize("validators", [VALIDATORS, {}], ids=["as a file has them", "none"])
async def test_a_web_page_in_the_place_of_s3_names_the_method_and_the_operation(
    validators: dict[str, Any],
) -> None:
    def respond(asked: Asked) -> bytes:
        body = b"" if asked.method == "HEAD" else PAGE
        return raw_response(body, Content_Type="text/html", **validators)

    async with (
        HostileServer(respond) as server,
        BackblazeStorage(server.settings(retry_attempts=1)) as storage,
    ):
        for name, operations, call in REFUSED:
            error = await failure(call(storage, "k"), ServerResponseError)
            assert error.method == name.partition(".")[2]
            assert error.operation in operations, name
            assert starts_with_both(error)


async def hang_up(asked: object = None) -> AsyncIterator[bytes]:
    """Close the connection without a response."""
    return
    yield b""


async def test_an_upload_from_a_url_names_its_own_method_whatever_it_sends() -> None:
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt "

    def respond(asked: Any) -> bytes:
        source = asked.method == "GET"
        return raw_response(wav, content_type="audio/wav") if source else DENIED

    async with (
        HostileServer(respond) as server,
        BackblazeStorage(server.settings(retry_attempts=1)) as storage,
    ):
        error = await failure(from_url(storage, "CA1"), AccessDeniedError)
    assert (error.method, error.operation) == ("upload_from_url", "PutObject")


async def test_a_stream_that_is_too_long_names_the_method_that_was_called(
    settings: StorageSettings, tmp_path: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"too long"

    async with (
        BackblazeStorage(settings) as storage,
        Outbox(tmp_path / "outbox", storage) as outbox,
    ):
        calls: dict[str, Awaitable[Any]] = {
            "upload_file": storage.upload_file("k", body(), size=3),
            "upload_recording": storage.upload_recording("CA1", body(), "a.wav", size=3),
            "put_recording": outbox.put_recording("CA1", body(), "a.wav", size=3),
        }
        for method, call in calls.items():
            error = await failure(call, StorageError)
            assert (error.method, error.operation) == (method, None)
            assert "more than the 3 bytes" in error.message


# --- objects that methods return ---------------------------------------------------------


async def test_a_writer_names_its_own_methods(settings: StorageSettings) -> None:
    async with BackblazeStorage(settings) as storage:
        writer = storage.open_recording("CA1", "a.wav")
        error = await failure(writer.write(b"x"), StorageClosedError)
        assert (error.method, error.operation, error.key) == ("write", None, writer.key)
        calls: dict[str, Callable[[], None]] = {
            "finish": writer.finish,
            "mark_partial": lambda: writer.mark_partial("lost"),
        }
        for name, call in calls.items():
            with pytest.raises(StorageClosedError) as caught:
                call()
            assert caught.value.method == name
        with pytest.raises(StorageClosedError) as caught:
            _ = writer.result
        assert caught.value.method == "result"


async def test_the_hint_fits_a_storage_that_is_not_open_and_one_that_is_closed(
    settings: StorageSettings,
) -> None:
    storage = BackblazeStorage(settings)
    error = await failure(storage.file_exists("a"), StorageClosedError)
    assert "initialize()" in str(error.hint)
    await storage.initialize()
    await storage.close()
    for call in (storage.file_exists("a"), storage.initialize()):
        error = await failure(call, StorageClosedError)
        assert str(error.hint).startswith("Make a new BackblazeStorage")


# --- the outbox --------------------------------------------------------------------------


async def first_entry(outbox: Outbox) -> OutboxEntry | None:
    async for entry in outbox.entries():
        return entry
    return None


OUTBOX_CALLS: dict[str, tuple[type[StorageError], OutboxCall]] = {
    "put_recording": (
        InvalidInputError,
        lambda outbox: outbox.put_recording("bad/call", b"x", "a.wav"),
    ),
    "put_url": (
        InvalidInputError,
        lambda outbox: outbox.put_url("bad/call", "https://media.example/1", "a.wav"),
    ),
    "run": (InvalidInputError, lambda outbox: outbox.run()),
    "drain": (InvalidInputError, lambda outbox: outbox.drain()),
    "retry": (InvalidInputError, lambda outbox: outbox.retry("no such entry")),
    "discard": (InvalidInputError, lambda outbox: outbox.discard("no such entry")),
    "close": (InvalidInputError, lambda outbox: outbox.close(-1.0)),
    "status": (StorageClosedError, lambda outbox: outbox.status()),
    "get": (StorageClosedError, lambda outbox: outbox.get("an entry")),
    "entries": (StorageClosedError, first_entry),
    "dead_letters": (StorageClosedError, lambda outbox: _list_dead_letters(outbox)),
    "retry_all": (StorageClosedError, lambda outbox: outbox.retry_all()),
}


async def _list_dead_letters(outbox: Outbox) -> Any:
    return await outbox.dead_letters()


@pytest.mark.parametrize("name", OUTBOX_CALLS)
async def test_an_error_of_the_outbox_names_its_method(name: str, tmp_path: Path) -> None:
    kind, call = OUTBOX_CALLS[name]
    outbox = Outbox(tmp_path / "outbox")
    if kind is StorageClosedError:
        error = await failure(call(outbox), kind)
    else:
        async with outbox:
            error = await failure(call(outbox), kind)
    assert (error.method, error.operation) == (name, None)
