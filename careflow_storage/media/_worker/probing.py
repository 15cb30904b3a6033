"""The task ``probe``: what a file is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
from av.stream import Disposition

from careflow_storage.content_types import HEAD_BYTES
from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.containers import Container, find_container
from careflow_storage.media._worker.errors import UnsupportedError
from careflow_storage.media._worker.opening import (
    audio_of,
    check_duration,
    open_media,
    packets_of,
)
from careflow_storage.media._worker.tables import is_fragmented, read_wav, read_webm

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container.input import InputContainer

_ATTACHED_PICTURE = Disposition.attached_pic
# In these formats libavformat finds the duration in the header or on the last page.
_STATED = {"aiff", "au", "caf", "flac", "ogg", "raw", "wav"}
_MP3_TABLES = (b"Xing", b"Info", b"VBRI")


def container_of(file: RangeFile, job: dict[str, Any]) -> Container:
    """Return the container of the file of this job."""
    head = file.read_at(0, HEAD_BYTES)
    return find_container(head, job["content_type"], job["format"])


def is_seekable(file: RangeFile, container: Container) -> bool:
    """Whether players can show the duration and seek, as far as the container's tables say."""
    match container.name:
        case "webm" | "matroska":
            tables = read_webm(file)
            return tables.has_duration and tables.has_cues
        case "mp4" | "mov" | "3gp":
            return not is_fragmented(file)
        case "wav":
            wav = read_wav(file)
            if wav is None:
                raise UnsupportedError("The WAV file has no samples.")
            return wav.sized
        case "raw":
            return False
        case _:
            return True


def probe(file: RangeFile, job: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of `MediaInfo`."""
    container = container_of(file, job)
    seekable = is_seekable(file, container)
    with open_media(file, container) as media:
        audio = audio_of(media)
        duration = media.duration
        if duration is None or not _states_duration(file, container):
            seconds = measured_duration(media, audio)
        else:
            seconds = duration / av.time_base
        return {
            "container": container.name,
            "codec": audio.codec_context.codec.canonical_name,
            "video_codec": _video_codec(media),
            "channels": audio.channels,
            "sample_rate": audio.rate,
            "duration": check_duration(seconds),
            "seekable": seekable,
        }


def _video_codec(media: InputContainer) -> str | None:
    for stream in media.streams.video:
        # A stream of an unknown codec has no context, whatever the types of PyAV say.
        context = getattr(stream, "codec_context", None)
        if not stream.disposition & _ATTACHED_PICTURE and context is not None:
            name: str = context.codec.canonical_name
            return name
    return None


def measured_duration(media: InputContainer, audio: AudioStream) -> float:
    """Return the end of the last packet in seconds; reads the whole file, decodes nothing."""
    end = 0
    for packet in packets_of(media, audio):
        if packet.pts is not None:
            end = max(end, packet.pts + (packet.duration or 0))
    return float(end * audio.time_base) if audio.time_base is not None else 0.0


def _states_duration(file: RangeFile, container: Container) -> bool:
    """Whether the file has its duration, which libavformat otherwise guesses."""
    match container.name:
        case "webm" | "matroska":
            return read_webm(file).has_duration
        case "mp4" | "mov" | "3gp":
            return not is_fragmented(file)
        case "mp3":
            return any(table in _first_mp3_frame(file) for table in _MP3_TABLES)
        case name:
            return name in _STATED


def _first_mp3_frame(file: RangeFile) -> bytes:
    """Return the start of the first frame, which has a table if the encoder made one."""
    head = file.read_at(0, 10)
    position = 0
    if head.startswith(b"ID3") and len(head) == 10:
        position = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    return file.read_at(position, 256)
