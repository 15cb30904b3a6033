"""Made-up speech: noise in the rhythm of syllables and sentences, the same for the same number."""

from __future__ import annotations

import io
import wave
from pathlib import PurePath

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
# Of each ending: the container, and its codec.
_FORMATS = {
    ".webm": ("webm", "libopus"),
    ".mp3": ("mp3", "libmp3lame"),
    ".m4a": ("ipod", "aac"),
}


def samples(seconds: float, number: int) -> NDArray[np.int16]:
    """Return mono samples: sentences of syllables, with pauses between them."""
    random = np.random.default_rng(number)
    envelope = np.zeros(round(seconds * RATE), np.float32)
    # Someone speaks for a while, louder or softer than the one before.
    turn, at, voice = seconds / 22, 0.3, 0.0
    turn_ends = 0.0
    while at < seconds:
        if at >= turn_ends:
            voice = random.choice([0.06, 0.3, 0.5, 0.75, 1.0])
            turn_ends = at + turn * random.uniform(0.5, 1.8)
        end = at + random.uniform(0.8, 4.5)
        while at < min(end, seconds):
            length = random.uniform(0.12, 0.3)
            start, stop = round(at * RATE), min(round((at + length) * RATE), len(envelope))
            shape = np.hanning(max(1, stop - start)) * voice * random.uniform(0.4, 1)
            envelope[start:stop] = shape[: max(0, stop - start)]
            at += length * random.uniform(0.8, 1.1)
        at += random.uniform(0.2, 1.1)
    noise = random.standard_normal(len(envelope)).astype(np.float32)
    hum = np.sin(2 * np.pi * 140 * np.arange(len(envelope)) / RATE)
    return (envelope * (0.12 * noise + 0.4 * hum) * 20_000).clip(-32768, 32767).astype(np.int16)


def encoded(name: str, seconds: float, number: int) -> bytes:
    """Return a file of the format that the name's ending says."""
    container, codec = _FORMATS[PurePath(name).suffix]
    target = io.BytesIO()
    with av.open(target, "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE)
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{codec} is no codec of audio.")
        stream.bit_rate = 32_000
        stream.layout = "mono"
        size = stream.frame_size or RATE // 50
        found = samples(seconds, number)
        for start in range(0, len(found) - size, size):
            part = found[None, start : start + size]
            frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
            frame.sample_rate = RATE
            frame.pts = start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def wav(seconds: float, number: int) -> bytes:
    """Return a WAV file."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples(seconds, number).tobytes())
    return target.getvalue()
