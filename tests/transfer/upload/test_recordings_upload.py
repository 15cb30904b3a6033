"""Recordings under keys that are made here."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError, SizeMismatchError
from tests.support.bodies import stream

MOMENT = datetime(2024, 2, 29, 12, 30, 15, 678_901, tzinfo=UTC)


async def test_given_a_real_recording_when_stored_then_it_plays_back_under_its_calls_folder(
    storage: BackblazeStorage, recordings: dict[str, Path]
) -> None:
    before = time.time_ns() // 1_000_000
    path = recordings["greeting.webm"]
    result = await storage.upload_recording("CA123", path, "recording.webm")
    after = time.time_ns() // 1_000_000
    form = re.fullmatch(r"recordings/CA123/(\d+)-recording\.webm", result.key)
    assert form is not None
    assert before <= int(form[1]) <= after
    assert result.content_type == "audio/webm"
    assert await storage.get_file(result.key) == path.read_bytes()
    assert [file.key for file in await storage.list_files("recordings/CA123/")] == [result.key]


async def test_given_options_when_a_recording_is_stored_then_they_are_kept(
    storage: BackblazeStorage,
) -> None:
    result = await storage.upload_recording(
        "CA123",
        stream(b"words"),
        "notes",
        content_type="text/plain",
        metadata={"agent": "Zoë"},
        size=5,
        checksum="sha256",
    )
    stored = await storage.get_file_metadata(result.key)
    assert (stored.content_type, stored.metadata, stored.size) == (
        "text/plain",
        {"agent": "Zoë"},
        5,
    )
    assert result.checksum.algorithm == "sha256"


@pytest.mark.parametrize(
    "moment",
    [
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=-9, minutes=-30))),
        MOMENT.astimezone(timezone(timedelta(hours=14))),
    ],
)
async def test_given_the_time_of_recording_in_any_zone_then_the_key_has_it_to_the_millisecond(
    storage: BackblazeStorage, moment: datetime
) -> None:
    result = await storage.upload_recording("CA123", b"", "a.webm", recorded_at=moment)
    assert result.key == "recordings/CA123/1709209815678-a.webm"


async def test_given_the_same_time_twice_then_the_key_is_the_same_and_the_last_one_counts(
    storage: BackblazeStorage,
) -> None:
    first = await storage.upload_recording("CA1", b"one", "a.webm", recorded_at=MOMENT)
    second = await storage.upload_recording("CA1", b"two", "a.webm", recorded_at=MOMENT)
    assert first.key == second.key
    assert await storage.get_file(first.key) == b"two"
    assert await storage.get_file(first.key, version_id=first.version_id) == b"one"


async def test_given_two_recordings_in_the_same_millisecond_then_neither_hides_the_other(
    storage: BackblazeStorage,
) -> None:
    results = await asyncio.gather(
        *(storage.upload_recording("CA1", b"%d" % n, "a.webm") for n in range(30))
    )
    assert len({result.key for result in results}) == 30


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 - naive on purpose
        datetime(1969, 12, 31, tzinfo=UTC),
        "2024-02-29T12:30:00Z",
        1709209815678,
    ],
    ids=repr,
)
async def test_given_a_time_that_is_none_then_it_is_refused_before_any_request(
    storage: BackblazeStorage, moment: Any
) -> None:
    with pytest.raises(InvalidInputError):
        await storage.upload_recording("CA1", b"", "a.webm", recorded_at=moment)
    assert await storage.list_files() == []


BAD_NAMES = ["", " ", ".", "..", "a/b", "a\\b", "a..b", "a\x00", "a\nb", "a\r", "ä" * 126, None, 5]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:20])
async def test_given_a_call_id_or_filename_that_leaves_its_folder_then_it_is_refused(
    storage: BackblazeStorage, name: Any
) -> None:
    with pytest.raises(InvalidInputError, match="call_id"):
        await storage.upload_recording(name, b"", "a.webm")
    with pytest.raises(InvalidInputError, match="filename"):
        await storage.upload_recording("CA1", b"", name)
    assert await storage.list_files() == []


async def test_given_names_in_any_script_then_the_recording_is_found_under_them(
    storage: BackblazeStorage,
) -> None:
    result = await storage.upload_recording("Anruf 7 + Zoë", b"x", "録音 🎙️ 100%.webm")
    assert result.key.startswith("recordings/Anruf 7 + Zoë/")
    assert result.key.endswith("-録音 🎙️ 100%.webm")
    assert await storage.get_file(result.key) == b"x"


@pytest.mark.parametrize("size", [2, 4])
async def test_given_a_body_of_another_size_then_the_error_names_method_and_key(
    storage: BackblazeStorage, size: int
) -> None:
    key = f"recordings/CA1/{int(MOMENT.timestamp() * 1000)}-a.webm"
    with pytest.raises(SizeMismatchError) as caught:
        await storage.upload_recording(
            "CA1", stream(b"bod"), "a.webm", size=size, recorded_at=MOMENT
        )
    assert (caught.value.method, caught.value.key) == ("upload_recording", key)
