"""What a container's own tables say: whether the duration and an index are there.

libavformat guesses where they are missing, and players do not.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from careflow_storage.media._worker.channel import RangeFile

_EBML, _SEGMENT, _SEEK_HEAD, _INFO = 0x1A45DFA3, 0x18538067, 0x114D9B74, 0x1549A966
_CUES, _CLUSTER, _DURATION = 0x1C53BB6B, 0x1F43B675, 0x4489
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_MAX_ELEMENTS = 1000
_MAX_TABLE_BYTES = 64 * 1024
_UNKNOWN = -1


@dataclass(frozen=True)
class WebmTables:
    """The parts of a WebM or Matroska file that players need to seek."""

    has_duration: bool = False
    has_cues: bool = False


@dataclass(frozen=True)
class _Element:
    id: int
    start: int
    """Where its content begins."""
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


def read_webm(file: RangeFile) -> WebmTables:
    """Read the elements before the first cluster, and those that they refer to."""
    segment = next((e for e in _elements(file, 0, file.size) if e.id == _SEGMENT), None)
    if segment is None:
        return WebmTables()
    has_duration = has_cues = False
    for element in _elements(file, segment.start, file.size):
        if element.id == _CLUSTER:
            break
        if element.id == _CUES:
            has_cues = element.end <= file.size
        elif element.id == _INFO:
            has_duration = _states_duration(file, element)
        elif element.id == _SEEK_HEAD:
            has_cues = has_cues or _finds_cues(file, element, segment.start)
    return WebmTables(has_duration, has_cues)


def _elements(file: RangeFile, start: int, end: int) -> Iterator[_Element]:
    position = start
    for _ in range(_MAX_ELEMENTS):
        element = _element(file, position)
        if element is None or element.start > end:
            return
        yield element
        if element.size == _UNKNOWN:
            return
        position = element.end


def _element(file: RangeFile, position: int) -> _Element | None:
    head = file.read_at(position, 12)
    if not head or not head[0]:
        return None
    id_length = 9 - head[0].bit_length()
    rest = head[id_length:]
    if id_length > 4 or not rest or not rest[0]:
        return None
    size_length = 9 - rest[0].bit_length()
    if len(rest) < size_length:
        return None
    value = int.from_bytes(rest[:size_length], "big") & (1 << 7 * size_length) - 1
    size = _UNKNOWN if value == (1 << 7 * size_length) - 1 else value
    number = int.from_bytes(head[:id_length], "big")
    return _Element(number, position + id_length + size_length, size)


def _children(file: RangeFile, parent: _Element) -> Iterator[tuple[int, bytes]]:
    end = min(parent.end, parent.start + _MAX_TABLE_BYTES, file.size)
    for child in _elements(file, parent.start, end):
        if child.size == _UNKNOWN or child.end > end:
            return
        yield child.id, file.read_at(child.start, child.size)


def _states_duration(file: RangeFile, info: _Element) -> bool:
    for number, content in _children(file, info):
        if number == _DURATION and len(content) in (4, 8):
            (duration,) = struct.unpack(">f" if len(content) == 4 else ">d", content)
            return math.isfinite(duration) and duration > 0
    return False


def _finds_cues(file: RangeFile, seek_head: _Element, base: int) -> bool:
    end = min(seek_head.end, seek_head.start + _MAX_TABLE_BYTES, file.size)
    for entry in _elements(file, seek_head.start, end):
        if entry.id != _SEEK or entry.size == _UNKNOWN:
            continue
        fields = {
            number: int.from_bytes(content[:8], "big") for number, content in _children(file, entry)
        }
        if fields.get(_SEEK_ID) == _CUES and _SEEK_POSITION in fields:
            found = _element(file, base + fields[_SEEK_POSITION])
            return found is not None and found.id == _CUES and found.end <= file.size
    return False


def is_fragmented(file: RangeFile) -> bool:
    """Whether an MP4 file is in fragments, whose index is spread over the file."""
    for kind, start, end in _boxes(file, 0, file.size):
        if kind == b"moov":
            return any(kind == b"mvex" for kind, _, _ in _boxes(file, start, end))
    return False


def _boxes(file: RangeFile, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(_MAX_ELEMENTS):
        head = file.read_at(position, 16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        length = 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
            length = 16
        elif size == 0:
            size = end - position
        if size < length:
            return
        yield kind, position + length, min(position + size, end)
        position += size
        if position >= end:
            return


@dataclass(frozen=True)
class WavTables:
    """Where the samples of a WAV file are, and whether its header says so."""

    start: int
    size: int
    """The number of bytes that are there."""
    big_endian: bool
    sized: bool


def read_wav(file: RangeFile) -> WavTables | None:
    """Find the samples of a WAV file; None if it has none."""
    head = file.read_at(0, 12)
    order = ">" if head.startswith(b"RIFX") else "<"
    wide = head[:4] in (b"RF64", b"BW64")
    position, declared_wide = 12, 0
    for _ in range(_MAX_ELEMENTS):
        chunk = file.read_at(position, 8)
        if len(chunk) < 8:
            return None
        kind, size = struct.unpack(f"{order}4sI", chunk)
        start = position + 8
        if kind == b"ds64":
            (declared_wide,) = struct.unpack("<8xQ", file.read_at(start, 16).ljust(16, b"\0"))
        if kind == b"data":
            declared = declared_wide if wide and size == 0xFFFFFFFF else size
            there = file.size - start
            # Recorders that never learn the size leave 0 or the largest number.
            sized = declared <= there and not (declared == 0 and there > 0)
            return WavTables(start, declared if sized else there, order == ">", sized)
        position = start + size + size % 2
    return None
