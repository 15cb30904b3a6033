"""Opens a file with exactly one demuxer, which may open no other file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import av

# PyAV imports it with the first file, when the limits are in force.
import av.subtitles.stream
from av.stream import Discard

from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.containers import MAX_CHANNELS, Container
from careflow_storage.media._worker.errors import UnsupportedError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container.input import InputContainer
    from av.packet import Packet

_CODECS = (
    *("aac", "adpcm_ima_wav", "adpcm_ms", "alac", "amrnb", "amrwb", "flac", "g722", "gsm"),
    *("gsm_ms", "libspeex", "mp2", "mp2float", "mp3", "mp3float", "opus", "speex", "vorbis"),
    *("pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw"),
    *("pcm_s8", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"),
    *("pcm_u8",),
)
# Muxers need facts of the video that only its decoder finds.
_VIDEO_CODECS = ("av1", "h264", "hevc", "libdav1d", "vp8", "vp9")
_MAX_RATE = 768_000
_MAX_SECONDS = 31 * 24 * 3600


def open_media(file: RangeFile, container: Container, *, video: bool = False) -> InputContainer:
    """Open the file; with ``video`` its streams of video can be written again."""
    file.seek(0)
    return av.open(
        file,
        "r",
        format=container.demuxer,
        options={
            **container.options,
            # No name of a protocol: whatever a file refers to is not opened.
            "protocol_whitelist": "none",
            "format_whitelist": av.ContainerFormat(container.demuxer, "r").name,
            "codec_whitelist": ",".join((*_CODECS, *_VIDEO_CODECS) if video else _CODECS),
            "probesize": "1000000",
        },
        # Text in any encoding comes back as it was.
        metadata_encoding="utf-8",
        metadata_errors="surrogateescape",
    )


def audio_of(media: InputContainer) -> AudioStream:
    """Return the audio stream that players choose.

    Raises:
        UnsupportedError: There is none, or it is not plausible.
    """
    stream = media.streams.best("audio")
    if stream is None or stream.type != "audio":
        raise UnsupportedError("The file has no audio.")
    # `best` returns the stream whose type is requested.
    audio: AudioStream = stream  # type: ignore[assignment]
    context = audio.codec_context
    # A stream of an unknown codec has no context, whatever the types of PyAV say.
    name = getattr(context, "name", "unknown")
    if name not in _CODECS:
        raise UnsupportedError(f"The audio has the codec {name}, which is not supported.")
    if not 1 <= audio.channels <= MAX_CHANNELS:
        raise UnsupportedError(
            f"The audio has {audio.channels} channels; 1 to {MAX_CHANNELS} are supported."
        )
    if not 1 <= audio.rate <= _MAX_RATE:
        raise UnsupportedError(f"The audio has a sample rate of {audio.rate} Hz.")
    return audio


def check_duration(seconds: float) -> float:
    """Return the duration.

    Raises:
        UnsupportedError: No recording takes this long.
    """
    if not (math.isfinite(seconds) and 0 <= seconds <= _MAX_SECONDS):
        raise UnsupportedError(f"The file claims to last {seconds:.0f} seconds.")
    return seconds


def packets_of(media: InputContainer, audio: AudioStream) -> Iterator[Packet[AudioStream]]:
    """Return the packets of one stream; what is damaged is skipped, as players do."""
    for stream in media.streams:
        if stream.index != audio.index:
            stream.discard = Discard.all
    try:
        for packet in media.demux(audio):
            if packet.size:
                yield packet
    except av.InvalidDataError:
        # The file is cut off, or damaged from here on.
        return
