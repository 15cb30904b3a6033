"""Audio files made of known samples, and damaged or hostile ones."""

from __future__ import annotations

import io
import math
import struct
import wave
from array import array
from pathlib import Path

from careflow_storage.media._worker.channel import Channel, RangeFile

DATA = Path(__file__).parents[1] / "data"
RATE = 8000


def recorded(ending: str) -> bytes:
    """What the MediaRecorder of Chromium wrote."""
    return (DATA / f"mediarecorder/recorded.{ending}").read_bytes()


def greeting(ending: str) -> bytes:
    """A real recording of 7.3 seconds."""
    return (DATA / f"greeting.{ending}").read_bytes()


def tone(seconds: float, volume: float, *, rate: int = RATE, hertz: float = 400) -> list[float]:
    """A sine wave."""
    step = 2 * math.pi * hertz / rate
    return [volume * math.sin(step * number) for number in range(round(seconds * rate))]


def wav(*channels: list[float], rate: int = RATE) -> bytes:
    """A WAV file of 16-bit samples."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        samples = array(
            "h", (round(value * 32767) for frame in zip(*channels, strict=True) for value in frame)
        )
        file.writeframes(samples.tobytes())
    return target.getvalue()


def riff(tag: int, data: bytes, *, channels: int = 1, rate: int = RATE, bits: int = 8) -> bytes:
    """A WAV file with samples of any codec."""
    frame = channels * bits // 8
    fields = (tag, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    head = struct.pack("<HHIIHH", *fields)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def unsized(file: bytes, size: int = 0xFFFFFFFF) -> bytes:
    """The WAV file as a recorder leaves it that was killed before it wrote the sizes."""
    at = file.index(b"data") + 4
    field = struct.pack("<I", size)
    return file[:4] + field + file[8:at] + field + file[at + 4 :]


def mulaw(samples: list[float]) -> bytes:
    """The samples in mu-law (ITU-T G.711), as Twilio streams them."""
    return bytes(map(_mulaw_byte, samples))


def _mulaw_byte(value: float) -> int:
    sign = 0x80 if value < 0 else 0
    magnitude = min(round(abs(value) * 32635), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | magnitude >> exponent + 3 & 0x0F) & 0xFF


class Bytes(Channel):
    """The parent process of a task that runs in this process."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.requested: list[tuple[int, int]] = []

    def get(self, offset: int, length: int) -> bytes:
        self.requested.append((offset, length))
        return self.content[offset : offset + length]


def file_of(content: bytes) -> RangeFile:
    """What a task of the child process reads."""
    return RangeFile(Bytes(content), len(content))
