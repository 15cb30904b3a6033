"""A recording whose sender was cut off: `RecordingCutOff` leaves its block."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from careflow_storage import BackblazeStorage, OnError, RecordingCutOff, RecordingWriter
from tests.support.bodies import noise


async def cut_off(
    storage: BackblazeStorage,
    data: bytes,
    on_error: OnError = "keep",
    *,
    before: Callable[[RecordingWriter], None] = lambda recording: None,
) -> str:
    """Write ``data``, then lose the sender; return the key."""
    error = RecordingCutOff("the phone is gone", close_code=1001)
    recording = storage.open_recording("CA1", "call.webm", on_error=on_error)

    async def record() -> None:
        async with recording:
            await recording.write(data)
            before(recording)
            raise error

    with pytest.raises(RecordingCutOff):
        await record()
    assert (error.key, error.close_code) == (recording.key, 1001)
    return recording.key


@pytest.mark.parametrize("size", [1000, 9_000_000])
async def test_the_reason_is_stored_with_what_arrived(storage: BackblazeStorage, size: int) -> None:
    data = noise(size)
    key = await cut_off(storage, data)
    stored = await storage.get_file_metadata(key)
    assert stored.partial
    assert stored.metadata["partial-reason"] == "the phone is gone"
    assert await storage.get_file(key) == data


async def test_a_reason_of_the_app_comes_first(storage: BackblazeStorage) -> None:
    key = await cut_off(storage, b"call", before=lambda call: call.mark_partial("hung up"))
    stored = await storage.get_file_metadata(key)
    assert stored.metadata["partial-reason"] == "hung up"


async def test_a_finished_recording_stays_complete(storage: BackblazeStorage) -> None:
    key = await cut_off(storage, b"call", before=lambda call: call.finish())
    assert not (await storage.get_file_metadata(key)).partial


async def test_nothing_is_stored_with_abort(storage: BackblazeStorage) -> None:
    await cut_off(storage, b"call", "abort")
    assert await storage.list_files() == []
