"""The tasks of the child process, in this process: each format, and the tables of containers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careflow_storage.media._worker.buckets import Buckets
from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.containers import find_container
from careflow_storage.media._worker.decoding import waveform
from careflow_storage.media._worker.errors import UnsupportedError
from careflow_storage.media._worker.probing import probe
from careflow_storage.media._worker.tables import read_wav, read_webm
from tests.support.audio import Bytes, file_of, greeting, mulaw, riff, tone, unsized, wav


def job(content_type: str = "", format: str | None = None, points: int = 8) -> dict[str, Any]:  # noqa: A002
    return {"content_type": content_type, "format": format, "points": points}


SAMPLES = mulaw(tone(1, 0.5))


@pytest.mark.parametrize(
    ("content", "content_type", "expected"),
    [
        (greeting("webm"), "", ("webm", "opus", 1, 48000, 7.336, True)),
        (greeting("ogg"), "", ("ogg", "opus", 1, 48000, 7.335, True)),
        (greeting("mp3"), "", ("mp3", "mp3", 1, 22050, 7.329, True)),
        (greeting("m4a"), "", ("mp4", "aac", 1, 22050, 7.329, True)),
        (wav(tone(1, 1), tone(1, 1)), "", ("wav", "pcm_s16le", 2, 8000, 1, True)),
        (unsized(wav(tone(1, 1))), "", ("wav", "pcm_s16le", 1, 8000, 1, False)),
        (unsized(wav(tone(1, 1)), 0), "", ("wav", "pcm_s16le", 1, 8000, 1, False)),
        (riff(7, SAMPLES), "", ("wav", "pcm_mulaw", 1, 8000, 1, True)),
        (riff(6, SAMPLES, channels=2), "", ("wav", "pcm_alaw", 2, 8000, 0.5, True)),
        (SAMPLES, "audio/x-mulaw", ("raw", "pcm_mulaw", 1, 8000, 1, False)),
        (SAMPLES, "audio/basic", ("raw", "pcm_mulaw", 1, 8000, 1, False)),
        (SAMPLES, "audio/PCMU; rate=16000", ("raw", "pcm_mulaw", 1, 16000, 0.5, False)),
        (SAMPLES, "audio/x-mulaw;channels=2", ("raw", "pcm_mulaw", 2, 8000, 0.5, False)),
        (SAMPLES, "audio/PCMA", ("raw", "pcm_alaw", 1, 8000, 1, False)),
        # Silence looks like the first frame of an MP3.
        (b"\xff\xfb\x90\x64" + SAMPLES, "audio/x-mulaw", ("raw", "pcm_mulaw", 1, 8000, 1, False)),
        (greeting("wav"), "audio/x-mulaw", ("wav", "pcm_s16le", 1, 8000, 7.329, True)),
    ],
)
def test_probe(content: bytes, content_type: str, expected: tuple[Any, ...]) -> None:
    found = probe(file_of(content), job(content_type))
    facts = tuple(
        found[name]
        for name in ("container", "codec", "channels", "sample_rate", "duration", "seekable")
    )
    assert facts == (*expected[:4], pytest.approx(expected[4], abs=0.001), expected[5])


@pytest.mark.parametrize(
    ("content", "reason", "hint"),
    [
        (b"", "is empty", ""),
        (b"a text", "not in a supported", "pass format="),
        (b"\n <!DOCTYPE html><title>404</title>", "not in a supported", "web page"),
        (b'{"error": "not found"}', "not in a supported", "JSON"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n", "not in a supported", "playlist"),
        (riff(1, b"", channels=17, bits=16), "17 channels", ""),
        (riff(0x4242, b"samples"), "codec", ""),
    ],
)
def test_what_is_unsupported(content: bytes, reason: str, hint: str) -> None:
    with pytest.raises(UnsupportedError, match=reason) as refused:
        probe(file_of(content), job())
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize("rate", ["0", "-8000", "1e9", "99999999999", "²", ""])
def test_an_impossible_rate_in_the_content_type(rate: str) -> None:
    with pytest.raises(UnsupportedError, match="unusable rate"):
        find_container(SAMPLES, f'audio/x-mulaw;rate="{rate}"', None)


def test_a_mono_recording_has_one_row() -> None:
    found = waveform(file_of(greeting("ogg")), job(points=5))
    assert found["channels"] == [found["mix"]]
    peaks, rms = found["mix"]
    assert len(peaks) == len(rms) == 5
    assert found["duration"] == pytest.approx(7.3286, abs=0.001)


def test_a_gap_in_the_timestamps_is_silence() -> None:
    # Two clusters of the recording, the second of which begins three seconds later.
    content = bytearray(greeting("webm"))
    last = content.rindex(b"\x1f\x43\xb6\x75")
    at = content.index(b"\xe7", last)
    length = content[at + 1] & 0x7F
    time = int.from_bytes(content[at + 2 : at + 2 + length], "big") + 3000
    content[at + 2 : at + 2 + length] = time.to_bytes(length, "big")
    found = waveform(file_of(bytes(content)), job(points=103))
    assert found["duration"] == pytest.approx(10.33, abs=0.03)
    assert found["mix"][0].count(0.0) >= 29


def test_an_empty_wav_is_silent() -> None:
    found = waveform(file_of(wav([])), job(points=3))
    assert found["mix"] == ([0.0] * 3, [0.0] * 3)
    assert found["duration"] == 0


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (riff(3, struct.pack("<4f", 0.5, float("inf"), float("nan"), -3e38), bits=32), [1.0]),
        (riff(1, bytes([128, 192, 64, 128])), [0.5]),
        (riff(1, struct.pack("<2i", -(2**30), 2**29), bits=32), [0.5]),
        (riff(1, bytes(6) + b"\x00\x00\x40", bits=24), [0.5]),
    ],
)
def test_each_form_of_samples(file: bytes, expected: list[float]) -> None:
    assert waveform(file_of(file), job(points=1))["mix"][0] == expected


def test_the_tables_of_a_webm() -> None:
    content = greeting("webm")
    found = read_webm(file_of(content))
    assert (found.has_duration, found.has_cues) == (True, True)
    cut = read_webm(file_of(content[:-400]))
    assert (cut.has_duration, cut.has_cues) == (True, False)


@given(st.binary(max_size=200))
def test_any_bytes_are_tables_or_not(content: bytes) -> None:
    read_wav(file_of(content))
    read_webm(file_of(b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67" + content))


def test_wide_sizes_of_a_wav() -> None:
    content = unsized(wav(tone(1, 1)))
    wide = b"RF64" + content[4:12] + b"ds64" + struct.pack("<IQQQI", 28, 0, 16000, 8000, 0)
    found = read_wav(file_of(wide + content[12:]))
    assert found is not None
    assert (found.size, found.sized) == (16000, True)


def test_blocks_grow_while_the_reading_is_sequential() -> None:
    channel = Bytes(bytes(4_000_000))
    file = RangeFile(channel, 4_000_000)
    while file.read(10_000):
        pass
    lengths = [length for _, length in channel.requested]
    assert lengths[:6] == [65536, 131072, 262144, 524288, 1048576, 1048576]
    assert sum(lengths) == 4_000_000
    file.seek(3_999_000)
    assert len(file.read()) == 1000
    assert len(channel.requested) == len(lengths)


@given(
    lengths=st.lists(st.integers(0, 300), max_size=12),
    points=st.integers(1, 20),
    silent=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_buckets_hold_what_the_samples_are(
    lengths: list[int], points: int, silent: list[bool]
) -> None:
    rng = np.random.default_rng(7)
    buckets = Buckets(2, points)
    pieces = [np.zeros((2, 0), np.float32)]
    for length, skipped in zip(lengths, silent, strict=False):
        piece = rng.uniform(-1, 1, (2, length)).astype(np.float32) * (not skipped)
        pieces.append(piece)
        if skipped:
            buckets.skip(length)
        else:
            buckets.add(piece)
    samples = np.concatenate(pieces, axis=1)
    total = samples.shape[1]
    assert buckets.samples == total
    for row, (peaks, rms) in zip(samples, buckets.rows(), strict=True):
        assert len(peaks) == len(rms) == points
        assert max(peaks) == pytest.approx(np.abs(row).max(initial=0), abs=1e-4)
        assert all(value <= peak + 2e-4 for peak, value in zip(peaks, rms, strict=True))
        if total and total % points == 0:
            # Nothing was merged: each point is exact.
            exact = np.abs(row.reshape(points, -1)).max(axis=1)
            assert peaks == pytest.approx(exact, abs=1e-4)


@given(st.integers(1, 50), st.integers(100, 60_000), st.integers(1, 9000))
@settings(max_examples=20)
def test_merged_buckets_keep_the_peaks_near_their_place(
    points: int, total: int, piece: int
) -> None:
    samples = np.abs(np.sin(np.arange(total, dtype=np.float32) / 500))[None, :]
    buckets = Buckets(1, points)
    for start in range(0, total, piece):
        buckets.add(samples[:, start : start + piece])
    ((peaks, rms),) = buckets.rows()
    for number, (peak, level) in enumerate(zip(peaks, rms, strict=True)):
        run = samples[0, number * total // points : (number + 1) * total // points]
        assert peak == pytest.approx(run.max(initial=0), abs=0.05)
        assert level == pytest.approx(np.sqrt(np.mean(np.square(run))) if len(run) else 0, abs=0.05)


def test_a_year_of_silence_takes_no_time() -> None:
    buckets = Buckets(1, 100)
    buckets.skip(365 * 24 * 3600 * 48_000)
    ((peaks, rms),) = buckets.rows()
    assert set(peaks) == set(rms) == {0.0}
