"""The task ``remux``: writes a file again with its duration and its index, without encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.containers import Container
from careflow_storage.media._worker.errors import UnsupportedError
from careflow_storage.media._worker.opening import open_media
from careflow_storage.media._worker.probing import container_of, is_seekable
from careflow_storage.media._worker.wav import complete_header

if TYPE_CHECKING:
    from av.container.input import InputContainer
    from av.packet import Packet
    from av.stream import Stream

_WEBM_CODECS = {"av1", "opus", "vorbis", "vp8", "vp9"}
_OPTIONS = {
    # The index is before the data, where players find it without another request.
    "matroska": {"cues_to_front": "1"},
    "mp4": {"movflags": "+faststart"},
}
# The muxers write these themselves.
_OWN_TAGS = {"encoder", "duration", "major_brand", "minor_version", "compatible_brands"}
# More than a recording that was cut off loses, and more than the tables after the data take.
_MAX_LOST_BYTES = 64 * 1024
_MAX_LOST_SHARE = 1 / 50


def remux(file: RangeFile, job: dict[str, Any]) -> dict[str, Any]:
    """Write the file to ``job["output"]``, unless it is seekable already."""
    container = container_of(file, job)
    if container.headerless:
        raise UnsupportedError(
            "Samples without a header have no place for a duration.",
            "Players cannot play them: store them as WAV.",
        )
    if is_seekable(file, container):
        return {"changed": False}
    output = Path(job["output"])
    if container.name == "wav":
        complete_header(file, output)
    else:
        _write_again(file, container, output)
    return {"changed": True, "size": output.stat().st_size}


def _write_again(file: RangeFile, container: Container, output: Path) -> None:
    with open_media(file, container, video=True) as media:
        copied = _Streams.of(media, file.size)
        muxer = _muxer(container, media)
        options = _OPTIONS["matroska" if container.demuxer == "matroska" else "mp4"]
        with av.open(
            str(output),
            "w",
            format=muxer,
            # No random numbers and no version of the library in the file.
            options={**options, "fflags": "+bitexact"},
            metadata_encoding="utf-8",
            metadata_errors="surrogateescape",
        ) as target:
            target.metadata.update(_kept_tags(media.metadata))
            streams: dict[int, Any] = {}
            for stream in media.streams:
                made: Any = target.add_stream_from_template(stream)
                made.metadata.update(_kept_tags(stream.metadata))
                streams[stream.index] = made
            for packet in copied.packets(media):
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        copied.check_end()
    with _reopened(output, muxer) as written:
        again = _Streams.of(written, output.stat().st_size)
        for _ in again.packets(written):
            pass
    if again.digests() != copied.digests():
        raise UnsupportedError("The file cannot be written again without a loss.")


def _muxer(container: Container, media: InputContainer) -> str:
    if container.demuxer != "matroska":
        return container.name
    codecs = {stream.codec_context.codec.canonical_name for stream in media.streams}
    # Chromium also writes H.264 and PCM into files that it calls WebM.
    return "webm" if container.name == "webm" and codecs <= _WEBM_CODECS else "matroska"


def _kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name.lower() not in _OWN_TAGS}


def _reopened(output: Path, muxer: str) -> AbstractContextManager[InputContainer]:
    demuxer = "matroska" if muxer in ("webm", "matroska") else "mov"
    return av.open(
        str(output),
        "r",
        format=demuxer,
        options={"protocol_whitelist": "file"},
        metadata_errors="surrogateescape",
    )


class _Content:
    """The bytes of one stream, in order."""

    def __init__(self, stream: Stream) -> None:
        self.packets = 0
        self._in_units = stream.codec_context.codec.canonical_name in ("h264", "hevc")
        # It begins with 1 where a length is before each unit, else with a start code.
        header = bytes(getattr(stream.codec_context, "extradata", None) or b"")
        self._has_lengths = header.startswith(b"\1")
        self._hash = hashlib.sha256()

    def add(self, packet: Packet[Any]) -> None:
        """Add the bytes of the next packet."""
        self.packets += 1
        if not self._in_units:
            self._hash.update(packet)
            return
        # Muxers replace the start codes with lengths.
        data = bytes(packet)
        for unit in _sized_units(data) if self._has_lengths else data.split(b"\0\0\1"):
            self._hash.update(unit.rstrip(b"\0"))

    def digest(self) -> tuple[int, str]:
        """Return what identifies the content."""
        return self.packets, self._hash.hexdigest()


def _sized_units(data: bytes) -> Iterator[bytes]:
    """Return the units of a packet of H.264 or H.265, whose lengths have four bytes."""
    position = 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : end]
        position = end


class _Streams:
    """Reads all packets of a file, and remembers their content."""

    def __init__(self, contents: dict[int, _Content], size: int) -> None:
        self._contents = contents
        self._size = size
        self._end = 0

    @classmethod
    def of(cls, media: InputContainer, size: int) -> _Streams:
        """Prepare to read a file.

        Raises:
            UnsupportedError: It has other streams than audio and video, which would be lost.
        """
        contents: dict[int, _Content] = {}
        for stream in media.streams:
            if stream.type not in ("audio", "video") or not _has_codec(stream):
                raise UnsupportedError(
                    f"The file has a stream of the type {stream.type}, which cannot be kept."
                )
            contents[stream.index] = _Content(stream)
        if not contents:
            raise UnsupportedError("The file has no audio or video.")
        return cls(contents, size)

    def packets(self, media: InputContainer) -> Iterator[Packet[Any]]:
        """Return all packets, up to the place where the file is cut off."""
        try:
            for packet in media.demux():
                if not packet.size:
                    continue
                if packet.dts is None:
                    packet.dts = packet.pts
                content = self._contents[packet.stream.index]
                content.add(packet)
                if packet.pos is not None and packet.pos >= 0:
                    self._check_gap(packet.pos)
                    self._end = max(self._end, packet.pos + packet.size)
                yield packet
        except av.InvalidDataError:
            return

    def digests(self) -> list[tuple[int, str]]:
        """Return what identifies the content of each stream."""
        return [content.digest() for content in self._contents.values()]

    def check_end(self) -> None:
        """Check that packets were read up to the end of the file.

        Raises:
            UnsupportedError: Much of the file was not read, so that it would be lost.
        """
        if not any(content.packets for content in self._contents.values()):
            raise UnsupportedError("The file has no audio or video data.")
        self._check_gap(self._size)

    def _check_gap(self, position: int) -> None:
        if self._end and position - self._end > _MAX_LOST_BYTES + _MAX_LOST_SHARE * self._size:
            raise UnsupportedError(
                f"The file is damaged: {position - self._end} bytes from byte {self._end} on "
                "cannot be read, and would be lost."
            )


def _has_codec(stream: Stream) -> bool:
    # A stream of an unknown codec has no context, whatever the types of PyAV say.
    return getattr(stream, "codec_context", None) is not None
