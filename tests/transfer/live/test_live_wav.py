"""The conversion in docs/live-recordings.md."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

from tests.test_docs import python_blocks

DOCUMENT = Path(__file__).parents[3] / "docs" / "live-recordings.md"


def test_mu_law_becomes_a_wav_file_by_the_table_of_g711() -> None:
    defined: dict[str, Any] = {}
    for _, block in python_blocks(DOCUMENT):
        if "def wav_of" in block:
            exec(block, defined)  # noqa: S102 - our own documentation
    wav_of = defined["wav_of"]
    with wave.open(io.BytesIO(wav_of(bytes([0x00, 0x80, 0x7F, 0xFF, 0x70, 0xF0])))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        frames = file.readframes(6)
    values = [int.from_bytes(frames[n : n + 2], "little", signed=True) for n in range(0, 12, 2)]
    assert values == [-32124, 32124, 0, 0, -120, 120]
