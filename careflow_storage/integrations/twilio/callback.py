"""What Twilio sends to a ``recordingStatusCallback``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from careflow_storage._dates import parse_date
from careflow_storage.errors import InvalidInputError

# Twilio's have 34 characters, CA and 32 digits in hex; those of compatible providers differ.
_SID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class RecordingCallback(BaseModel):
    """The status of a recording, as Twilio announces it.

    ``status`` is ``completed`` when the recording can be fetched; also ``in-progress``,
    ``absent`` (too short, or silent) and ``failed``. ``url`` has no ending: Twilio serves WAV
    under it, and MP3 with ``.mp3``. A recording of a conference has a ``conference_sid`` in place
    of a ``call_sid``. ``channels`` is 2 if each side of the call has a channel of its own.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    account_sid: str | None
    call_sid: str | None
    conference_sid: str | None
    recording_sid: str
    status: str
    url: str | None
    duration: timedelta | None
    channels: int | None
    started_at: AwareDatetime | None
    source: str | None
    track: str | None
    error_code: str | None

    @property
    def call_id(self) -> str:
        """The call, or the conference, that was recorded."""
        return self.call_sid or self.conference_sid or ""

    @property
    def completed(self) -> bool:
        """Whether the recording can be fetched."""
        return self.status == "completed"

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self:
        """Read the parameters of the webhook. Check its signature first: `verify_signature`.

        Parameters that a later version of Twilio adds are ignored.

        Raises:
            InvalidInputError: They are not those of a recording's status.
        """
        call_sid, conference_sid = _sid(params, "CallSid"), _sid(params, "ConferenceSid")
        recording_sid, status = _sid(params, "RecordingSid"), params.get("RecordingStatus")
        url = params.get("RecordingUrl") or None
        if recording_sid is None or not status or not (call_sid or conference_sid):
            raise InvalidInputError(
                "The webhook has no RecordingSid, no RecordingStatus or no CallSid.",
                hint="Is it a recordingStatusCallback? A StatusCallback of the call has others.",
            )
        if status == "completed" and url is None:
            raise InvalidInputError("The webhook of a completed recording has no RecordingUrl.")
        seconds = _whole(params, "RecordingDuration")
        return cls(
            account_sid=_sid(params, "AccountSid"),
            call_sid=call_sid,
            conference_sid=conference_sid,
            recording_sid=recording_sid,
            status=status,
            url=url,
            duration=None if seconds is None else timedelta(seconds=seconds),
            channels=_whole(params, "RecordingChannels"),
            # What is no date has no effect but a later key.
            started_at=parse_date(params.get("RecordingStartTime")),
            source=params.get("RecordingSource") or None,
            track=params.get("RecordingTrack") or None,
            error_code=params.get("ErrorCode") or None,
        )


def _sid(params: Mapping[str, str], name: str) -> str | None:
    value = params.get(name)
    if not value:
        return None
    if not _SID.fullmatch(value):
        raise InvalidInputError(f"{name} is not an identifier of Twilio.")
    return value


def _whole(params: Mapping[str, str], name: str) -> int | None:
    """Return a number; None for -1 or nothing, which is what Twilio sends when it knows none."""
    value = params.get(name, "")
    return int(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
