"""Probing recordings, as an app does that lists them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    CustomerKey,
    InvalidInputError,
    NoSuchKeyError,
)
from careflow_storage.media import MediaInfo, UnsupportedMediaError, probe
from careflow_storage.testing import B2Server
from tests.support.audio import greeting, mulaw, riff, tone, unsized, wav


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened


async def stored(storage: BackblazeStorage, body: bytes, **options: str) -> str:
    return (await storage.upload_file("recording", body, **options)).key  # type: ignore[arg-type]  # the options of the test


@pytest.mark.parametrize(
    ("ending", "codec", "rate"),
    [
        ("webm", "opus", 48000),
        ("ogg", "opus", 48000),
        ("wav", "pcm_s16le", 8000),
        ("mp3", "mp3", 22050),
        ("m4a", "aac", 22050),
    ],
)
async def test_a_real_recording(
    storage: BackblazeStorage, ending: str, codec: str, rate: int
) -> None:
    key = await stored(storage, greeting(ending))
    info = await probe(storage, key)
    assert info.container == ending.replace("m4a", "mp4")
    assert (info.codec, info.video_codec, info.channels) == (codec, None, 1)
    assert info.sample_rate == rate
    assert info.duration == pytest.approx(7.33, abs=0.02)
    assert info.seekable
    assert info.size == len(greeting(ending))


async def test_probing_costs_few_requests_whatever_the_size(storage: BackblazeStorage) -> None:
    key = await stored(storage, wav(tone(1, 0.5)) + bytes(1024 * 1024))
    before = storage.request_counts()
    assert (await probe(storage, key)).duration == pytest.approx(1)
    after = storage.request_counts()
    assert after["HeadObject"] - before.get("HeadObject", 0) == 1
    assert after["GetObject"] - before.get("GetObject", 0) <= 3


async def test_mu_law_without_a_header_is_declared(storage: BackblazeStorage) -> None:
    samples = mulaw(tone(1.5, 0.5))
    key = await stored(storage, samples)
    with pytest.raises(UnsupportedMediaError, match="not in a supported") as refused:
        await probe(storage, key)
    assert 'format="mulaw"' in str(refused.value)
    info = await probe(storage, key, format="mulaw")
    assert (info.container, info.codec, info.channels) == ("raw", "pcm_mulaw", 1)
    assert (info.sample_rate, info.duration, info.seekable) == (8000, 1.5, False)


async def test_an_older_version(storage: BackblazeStorage) -> None:
    old = await storage.upload_file("key", greeting("ogg"))
    new = await storage.upload_file("key", greeting("mp3"))
    found = await probe(storage, "key", version_id=old.version_id)
    assert (found.container, found.version_id) == ("ogg", old.version_id)
    found = await probe(storage, "key")
    assert (found.container, found.version_id) == ("mp3", new.version_id)


async def test_a_customers_key(storage: BackblazeStorage) -> None:
    key = CustomerKey.generate()
    await storage.upload_file("secret", greeting("webm"), encryption=key)
    assert (await probe(storage, "secret", encryption=key)).codec == "opus"
    with pytest.raises(AccessDeniedError):
        await probe(storage, "secret")


async def test_what_is_missing_or_wrong(storage: BackblazeStorage) -> None:
    with pytest.raises(NoSuchKeyError) as missing:
        await probe(storage, "missing")
    assert (missing.value.method, missing.value.key) == ("probe", "missing")
    with pytest.raises(InvalidInputError, match="format must be one of mulaw, alaw"):
        await probe(storage, "key", format="opus")  # type: ignore[arg-type]  # the point of the test


async def test_many_at_once(storage: BackblazeStorage) -> None:
    endings = ("webm", "ogg", "wav")
    for ending in endings:
        await storage.upload_file(ending, greeting(ending))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(probe(storage, ending)) for ending in endings * 2]
    assert [task.result().container for task in tasks] == [*endings * 2]


async def test_the_result_is_json(storage: BackblazeStorage) -> None:
    info = await probe(storage, await stored(storage, unsized(riff(7, mulaw(tone(1, 0.3))))))
    assert (info.codec, info.duration, info.seekable) == ("pcm_mulaw", 1, False)
    assert MediaInfo.model_validate_json(info.model_dump_json()) == info
