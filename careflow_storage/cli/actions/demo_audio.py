"""A long telephone call in progress: audio of unknown length."""

from __future__ import annotations

import hashlib
import math
import struct
from array import array
from collections.abc import AsyncIterator

from careflow_storage._counted import counted

_RATE = 8000  # samples a second, 16 bits each, as a telephone line has
_SECONDS = 8
_UNKNOWN = 0xFFFFFFFF  # the length in a WAV file that is still being recorded


class LongCall:
    """``size`` bytes of WAV from an async generator, and the SHA-256 of what it has yielded."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.sha256 = hashlib.sha256()

    @property
    def duration(self) -> str:
        """How long such a call takes."""
        seconds = self.size / 2 / _RATE
        if seconds >= 90:
            return counted(round(seconds / 60), "minute")
        return counted(round(seconds), "second")

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield all of it, in chunks of 8 s. Each chunk starts with its number, as a click."""
        left, number = self.size, 0
        chunk, tone = _header(), _tone()
        while left:
            chunk = chunk[:left]
            left -= len(chunk)
            self.sha256.update(chunk)
            yield chunk
            chunk = number.to_bytes(8, "little") + tone
            number += 1


def _header() -> bytes:
    form = struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE")
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, _RATE * 2, 2, 16)
    return form + layout + struct.pack("<4sI", b"data", _UNKNOWN)


def _tone() -> bytes:
    """The ringing tone: 440 and 480 Hz, 2 s of every 8."""
    samples = array("h", bytes(2 * _RATE * _SECONDS - 8))
    for i in range(min(2 * _RATE, len(samples))):
        both = math.sin(math.tau * 440 * i / _RATE) + math.sin(math.tau * 480 * i / _RATE)
        samples[i] = int(8000 * both)
    return samples.tobytes()
