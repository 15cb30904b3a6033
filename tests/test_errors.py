"""What users see when something is wrong: which error, what it carries, what it advises."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import careflow_storage
from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    ConnectionFailedError,
    InvalidCredentialsError,
    InvalidPathError,
    LocalFileError,
    NoSuchBucketError,
    NoSuchKeyError,
    NotConfiguredError,
    StorageError,
    StorageSettings,
)
from careflow_storage.local import LocalServer
from careflow_storage.local.server import Identity
from tests.support.bodies import noise

Call = Callable[[BackblazeStorage], Awaitable[Any]]

# One of each kind of request, of both planes.
CALLS: dict[str, Call] = {
    "small upload": lambda storage: storage.upload_file("a", b"x"),
    "large upload": lambda storage: storage.upload_file("a", noise(200_000)),
    "get": lambda storage: storage.get_file("a"),
    "metadata": lambda storage: storage.get_file_metadata("a"),
    "exists": lambda storage: storage.file_exists("a"),
    "list": lambda storage: storage.list_files(),
    "delete": lambda storage: storage.delete_file("a"),
    "delete many": lambda storage: storage.delete_files(["a"]),
    "purge": lambda storage: storage.purge_file("a"),
}


async def failure(call: Call, settings: StorageSettings) -> StorageError:
    """What a call raises with these settings."""
    async with BackblazeStorage(settings) as storage:
        with pytest.raises(StorageError) as caught:
            await call(storage)
    return caught.value


@pytest.mark.integration
class TestCredentials:
    @pytest.mark.parametrize(
        "wrong", [{"application_key": "K" * 31}, {"key_id": "nobody"}], ids=["secret", "key ID"]
    )
    async def test_given_wrong_credentials_then_every_call_says_so_and_what_to_verify(
        self, seaweed_settings: StorageSettings, wrong: dict[str, str]
    ) -> None:
        settings = seaweed_settings.model_copy(update={**wrong, "multipart_threshold": 100_000})
        for name, call in CALLS.items():
            error = await failure(call, settings)
            assert type(error) is InvalidCredentialsError, name
            assert error.code in {"SignatureDoesNotMatch", "InvalidAccessKeyId"}, name
            assert error.status == 403
            assert error.bucket == settings.bucket_name
            assert error.operation
            assert error.request_id
            assert not error.retryable
            assert "BACKBLAZE_APPLICATION_KEY" in str(error)


@pytest.mark.integration
async def test_given_a_missing_bucket_then_every_call_says_so(
    seaweed_settings: StorageSettings,
) -> None:
    settings = seaweed_settings.model_copy(
        update={"bucket_name": "no-such-bucket", "multipart_threshold": 100_000}
    )
    for name, call in CALLS.items():
        error = await failure(call, settings)
        assert type(error) is NoSuchBucketError, name
        assert (error.code, error.status, error.bucket) == ("NoSuchBucket", 404, "no-such-bucket")
        assert "BACKBLAZE_BUCKET_NAME" in str(error)


@pytest.mark.integration
async def test_given_a_missing_key_then_the_error_is_also_a_file_not_found(
    seaweed_storage: BackblazeStorage, tmp_path: Path
) -> None:
    calls: dict[str, Call] = {
        "GetObject": lambda storage: storage.get_file("missing"),
        "HeadObject": lambda storage: storage.get_file_metadata("missing"),
    }
    for operation, call in calls.items():
        with pytest.raises(FileNotFoundError) as caught:
            await call(seaweed_storage)
        error = caught.value
        assert isinstance(error, NoSuchKeyError)
        assert (error.operation, error.key, error.status) == (operation, "missing", 404)
        assert error.bucket == seaweed_storage.settings.bucket_name
        assert error.request_id
        assert "missing" in str(error)
    with pytest.raises(NoSuchKeyError):
        await seaweed_storage.download_file("missing", tmp_path / "a")
    with pytest.raises(NoSuchKeyError):
        await seaweed_storage.open_file("missing")
    assert not await seaweed_storage.file_exists("missing")


class TestConnections:
    async def test_given_an_endpoint_without_a_server_then_the_error_is_also_a_connection_error(
        self, settings: StorageSettings
    ) -> None:
        with socket.socket() as bound:  # but not listening
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            settings = settings.model_copy(
                update={"endpoint": url, "retry_attempts": 2, "multipart_threshold": 100_000}
            )
            for name, call in CALLS.items():
                error = await failure(call, settings)
                assert isinstance(error, ConnectionFailedError), name
                assert isinstance(error, ConnectionError)
                assert error.retryable
                assert error.operation
                assert error.bucket == settings.bucket_name

    async def test_given_a_host_that_has_no_address_then_the_error_names_it(
        self, settings: StorageSettings
    ) -> None:
        settings = settings.model_copy(
            update={"endpoint": "https://nowhere.invalid", "retry_attempts": 1}
        )
        error = await failure(CALLS["get"], settings)
        assert isinstance(error, ConnectionFailedError)
        assert "nowhere.invalid" in str(error)


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalServer]:
    """A server with keys as limited as B2's can be."""
    bucket = "guarded"
    identities = [
        Identity("reader", "reader-secret", (f"Read:{bucket}/tenant1/*",)),
        Identity("writer", "writer-secret", (f"Write:{bucket}/tenant1/*",)),
        Identity("lister", "lister-secret", (f"List:{bucket}",)),
    ]
    with LocalServer(bucket=bucket, identities=identities) as server:
        yield server


@pytest.mark.integration
class TestLimitedKeys:
    @pytest.fixture(autouse=True)
    async def files(self, guarded: LocalServer) -> None:
        async with BackblazeStorage(guarded.settings()) as owner:
            await owner.upload_file("tenant1/a", b"x")
            await owner.upload_file("tenant2/a", b"x")

    def limited(self, guarded: LocalServer, who: str) -> BackblazeStorage:
        return BackblazeStorage(
            guarded.settings(
                key_id=who, application_key=f"{who}-secret", multipart_threshold=100_000
            )
        )

    async def test_given_a_key_for_one_tenant_then_the_others_files_are_denied_with_a_hint(
        self, guarded: LocalServer
    ) -> None:
        async with self.limited(guarded, "reader") as storage:
            assert await storage.get_file("tenant1/a") == b"x"
            calls: dict[str, Call] = {
                "get": lambda storage: storage.get_file("tenant2/a"),
                "metadata": lambda storage: storage.get_file_metadata("tenant2/a"),
                "exists": lambda storage: storage.file_exists("tenant2/a"),
                "list": lambda storage: storage.list_files(),
                "upload": lambda storage: storage.upload_file("tenant1/b", b"x"),
                "large upload": lambda storage: storage.upload_file("tenant1/b", noise(200_000)),
                "delete": lambda storage: storage.delete_file("tenant1/a"),
                "purge": lambda storage: storage.purge_file("tenant1/a"),
            }
            for name, call in calls.items():
                with pytest.raises(PermissionError) as caught:
                    await call(storage)
                error = caught.value
                assert isinstance(error, AccessDeniedError), name
                assert (error.code, error.status) == ("AccessDenied", 403), name
                assert error.request_id, name
                assert error.hint, name
                assert not error.retryable

    async def test_given_a_write_only_key_when_it_deletes_many_then_each_result_has_an_error(
        self, guarded: LocalServer
    ) -> None:
        async with self.limited(guarded, "writer") as storage:
            await storage.upload_file("tenant1/b", b"x")
            try:
                results = await storage.delete_files(["tenant1/b", "tenant2/a"])
            except AccessDeniedError:
                return
            assert [result.deleted for result in results] == [True, False]
            assert results[1].error_code == "AccessDenied"

    async def test_given_a_file_that_cannot_be_seen_then_its_existence_is_neither_true_nor_false(
        self, guarded: LocalServer
    ) -> None:
        async with self.limited(guarded, "writer") as storage:
            with pytest.raises(AccessDeniedError, match="listBuckets"):
                await storage.file_exists("tenant1/a")

    async def test_given_a_key_that_may_list_but_not_read_then_the_listing_shows_existence(
        self, guarded: LocalServer
    ) -> None:
        async with self.limited(guarded, "lister") as storage:
            assert await storage.file_exists("tenant1/a")
            assert not await storage.file_exists("tenant1/")
            assert not await storage.file_exists("tenant1/missing")


def every_error() -> list[StorageError]:
    classes = [
        value
        for value in vars(careflow_storage).values()
        if isinstance(value, type) and issubclass(value, StorageError)
    ]
    details: dict[str, Any] = {
        "operation": "GetObject",
        "bucket": "recordings",
        "key": "größe 录音",
        "code": "SomeCode",
        "status": 499,
        "request_id": "abc",
        "retryable": True,
        "hint": "Try something else.",
        "retry_after": 2.5,
        "unfinished_upload_id": "id",
    }
    return [
        kind(("BACKBLAZE_KEY_ID",), **details)
        if issubclass(kind, NotConfiguredError)
        else kind("It went wrong.", **details)
        for kind in classes
    ]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_given_any_error_when_sent_to_another_process_then_it_arrives_whole(
    error: StorageError, protocol: int
) -> None:
    error.add_note("seen by the worker")
    for arrived in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):  # noqa: S301
        assert type(arrived) is type(error)
        assert vars(arrived) == vars(error)
        assert (str(arrived), repr(arrived)) == (str(error), repr(error))
        assert arrived.args == error.args


@pytest.mark.parametrize("kind", [LocalFileError, InvalidPathError])
def test_given_an_error_of_a_local_file_then_it_is_an_os_error_also_in_another_process(
    kind: type[LocalFileError],
) -> None:
    number = errno.ENOSPC
    error = kind("It is full.", errno=number, strerror=os.strerror(number), filename="/a/b")
    for one in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert isinstance(one, OSError)
        assert isinstance(one, StorageError)
        assert (one.errno, one.strerror, one.filename) == (number, os.strerror(number), "/a/b")
        assert one.message == "It is full."


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_given_any_error_when_printed_then_it_says_where_why_and_what_to_do(
    error: StorageError,
) -> None:
    for text in ("GetObject", "recordings", "größe", "SomeCode", "499", "abc", "Try something"):
        assert text in str(error)
