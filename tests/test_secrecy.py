"""No secret and no signature in anything that is printed, logged or raised."""

from __future__ import annotations

import logging
import pickle
import re
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from careflow_storage import BackblazeStorage, StorageError, StorageSettings
from tests.bodies import noise

SECRET = "K005cvEryS3cretApplicationKey+/"
SIGNATURE = re.compile(r"signature=|AWS4-HMAC|\b[0-9a-f]{64}\b", re.IGNORECASE)

Call = Callable[[BackblazeStorage], Awaitable[Any]]

CALLS: list[Call] = [
    lambda storage: storage.upload_file("a", b"x"),
    lambda storage: storage.upload_file("a", noise(200_000)),
    lambda storage: storage.get_file("a"),
    lambda storage: storage.get_file_metadata("a"),
    lambda storage: storage.list_files(),
    lambda storage: storage.delete_files(["a"]),
    lambda storage: storage.purge_file("a"),
]


def assert_silent(text: str) -> None:
    assert SECRET not in text
    assert SIGNATURE.search(text) is None, text


async def provoke(settings: StorageSettings) -> list[StorageError]:
    """Let every kind of request fail."""
    errors = []
    async with BackblazeStorage(settings) as storage:
        for call in CALLS:
            with pytest.raises(StorageError) as caught:
                await call(storage)
            errors.append(caught.value)
    return errors


def check(errors: list[StorageError], caplog: pytest.LogCaptureFixture) -> None:
    for error in errors:
        assert_silent("".join(traceback.format_exception(error)))
        assert_silent(str(error))
        assert_silent(repr(error))
        assert_silent(repr(vars(error)))
        assert_silent(repr(pickle.dumps(error)))
    for record in caplog.records:
        if record.name.startswith("careflow_storage"):
            assert_silent(record.getMessage())
            assert_silent(repr(vars(record)))


@pytest.mark.integration
async def test_given_a_wrong_secret_then_no_error_and_no_log_shows_it(
    seaweed_settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "careflow_storage")
    settings = seaweed_settings.model_copy(
        update={"application_key": SECRET, "multipart_threshold": 100_000}
    )
    check(await provoke(settings), caplog)


async def test_given_no_connection_then_no_error_and_no_log_shows_the_secret(
    settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "careflow_storage")
    with socket.socket() as bound:  # but not listening
        bound.bind(("127.0.0.1", 0))
        settings = settings.model_copy(
            update={
                "application_key": SECRET,
                "endpoint": f"http://127.0.0.1:{bound.getsockname()[1]}",
                "multipart_threshold": 100_000,
                "retry_attempts": 3,
            }
        )
        check(await provoke(settings), caplog)
    assert any("retrying" in record.getMessage() for record in caplog.records)


async def test_given_an_open_storage_then_nothing_that_prints_it_shows_the_secret(
    settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "careflow_storage")
    settings = settings.model_copy(update={"application_key": SECRET})
    async with BackblazeStorage(settings) as storage:
        await storage.upload_file("a", b"x")
        url = await storage.get_signed_url("a")
        client = await storage.client()
        engine = storage._lifecycle.engine()
        for thing in (storage, storage.settings, engine, engine.session, client):
            assert SECRET not in repr(thing)
            assert SECRET not in str(thing)
        assert SECRET not in storage.settings.model_dump_json()
        assert SECRET not in url
    check([], caplog)


@pytest.mark.parametrize(
    "bad",
    [
        {"endpoint": f"https://user:{SECRET}@host"},
        {"part_size": 1},
        {"bucket_name": "../b", "region": "us-west-004"},
    ],
)
def test_given_settings_that_are_refused_then_the_error_does_not_show_the_secret(
    bad: dict[str, Any],
) -> None:
    with pytest.raises((ValidationError, StorageError)) as caught:
        StorageSettings(**{"application_key": SECRET, "key_id": "id", **bad})
    assert_silent("".join(traceback.format_exception(caught.value)))


def test_given_an_environment_that_is_refused_then_the_error_does_not_show_the_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BACKBLAZE_APPLICATION_KEY", SECRET)
    monkeypatch.setenv("BACKBLAZE_KEY_ID", "0123456789ab")
    monkeypatch.setenv("BACKBLAZE_REGION", "us-west-004")
    with pytest.raises(StorageError) as caught:
        BackblazeStorage()
    assert_silent("".join(traceback.format_exception(caught.value)))
