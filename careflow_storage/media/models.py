"""The results of `careflow_storage.media`."""

from __future__ import annotations

from pydantic import Field

from careflow_storage.models import Model


class MediaInfo(Model):
    """Facts about one version of a recording.

    Attributes:
        key: The key of the file.
        version_id: The version that was read; None in a bucket without versions.
        size: Its size in bytes.
        container: ``webm``, ``matroska``, ``ogg``, ``wav``, ``mp3``, ``mp4``, ``mov``, ``3gp``,
            ``flac``, ``aac``, ``amr``, ``aiff``, ``caf``, ``au``, or ``raw`` for samples without
            a header.
        codec: The audio codec by its FFmpeg name, such as ``opus``, ``mp3``, ``aac``,
            ``pcm_s16le`` or ``pcm_mulaw``.
        video_codec: The codec of the video, such as ``vp8``; None for a file without video.
        channels: The number of audio channels.
        sample_rate: Samples per second. Opus is always 48000.
        duration: Seconds.
        seekable: Whether players can show the duration and seek without reading the whole file.
            False for what a browser's MediaRecorder writes; `make_seekable` then helps.
    """

    key: str
    version_id: str | None
    size: int
    container: str
    codec: str
    video_codec: str | None = None
    channels: int = Field(ge=1)
    sample_rate: int = Field(ge=1)
    duration: float = Field(ge=0, allow_inf_nan=False)
    seekable: bool


class WaveformTrack(Model):
    """The points of one channel, or of the mix of all channels; 1.0 is full scale.

    Attributes:
        peaks: The largest absolute value of each point's samples, 0.0 to 1.0.
        rms: The root mean square of each point's samples: how loud it is. 0.0 to 1.0.
    """

    peaks: tuple[float, ...]
    rms: tuple[float, ...]


class Waveform(Model):
    """The shape of a recording, for drawing it. All points cover the same time.

    Attributes:
        key: The key of the file.
        version_id: The version that was read; None in a bucket without versions.
        duration: Seconds, as decoded.
        sample_rate: Samples per second.
        points: The number of points in each track.
        mix: The mean of all channels.
        channels: Each channel, for example caller and agent of a stereo recording.
    """

    key: str
    version_id: str | None
    duration: float = Field(ge=0, allow_inf_nan=False)
    sample_rate: int = Field(ge=1)
    points: int = Field(ge=1)
    mix: WaveformTrack
    channels: tuple[WaveformTrack, ...]
