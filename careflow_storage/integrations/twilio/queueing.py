"""From a callback to an entry of the outbox."""

from __future__ import annotations

import logging
from typing import Literal, Unpack
from urllib.parse import urlsplit

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import InvalidInputError
from careflow_storage.integrations.twilio.callback import RecordingCallback
from careflow_storage.options import ObjectOptions
from careflow_storage.outbox import Outbox, OutboxEntry

logger: logging.Logger = logging.getLogger("careflow_storage")


async def queue_recording(
    outbox: Outbox,
    callback: RecordingCallback,
    *,
    call_id: str | None = None,
    auth_name: str | None = "twilio",
    format: Literal["wav", "mp3"] = "wav",  # noqa: A002 - what users call it
    media_host: str = "twilio.com",
    allow_private_addresses: bool = False,
    **options: Unpack[ObjectOptions],
) -> OutboxEntry | None:
    """Queue the recording of a callback; None if its status is not ``completed``.

    The key is ``recordings/{call}/{start of the recording}-{recording}.wav``, so a webhook that is
    delivered twice is one entry. Both sides of a dual-channel recording are kept. The metadata has
    the ``recording-sid``. See `Outbox.put_url` for everything else.

    Args:
        call_id: The call in the key. Default: the call or the conference of the callback.
        auth_name: The name of the ``credentials`` of the outbox; None for media without HTTP auth.
        format: ``wav`` is the original, ``mp3`` has a fifth of its size.
        media_host: The recording is fetched from this host and its subdomains only. The
            credentials are sent there.
        allow_private_addresses: As for `Outbox.put_url`, for tests.
        options: As for `Outbox.put_url`.

    Raises:
        InvalidInputError: The URL leads to another host, or an argument is invalid.
    """
    if format not in ("wav", "mp3"):
        raise InvalidInputError(f"format must be wav or mp3, not {format!r}.")
    if not callback.completed or callback.url is None:
        logger.info(
            "The recording %s is %s, so it is not fetched.",
            callback.recording_sid,
            callback.status,
            extra=log_fields(
                "recording_not_fetched",
                call_id=callback.call_id,
                recording_sid=callback.recording_sid,
                error_code=callback.error_code,
            ),
        )
        return None
    _check_host(callback.url, media_host)
    name = f"{callback.recording_sid}.{format}"
    url = f"{callback.url.removesuffix('.wav').removesuffix('.mp3')}.{format}"
    if callback.channels == 2:
        # For a conference Twilio would mix them. For a mono recording it refuses the parameter.
        url += "?RequestedChannels=2"
    options["metadata"] = {
        "recording-sid": callback.recording_sid,
        **(options.get("metadata") or {}),
    }
    return await outbox.put_url(
        callback.call_id if call_id is None else call_id,
        url,
        name,
        auth_name=auth_name,
        recorded_at=callback.started_at,
        allow_private_addresses=allow_private_addresses,
        **options,
    )


def _check_host(url: str, media_host: str) -> None:
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        host = ""
    wanted = media_host.lower()
    if host != wanted and not host.endswith(f".{wanted}"):
        raise InvalidInputError(
            f"RecordingUrl does not lead to {media_host}.",
            hint="For another provider, or recordings in a bucket of your own, pass media_host=.",
        )
