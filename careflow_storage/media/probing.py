"""`probe`: what a recording is."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from careflow_storage.media._tasks import Limits, MiB, run_task
from careflow_storage.media.errors import MediaProcessError
from careflow_storage.media.models import MediaInfo
from careflow_storage.protection import CustomerKey
from careflow_storage.storage import BackblazeStorage

RawFormat = Literal["mulaw", "alaw"]
"""How the samples of a file without a header are encoded: mu-law or A-law, as telephones do."""

_LIMITS = Limits(cpu_seconds=20, cpu_seconds_per_mib=1, memory=256 * MiB)


async def probe(
    storage: BackblazeStorage,
    key: str,
    *,
    version_id: str | None = None,
    format: RawFormat | None = None,  # noqa: A002 - the name that users know
    encryption: CustomerKey | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - as every method of the storage
) -> MediaInfo:
    """Return container, codec, channels, sample rate and duration of a recording.

    1 HEAD and 1 to 3 range requests, about 64 KiB each. A file that does not state its duration,
    as browsers record it, is read to its end (2 GETs more) but not decoded.

    A child process with limits reads the bytes. It takes about 0.2 s to start and up to 60 MB
    of memory; as many run at once as the machine has cores.

    Args:
        storage: An open storage.
        key: The key of the file.
        version_id: An older version; None is the newest.
        format: For samples without a header: ``"mulaw"`` or ``"alaw"``, 8000 Hz mono unless the
            content type says otherwise (``audio/x-mulaw;rate=16000;channels=2``). Not needed
            for content types that say it: ``audio/x-mulaw``, ``audio/basic``, ``audio/PCMU``,
            ``audio/PCMA``, ``audio/x-alaw``.
        encryption: The `CustomerKey` that the file was stored with, if it was.
        timeout: The most seconds for the whole call.

    Raises:
        MissingExtraError: The extra ``media`` is not installed.
        UnsupportedMediaError: The file is no audio that can be read, or is damaged.
        NoSuchKeyError: It does not exist or is hidden.
        StorageError: See `careflow_storage.errors`.
    """
    async with storage._call("probe", key, timeout):
        head, facts = await run_task(
            storage,
            "probe",
            key,
            _LIMITS,
            version_id=version_id,
            encryption=encryption,
            format=format,
        )
        file = head.file
        try:
            return MediaInfo(
                key=key, version_id=version_id or file.version_id, size=file.size, **facts
            )
        except (TypeError, ValidationError) as error:
            raise MediaProcessError("The media process sent a malformed result.") from error
