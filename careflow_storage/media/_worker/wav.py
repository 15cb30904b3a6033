"""Completes the header of a WAV file whose recorder did not."""

from __future__ import annotations

import struct
from pathlib import Path

from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.errors import UnsupportedError
from careflow_storage.media._worker.tables import read_wav

_LARGEST = 2**32 - 1
_BLOCK_BYTES = 1024 * 1024


def complete_header(file: RangeFile, output: Path) -> None:
    """Write the file to ``output`` with the sizes that it has. All other bytes stay.

    Raises:
        UnsupportedError: The format has no room for the size.
    """
    wav = read_wav(file)
    if wav is None or file.size - 8 > _LARGEST:
        raise UnsupportedError("A WAV file of 4 GiB or more cannot have its size in the header.")
    order = ">" if wav.big_endian else "<"
    riff = struct.pack(f"{order}I", file.size - 8)
    data = struct.pack(f"{order}I", wav.size)
    patches = {4: riff, wav.start - 4: data}
    with output.open("wb") as target:
        for start in range(0, file.size, _BLOCK_BYTES):
            target.write(file.read_at(start, _BLOCK_BYTES))
        for position, field in patches.items():
            target.seek(position)
            target.write(field)
