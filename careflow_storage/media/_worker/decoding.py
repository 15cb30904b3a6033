"""The task ``waveform``: decodes a file once, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from careflow_storage.media._worker.buckets import Buckets, Samples
from careflow_storage.media._worker.channel import RangeFile
from careflow_storage.media._worker.errors import UnsupportedError
from careflow_storage.media._worker.opening import (
    audio_of,
    check_duration,
    open_media,
    packets_of,
)
from careflow_storage.media._worker.probing import container_of

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container.input import InputContainer

# The frames of about a second are handled together.
_BATCH_SAMPLES = 48_000
# A longer gap between timestamps is a pause of the recording, not rounding.
_GAP_SECONDS = 0.1


def waveform(file: RangeFile, job: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of `Waveform`."""
    container = container_of(file, job)
    with open_media(file, container) as media:
        audio = audio_of(media)
        decoder = _Decoder(audio, job["points"])
        decoder.run(media)
        return decoder.result()


class _Decoder:
    """Decodes one audio stream into buckets: one row per channel, and one for the mix."""

    def __init__(self, audio: AudioStream, points: int) -> None:
        self._audio = audio
        self._rate = audio.rate
        self._channels = audio.channels
        self._buckets = Buckets(self._channels + 1 if self._channels > 1 else 1, points)
        self._batch: list[Samples] = []
        self._batched = 0
        self._packets = 0
        self._tick: float | None = None
        audio.codec_context.thread_count = 1
        audio.codec_context.thread_type = "NONE"

    def run(self, media: InputContainer) -> None:
        """Decode all packets; damaged ones are skipped, as players do."""
        for packet in packets_of(media, self._audio):
            self._packets += 1
            self._take(_decoded(self._audio, packet))
        self._take(_decoded(self._audio, None))
        self._flush()

    def result(self) -> dict[str, Any]:
        """Return peaks and RMS of the mix and of each channel."""
        if self._packets and not self._buckets.samples:
            raise UnsupportedError("None of the audio in the file can be decoded.")
        mix, *channels = self._buckets.rows()
        return {
            "duration": self._buckets.samples / self._rate,
            "sample_rate": self._rate,
            "mix": mix,
            "channels": channels or [mix],
        }

    def _take(self, frames: Iterator[AudioFrame]) -> None:
        for frame in frames:
            if frame.layout.nb_channels != self._channels or frame.sample_rate != self._rate:
                raise UnsupportedError(
                    "The audio changes its sample rate or its number of channels."
                )
            self._skip_gap(frame)
            self._batch.append(_samples_of(frame, self._channels))
            self._batched += frame.samples
            if self._batched >= _BATCH_SAMPLES:
                self._flush()

    def _skip_gap(self, frame: AudioFrame) -> None:
        """Count a gap before this frame as silence, so that points fit a player's time."""
        if frame.pts is None:
            return
        if self._tick is None:
            # All frames of a stream have the same one. To read it each time is slow.
            self._tick = float(frame.time_base or 0)
        start = check_duration(max(0.0, frame.pts * self._tick))
        gap = round(start * self._rate) - self._buckets.samples - self._batched
        if gap > _GAP_SECONDS * self._rate:
            self._flush()
            self._buckets.skip(gap)

    def _flush(self) -> None:
        if not self._batch:
            return
        samples = np.concatenate(self._batch, axis=1)
        self._batch, self._batched = [], 0
        np.nan_to_num(samples, copy=False, posinf=1.0, neginf=-1.0)
        # No float format has a largest value, and squares must not overflow.
        np.clip(samples, -8.0, 8.0, out=samples)
        if self._channels > 1:
            samples = np.concatenate([samples.mean(axis=0, keepdims=True), samples])
        self._buckets.add(samples)


def _decoded(audio: AudioStream, packet: Any) -> Iterator[AudioFrame]:
    try:
        yield from audio.codec_context.decode(packet)
    except (av.InvalidDataError, EOFError):
        # This packet alone is damaged.
        return


def _samples_of(frame: AudioFrame, channels: int) -> Samples:
    """Return the samples of a frame, one row per channel, full scale being 1."""
    values: npt.NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    samples: Samples = values.astype(np.float32)
    if values.dtype == np.uint8:
        samples = samples / np.float32(128) - np.float32(1)
    elif np.issubdtype(values.dtype, np.signedinteger):
        samples = samples / np.float32(2 ** (8 * values.dtype.itemsize - 1))
    return samples
