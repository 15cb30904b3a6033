"""`waveform`: the shape of a recording."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from careflow_storage.errors import InvalidInputError
from careflow_storage.media._tasks import Limits, MiB, run_task
from careflow_storage.media.errors import MediaProcessError
from careflow_storage.media.models import Waveform, WaveformTrack
from careflow_storage.media.probing import RawFormat
from careflow_storage.protection import CustomerKey
from careflow_storage.storage import BackblazeStorage

_LIMITS = Limits(cpu_seconds=30, cpu_seconds_per_mib=5, memory=384 * MiB)
_MAX_POINTS = 10_000


async def waveform(
    storage: BackblazeStorage,
    key: str,
    points: int = 800,
    *,
    version_id: str | None = None,
    format: RawFormat | None = None,  # noqa: A002 - the name that users know
    encryption: CustomerKey | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as every method of the storage
) -> Waveform:
    """Return peaks and loudness of a recording, for drawing it.

    Reads and decodes the file once: 1 HEAD and about 3 GETs. Store the result if you show it
    again, for example as JSON: ``result.model_dump_json()``. Pauses in the file's timestamps
    count as silence, and damaged packets are skipped, as players do. The bytes are not verified
    by a checksum.

    A child process with limits reads the bytes, in memory that does not depend on the length of
    the recording (about 70 MB); see `probe`.

    Args:
        storage: An open storage.
        key: The key of the file.
        points: How many points to return, 1 to 10000.
        version_id: An older version; None is the newest.
        format: As for `probe`.
        encryption: The `CustomerKey` that the file was stored with, if it was.
        timeout: The most seconds for the whole call.

    Raises:
        MissingExtraError: The extra ``media`` is not installed.
        InvalidInputError: An argument is invalid.
        UnsupportedMediaError: The file is no audio that can be read, or is damaged.
        NoSuchKeyError: It does not exist or is hidden.
        StorageError: See `careflow_storage.errors`.
    """
    async with storage._call("waveform", key, timeout):
        if type(points) is not int or not 1 <= points <= _MAX_POINTS:
            raise InvalidInputError(f"points must be 1 to {_MAX_POINTS}, not {points!r}.")
        head, facts = await run_task(
            storage,
            "waveform",
            key,
            _LIMITS,
            version_id=version_id,
            encryption=encryption,
            format=format,
            job={"points": points},
        )
        try:
            return Waveform(
                key=key,
                version_id=version_id or head.file.version_id,
                duration=facts["duration"],
                sample_rate=facts["sample_rate"],
                points=points,
                mix=_track(facts["mix"]),
                channels=tuple(map(_track, facts["channels"])),
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise MediaProcessError("The media process sent a malformed result.") from error


def _track(rows: Any) -> WaveformTrack:
    peaks, rms = rows
    return WaveformTrack(peaks=tuple(peaks), rms=tuple(rms))
