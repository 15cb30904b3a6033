"""Waveforms of recordings, as a player draws them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from careflow_storage import BackblazeStorage, InvalidInputError
from careflow_storage.media import Waveform, waveform
from careflow_storage.testing import B2Server
from tests.support.audio import greeting, mulaw, tone, wav


@pytest.fixture
async def storage(server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(server.settings()) as opened:
        yield opened


async def test_the_points_follow_the_volume(storage: BackblazeStorage) -> None:
    samples = [*tone(1, 0.1), *tone(1, 0.8), *tone(2, 0.0)]
    await storage.upload_file("steps", wav(samples))
    found = await waveform(storage, "steps", points=4)
    assert found.mix.peaks == pytest.approx((0.1, 0.8, 0, 0), abs=0.001)
    # The RMS of a sine is its peak by the root of two.
    assert found.mix.rms == pytest.approx((0.0707, 0.5657, 0, 0), abs=0.001)
    assert (found.duration, found.sample_rate, found.points) == (4.0, 8000, 4)
    assert found.channels == (found.mix,)


async def test_each_channel_of_a_call(storage: BackblazeStorage) -> None:
    caller, agent = [*tone(1, 0.5), *tone(1, 0.0)], [*tone(1, 0.0), *tone(1, 0.25)]
    await storage.upload_file("call", wav(caller, agent))
    found = await waveform(storage, "call", points=2)
    assert [track.peaks for track in found.channels] == [
        pytest.approx((0.5, 0), abs=0.001),
        pytest.approx((0, 0.25), abs=0.001),
    ]
    assert found.mix.peaks == pytest.approx((0.25, 0.125), abs=0.001)


@pytest.mark.parametrize("ending", ["webm", "mp3", "m4a"])
async def test_compressed_recordings_look_like_the_original(
    storage: BackblazeStorage, ending: str
) -> None:
    await storage.upload_file("original", greeting("wav"))
    await storage.upload_file("compressed", greeting(ending))
    original = await waveform(storage, "original", points=20)
    found = await waveform(storage, "compressed", points=20)
    assert found.duration == pytest.approx(original.duration, abs=0.05)
    assert found.mix.rms == pytest.approx(original.mix.rms, abs=0.06)
    assert found.mix.peaks == pytest.approx(original.mix.peaks, abs=0.3)


async def test_mu_law_by_its_content_type(storage: BackblazeStorage) -> None:
    await storage.upload_file("stream", mulaw(tone(2, 0.5)), "audio/x-mulaw")
    found = await waveform(storage, "stream", points=3)
    assert found.duration == 2
    assert found.mix.peaks == pytest.approx((0.5,) * 3, abs=0.02)


async def test_800_points_by_default_and_json(storage: BackblazeStorage) -> None:
    await storage.upload_file("call", greeting("ogg"))
    found = await waveform(storage, "call")
    assert (found.points, len(found.mix.peaks), len(found.mix.rms)) == (800, 800, 800)
    assert Waveform.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("points", [0, -1, 10_001, 2.5, True])
async def test_bad_numbers_of_points(storage: BackblazeStorage, points: int) -> None:
    with pytest.raises(InvalidInputError, match="points must be 1 to 10000"):
        await waveform(storage, "call", points)
