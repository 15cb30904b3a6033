"""Twilio Media Streams: the audio of a call in progress, one recording per track."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, Unpack

from careflow_storage._log_fields import log_fields
from careflow_storage.errors import InvalidInputError, RecordingCutOff, StorageClosedError
from careflow_storage.integrations.fastapi.messages import INVALID, UNSUPPORTED, Messages
from careflow_storage.options import CommonOptions, check_options

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

    from careflow_storage._transfer.live.writer import RecordingWriter
    from careflow_storage.models import UploadResult
    from careflow_storage.storage import BackblazeStorage

logger: logging.Logger = logging.getLogger("careflow_storage")

_ENCODING: Final = "audio/x-mulaw"
_TRACKS: Final = ("inbound", "outbound")
# 20 ms of audio has about 400 bytes.
_MAX_MESSAGE_SIZE: Final = 64 * 1024
# What Python raises for JSON that has other types or numbers than expected.
_MALFORMED: Final = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class TwilioStream:
    """What Twilio says at the start of a stream.

    Attributes:
        stream_sid: The stream.
        call_sid: The call.
        tracks: ``inbound``, ``outbound``, or both.
        parameters: Those that your TwiML passes with ``<Parameter>``.
    """

    stream_sid: str
    call_sid: str
    tracks: tuple[str, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TwilioAudio:
    """A piece of one track, usually 20 ms.

    Attributes:
        track: ``inbound`` (what the caller says) or ``outbound``.
        data: mu-law samples, 8000 per second, without a header.
        timestamp: Milliseconds since the stream began.
    """

    track: str
    data: bytes
    timestamp: int


def twilio_media(websocket: WebSocket, *, read_timeout: float | None = 60.0) -> TwilioMedia:
    """Iterate over the audio of a Twilio media stream, until Twilio says that it has stopped.

    ::

        media = twilio_media(websocket)
        stream = await media.start()
        async for audio in media:
            ...  # audio.track, audio.data

    With ``track="both_tracks"`` the pieces of both sides alternate: `record_twilio` stores each
    side as a recording of its own. The WebSocket is accepted, unless it is already. Check
    Twilio's signature before that: the messages prove nothing about their sender.

    Args:
        read_timeout: The most seconds without a message. Twilio sends audio during silence, too.
            None: no limit.

    Raises:
        RecordingCutOff: The connection ended without a ``stop`` event, or nothing was sent for
            ``read_timeout``.
        InvalidInputError: A message is not one of Twilio's. The WebSocket is closed with code
            1003 or 1007.
        FileTooLargeError: A message has more than 64 KiB. It is closed with code 1009.
    """
    return TwilioMedia(
        Messages(websocket, read_timeout=read_timeout, max_message_size=_MAX_MESSAGE_SIZE)
    )


class TwilioMedia:
    """An async iterator of `TwilioAudio`. See `twilio_media`."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._stream: TwilioStream | None = None
        self._stopped = False

    async def start(self) -> TwilioStream:
        """Wait for the start of the stream; return what Twilio says about it.

        Raises:
            RecordingCutOff: The connection ended first.
            InvalidInputError: The first messages are not Twilio's.
        """
        while self._stream is None:
            event, message = await self._event()
            if event == "start":
                try:
                    self._stream = _stream_of(message["start"])
                except _MALFORMED:
                    await self._refuse("The start message is malformed.")
            elif event != "connected":
                await self._refuse("The stream did not begin with a start message.")
        return self._stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TwilioAudio:
        await self.start()
        while not self._stopped:
            event, message = await self._event()
            if event == "media":
                try:
                    return _audio_of(message["media"])
                except _MALFORMED:
                    await self._refuse("A media message is malformed.")
            # Others are "mark" and "dtmf", and those that Twilio adds later.
            self._stopped = event == "stop"
        raise StopAsyncIteration

    async def _event(self) -> tuple[str, Mapping[str, Any]]:
        text = await self._messages.receive()
        if text is None:
            raise RecordingCutOff("The sender left before the stop message.", close_code=1000)
        if isinstance(text, bytes):
            await self._messages.refuse(
                InvalidInputError("The sender sent a binary message, which Twilio does not."),
                UNSUPPORTED,
            )
        try:
            message = json.loads(text)
            event = message["event"]
        except (*_MALFORMED, RecursionError):
            await self._refuse("A message is not one of Twilio's.")
        return event, message

    async def _refuse(self, message: str) -> NoReturn:
        await self._messages.refuse(InvalidInputError(message), INVALID)


async def record_twilio(
    storage: BackblazeStorage,
    websocket: WebSocket,
    call_id: str | None = None,
    *,
    flush_interval: float | None = 60.0,
    read_timeout: float | None = 60.0,
    **options: Unpack[CommonOptions],
) -> list[UploadResult]:
    """Record a Twilio media stream, one recording per track, and return when both are stored.

    ::

        @app.websocket("/twilio/{call_id}")
        async def stream(websocket: WebSocket, call_id: str, storage: Storage) -> None:
            url = f"wss://calls.example.com/twilio/{call_id}"  # as in your TwiML
            signature = websocket.headers.get("x-twilio-signature")
            if not verify_signature(AUTH_TOKEN, url, None, signature):
                await websocket.close(1008)

    Return:
            for result in await record_twilio(storage, websocket, call_id):
                print(result.key, result.partial)

    It does not check that Twilio has opened the WebSocket. Call
    `careflow_storage.integrations.twilio.verify_signature` before it, as above, with the URL of
    the TwiML byte for byte: without that, any client can store recordings.

    A stream that is cut off is stored as far as it has arrived: its results are ``partial``, and
    the reason is logged and stored as ``partial-reason``. So is one whose task is cancelled. A
    track without audio is not stored. The recordings are named ``inbound.ulaw`` and
    ``outbound.ulaw`` and have the type ``audio/basic``: mu-law without a header.
    docs/live-recordings.md makes WAV files of them.

    Args:
        call_id: Default: Twilio's call SID, from the start message.
        flush_interval: As for ``open_recording``.
        read_timeout: As for `twilio_media`.
        options: See `CommonOptions`; stored with each track.

    Raises:
        InvalidInputError: A message is not one of Twilio's. What arrived before it is stored as
            partial.
        RecordingCutOff: The stream was cut off, and what arrived could not be stored. See
            ``StorageError.kept_file``.
        StorageError: See ``open_recording``.
    """
    check_options("record_twilio", options)
    media = twilio_media(websocket, read_timeout=read_timeout)
    writers: dict[str, RecordingWriter] = {}
    try:
        async with AsyncExitStack() as stack:
            stream = await media.start()
            began = datetime.now(UTC)
            async for audio in media:
                if audio.data and audio.track not in writers:
                    writer = storage.open_recording(
                        stream.call_sid if call_id is None else call_id,
                        f"{audio.track}.ulaw",
                        content_type="audio/basic",
                        recorded_at=began,
                        on_error="keep",
                        flush_interval=flush_interval,
                        **options,
                    )
                    writers[audio.track] = await stack.enter_async_context(writer)
                if audio.data:
                    await writers[audio.track].write(audio.data)
            for writer in writers.values():
                # A track that cannot be stored does not make the other one partial.
                writer.finish()
    except RecordingCutOff as error:
        if not all(_is_stored(writer) for writer in writers.values()):
            raise
        logger.info(
            "A Twilio stream was cut off: %s", error, extra=log_fields("recording_cut_off", error)
        )
    return [writer.result for writer in writers.values()]


def _is_stored(writer: RecordingWriter) -> bool:
    try:
        return bool(writer.result)
    except StorageClosedError:
        return False


def _stream_of(start: Mapping[str, Any]) -> TwilioStream:
    encoding = start.get("mediaFormat", {}).get("encoding", _ENCODING)
    if encoding != _ENCODING:
        raise TypeError(f"the encoding is {encoding!r}")
    stream_sid, call_sid, tracks = start["streamSid"], start["callSid"], tuple(start["tracks"])
    parameters = dict((start.get("customParameters") or {}).items())
    texts = (stream_sid, call_sid, *tracks, *parameters.values())
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a SID, track or parameter is no text")
    return TwilioStream(stream_sid, call_sid, tracks, parameters)


def _audio_of(media: Mapping[str, Any]) -> TwilioAudio:
    track = media["track"]
    if track not in _TRACKS:
        raise ValueError(f"there is no track {track!r}")
    data = base64.b64decode(media["payload"], validate=True)
    return TwilioAudio(track, data, int(media.get("timestamp", 0)))
